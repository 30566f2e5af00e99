#pragma once
// How a member says that it is one word which refers to an object: by its nested type weft_gc_slot.
#include <weft/detail/config.h>

namespace weft::gc {

// Whether chan<T> keeps its buffered values where the collector looks for references. True for
// ref<T>, atomic_ref<T> and weak<T>; specialize it for classes of yours that hold some:
//
//   template <> inline constexpr bool weft::gc::buffered_refs<request> = true;
template <class T>
inline constexpr bool buffered_refs = requires {
  typename T::weft_gc_slot;
};

}  // namespace weft::gc

namespace weft::gc::detail {

struct strong_slot {};

// The word there, which may belong to nobody yet.
WEFT_NO_SANITIZE inline void* word_at(void* p) noexcept {
  asm volatile("" : "+r"(p) : : "memory");
  return *static_cast<void**>(p);
}

}  // namespace weft::gc::detail
