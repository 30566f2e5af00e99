#pragma once
// References that do not keep an object alive.
//
//   struct entry { weft::gc::weak<document> text; };
//   if (document* d = e->text.lock()) read(*d);  // alive until this stack forgets d
//   else e->text = load_again();
//
// A weak is traced itself, as a ref is: it belongs into objects of the collected heap and onto
// stacks. In other memory it has to be reached through a root.
#include <weft/gc/detail/slot.h>
#include <weft/gc/ref.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace weft::gc {

namespace detail {

// What all weak references to one address share, an object of the heap; 0 once the target has died.
// Turned over, because the address of the target must not be taken for a reference to it.
struct weak_cell {
  uintptr_t target_inverted;
  uintptr_t unused;
};
// Finds or makes it. Throws std::bad_alloc, and std::invalid_argument if p is not in the heap.
weak_cell* weak_cell_of(void* p);
void* lock_weak(const weak_cell* c) noexcept;

}  // namespace detail

// One word. Null as soon as the collector has found the target dead: before its destructor runs,
// and before its memory is used again. Different tasks may lock one weak at the same time; changing
// it follows the rules of ref.
template <class T>
class weak {
 public:
  using weft_gc_slot = detail::strong_slot;  // to the cell
  using element_type = T;

  constexpr weak() noexcept = default;
  constexpr weak(std::nullptr_t) noexcept {}
  // Throws std::bad_alloc, and std::invalid_argument if p does not point into an object of the
  // collected heap.
  weak(T* p) : cell_(cell_for(p)) {}
  weak(const ref<T>& r) : weak(r.get()) {}

  weak& operator=(T* p) {
    cell_ = cell_for(p);
    return *this;
  }
  weak& operator=(const ref<T>& r) { return *this = r.get(); }
  void reset() noexcept { cell_ = nullptr; }

  // The target, which the caller's stack keeps alive from now on, or null. Does not block.
  T* lock() const noexcept {
    const detail::weak_cell* c = cell_.get();
    return c != nullptr ? static_cast<T*>(detail::lock_weak(c)) : nullptr;
  }
  // A hint where the answer is no: another moment's lock() may say otherwise.
  bool expired() const noexcept { return lock() == nullptr; }

  // Whether they were made from the same address, also after it has died.
  friend bool operator==(const weak& a, const weak& b) noexcept { return a.cell_ == b.cell_; }

 private:
  static detail::weak_cell* cell_for(T* p) {
    return detail::weak_cell_of(const_cast<std::remove_cv_t<T>*>(p));
  }
  ref<detail::weak_cell> cell_;
};

}  // namespace weft::gc
