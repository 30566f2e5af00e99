#pragma once
// The garbage-collected heap: objects that live as long as something refers to them.
//
//   struct node {
//     weft::gc::ref<node> left, right;
//   };
//   weft::run([] {
//     node* tree = weft::gc::make<node>();
//     tree->left = weft::gc::make<node>();
//     weft::gc::collect();  // the tree stays: this stack refers to it
//   });
//
// Found are: raw pointers on the stacks and in the registers of tasks and of threads that use the
// runtime, also to the middle of an object; ref members of objects (ref.h); roots and globals
// (root.h). Not found are pointers in memory of malloc, in static or thread-local variables, and in
// exceptions that are being thrown: there a root is needed. Code inside weft::blocking() must not
// load references of its own; its arguments are found.
#include <weft/gc/detail/heap.h>
#include <weft/gc/fields.h>
#include <weft/gc/ref.h>
#include <weft/gc/root.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

namespace weft::gc {

// Makes a T on the collected heap. Its address never changes. If T has a destructor that does
// something, it runs on a task of the collector's some time after the object has died, or never, if
// the process ends before. Throws what the constructor throws, and std::bad_alloc when a collection
// has not made room. Any task or thread; does not block.
template <class T, class... Args>
T* make(Args&&... args) {
  const detail::type_info& type = detail::type_of<T>();
  T* p;
  if constexpr (std::is_constructible_v<T, Args...>)
    p = ::new (detail::allocate(type)) T(std::forward<Args>(args)...);
  else  // an aggregate, where the compiler does not take parentheses for it
    p = ::new (detail::allocate(type)) T{std::forward<Args>(args)...};
  if constexpr (!std::is_trivially_destructible_v<T>) {
    if (type.destroy != nullptr) detail::arm(p);
  }
  return p;
}

// Makes n value-initialized Ts in a row; n may be 0. The result converts to std::span. A pointer to
// any element, or past the last, keeps all of them alive.
template <class T>
T* make_array(size_t n) {
  const detail::type_info& type = detail::type_of<T>();
  T* p = static_cast<T*>(detail::allocate_array(type, n));
  for (size_t i = 0; i < n; ++i) ::new (static_cast<void*>(p + i)) T();
  if constexpr (!std::is_trivially_destructible_v<T>) {
    if (type.destroy != nullptr) detail::arm(p);
  }
  return p;
}

// Elements of an array made by make_array().
template <class T>
size_t array_size(const T* elements) noexcept {
  return detail::array_length(elements);
}

// A full cycle, from the beginning: whatever was unreachable before the call is free when it
// returns, its memory ready for reuse; destructors may still be running. The calling task waits.
// Concurrent calls share cycles.
void collect();

// How many percent the heap may grow over what was live after the last cycle before the next
// begins; negative: only collect() and the memory limit start cycles. Default: 100, or WEFT_GC.
// Returns the value before. Throws std::invalid_argument for 0 and for more than 1000000.
int set_percent(int percent);

// Bytes near which the heap is collected more often, whatever the percentage; INT64_MAX: no limit.
// Counts the heap, task stacks and the ordinary heap. Never makes an allocation fail. Returns the
// value before; a negative argument changes nothing.
int64_t set_memory_limit(int64_t bytes);

// Collects, and gives all free memory back to the system.
void free_os_memory();

// Called when collecting has taken at least half of the CPU time for a whole window, and again
// after every further window of that kind: the heap is too close to its limit for the program to
// make progress. `share`: of the last cycle. Null: a line on standard error. Runs on the
// collector's thread, which must not wait for a collection. Returns the hook before; the window is
// a minute at first.
using thrash_hook = void (*)(double share);
thrash_hook set_thrash_hook(thrash_hook hook, std::chrono::nanoseconds window);

// p's object is alive at least until here, although the compiler may see no use of it.
template <class T>
inline void keep(const T* p) noexcept {
  asm volatile("" : : "r"(p) : "memory");
}

// Counters of the collector. All bytes are of slots, so a little more than was asked for.
struct heap_stats {
  uint64_t cycles;           // that have ended, sweeping included
  uint64_t forced_cycles;    // of which by collect() and the like
  uint64_t allocated_bytes;  // ever
  uint64_t allocated_objects;
  uint64_t freed_bytes;  // ever
  uint64_t freed_objects;
  uint64_t live_bytes;         // marked by the last cycle, and allocated since
  uint64_t marked_bytes;       // by the last cycle
  uint64_t goal_bytes;         // where the heap should have been collected; UINT64_MAX: nowhere
  uint64_t trigger_bytes;      // the next cycle begins when live_bytes reaches this
  uint64_t heap_in_use_bytes;  // pages with objects
  uint64_t heap_free_bytes;    // pages without, not given back
  uint64_t heap_returned_bytes;
  uint64_t pause_total_ns;    // both pauses of all cycles
  uint64_t last_pause_ns[2];  // start and end of the last cycle
  uint64_t gc_cpu_ns;         // of marking and sweeping on the collector's thread
  uint64_t assist_ns;         // for which allocating tasks have helped to mark
  uint64_t assist_waits;  // of tasks for the end of marking, because the heap had outgrown its goal
  uint64_t assist_wait_ns;  // and how long they took; "GC assist wait" in dumps and profiles
  uint64_t stop_retries;    // stops that had to be tried again
  int percent;              // as set_percent() and set_memory_limit() or WEFT_GC set it
  int64_t memory_limit;
};
// All 0 before the first object.
heap_stats stats() noexcept;

}  // namespace weft::gc
