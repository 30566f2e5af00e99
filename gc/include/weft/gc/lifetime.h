#pragma once
// The end of an object: destructors, what runs after them, and the end of the heap.
//
// A type whose destructor does something may live on the collected heap. When the collector finds
// an object of it dead, the destructor runs on a task of the runtime's, a reaper, which may block;
// in no particular order, and never on a task that happens to allocate. Every ref and weak of the
// object is null by then, so that a destructor cannot touch what has died with it. A destructor
// that throws ends the process.
#include <weft/gc/detail/heap.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <tuple>
#include <type_traits>
#include <utility>

namespace weft::gc {

namespace detail {

bool destroy_now(const void* object) noexcept;
// What cleanup() leaves with an object, in traced memory; the closure follows.
struct alignas(16) cleanup_record {
  cleanup_record* next;
  void (*run)(cleanup_record*);  // also destroys the closure
};
// False if `object` is not in the heap.
bool add_cleanup(const void* object, cleanup_record* r) noexcept;

}  // namespace detail

// Runs p's destructor now, in the calling task, with all its references in place; afterwards they,
// and all weak references to the object, are null, and it will not be destroyed again. Its memory
// stays until nothing refers to it. False, and nothing happens, if that has been done before, if p
// is null or not in the collected heap, or if its type has no destructor. p may point into the
// middle; of an array all elements are destroyed. Nobody else may use the object meanwhile.
template <class T>
bool destroy(T* p) noexcept {
  return detail::destroy_now(const_cast<const std::remove_cv_t<T>*>(p));
}

// Calls fn(args...) on a reaper after the object that p points into has died and its destructor has
// returned. Copies of fn and args are kept until then, and what they refer to stays alive: if that
// is, directly or not, p's object, it never dies. Any number of cleanups may be added; they run in
// no particular order. One that throws ends the process. Throws std::invalid_argument if p is not
// in the collected heap or is itself among the args, std::bad_alloc, and what copying throws.
template <class T, class F, class... Args>
requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
void cleanup(T* p, F&& fn, Args&&... args) {
  struct record : detail::cleanup_record {
    std::decay_t<F> fn;
    std::tuple<std::decay_t<Args>...> args;
    record(F&& f, Args&&... a)
        : cleanup_record{nullptr, run_it}, fn(std::forward<F>(f)), args(std::forward<Args>(a)...) {}
    static void run_it(detail::cleanup_record* r) {
      auto* self = static_cast<record*>(r);
      std::apply(std::move(self->fn), std::move(self->args));
      std::destroy_at(self);
    }
  };
  static_assert(alignof(record) == 16, "gc::cleanup: fn and args must not be over-aligned");
  [[maybe_unused]] const auto is_object = [p](const auto& arg) {
    if constexpr (std::is_convertible_v<decltype(arg), const volatile void*>)
      return static_cast<const volatile void*>(arg) == static_cast<const volatile void*>(p);
    else
      return false;
  };
  if ((is_object(args) || ...))
    throw std::invalid_argument("gc::cleanup: the object is among the arguments and would not die");
  void* room = detail::allocate_traced(sizeof(record));
  record* r;
  try {
    r = ::new (room) record(std::forward<F>(fn), std::forward<Args>(args)...);
  } catch (...) {
    detail::free_traced(room);
    throw;
  }
  if (detail::add_cleanup(p, r)) return;
  std::destroy_at(r);
  detail::free_traced(room);
  throw std::invalid_argument("gc::cleanup: not an object of the collected heap");
}

// What has happened to objects with destructors, and to cleanups.
struct reaper_stats {
  uint64_t destroyed;         // objects whose destructors have returned
  uint64_t cleaned;           // cleanups that have returned
  uint64_t waiting;           // dead objects and cleanups that wait or are under way
  uint64_t reapers;           // tasks at it now
  uint64_t with_destructors;  // objects that will be destroyed when they die
};
reaper_stats reapers() noexcept;

// Collects and waits for destructors and cleanups until that ends no further object. Returns how
// many objects with destructors are still alive because something refers to them. For the end of a
// program whose destructors have to run: otherwise they do not when the process exits. Called by a
// task.
size_t shutdown();

}  // namespace weft::gc
