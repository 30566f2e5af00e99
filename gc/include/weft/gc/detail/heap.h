#pragma once
// What the templates of gc.h, ref.h and root.h call. Not for programs.
#include <weft/gc/detail/type_info.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <typeinfo>

namespace weft::gc::detail {

// One object, or n in a row, of storage that is zero where references may be. Throw std::bad_alloc
// when a collection has not made room. Any thread.
void* allocate(const type_info& t);
void* allocate_array(const type_info& t, size_t n);
[[noreturn]] void throw_out_of_memory(size_t bytes);

// Elements of the array that this points into; 0 if it is no array of the heap.
size_t array_length(const void* elements) noexcept;

// Types with a destructor: it runs when the object dies only if it is armed, which make() does
// after the constructor has returned. disarm() tells whether it was.
void arm(void* object) noexcept;
bool disarm(void* object) noexcept;

bool is_heap_address(const void* p) noexcept;

// Not 0 while marking is on: every store that overwrites a reference in a traced place then shades
// what it has overwritten.
extern std::atomic<uint32_t> marking;
void shade(const void* overwritten) noexcept;

// To be called after a reference in a traced place has been overwritten. The order matters: the
// store first, then this (gc/heap.cc, [G1]).
inline void overwritten(const void* old) noexcept {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (marking.load(std::memory_order_relaxed) != 0) [[unlikely]]
    shade(old);
}

// A reference is made or stored there: ends the process with the type and the offset if the
// collector does not look at that place. `pointer` is the type of T* for a ref<T>.
extern std::atomic<bool> places_are_watched;
void check_place(const void* place, const std::type_info& pointer) noexcept;
// In debug builds; a reference without a referent does no harm yet, but will.
template <class T>
inline void watch_place([[maybe_unused]] const void* place) noexcept {
#ifndef NDEBUG
  if (places_are_watched.load(std::memory_order_relaxed)) check_place(place, typeid(T*));
#endif
}
// A reference to `fresh` is made while marking is on: counts it if the collector does not look
// there. Returns the word that it replaces.
void* made_while_marking(const void* place, const void* fresh) noexcept;

// As overwritten(), for stores that have both at hand: in paranoid mode what is stored is shaded,
// too.
void stored(const void* old, const void* fresh) noexcept;
inline void overwritten(const void* old, const void* fresh) noexcept {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (marking.load(std::memory_order_relaxed) != 0) [[unlikely]]
    stored(old, fresh);
}

// In debug builds under WEFT_GC_STRESS=store: the same steps with waits between them, so that stops
// by signal fall there. True if it has stored.
extern std::atomic<bool> stores_are_stressed;
void store_slowly(void* place, void* fresh) noexcept;
template <class T>
inline bool stressed_store([[maybe_unused]] T** place, [[maybe_unused]] T* fresh) noexcept {
#ifndef NDEBUG
  if (stores_are_stressed.load(std::memory_order_relaxed)) {
    store_slowly(place, const_cast<std::remove_cv_t<T>*>(fresh));
    return true;
  }
#endif
  return false;
}

// Traced words outside the heap: a slot is a root from new_root() until delete_root(), which both
// tell what they overwrite. Any thread.
std::atomic<void*>* new_root(void* p);
void delete_root(std::atomic<void*>* slot) noexcept;

// Memory like malloc's that is scanned word by word: for channels, join results, std containers of
// references. Zero. Throws std::bad_alloc.
void* allocate_traced(size_t bytes);
void free_traced(void* p) noexcept;

// A word of static storage that becomes a root for the process's life.
void add_global(std::atomic<void*>* word, std::atomic<bool>* added) noexcept;

}  // namespace weft::gc::detail
