#pragma once
// How a member says that it is one word which refers to an object: by its nested type weft_gc_slot.
#include <weft/detail/config.h>

namespace weft::gc {

// Whether chan<T> keeps its buffered values, and a task its result of type T, where the collector
// looks for references. True for
// every T of which can be told that it holds some (detail/refers.h, which comes with ref.h);
// specialize it for classes of yours that hide them:
//
//   template <> inline constexpr bool weft::gc::buffered_refs<request> = true;
template <class T>
inline constexpr bool buffered_refs = false;

}  // namespace weft::gc

namespace weft::gc::detail {

struct strong_slot {};

// Whether a T in memory of malloc would hold references that keep nothing alive: what task-locals
// and values of contexts must not be. Told by detail/refers.h.
template <class T>
inline constexpr bool needs_root = false;

// The word there, which may belong to nobody yet.
WEFT_NO_SANITIZE inline void* word_at(void* p) noexcept {
  asm volatile("" : "+r"(p) : : "memory");
  return *static_cast<void**>(p);
}

}  // namespace weft::gc::detail
