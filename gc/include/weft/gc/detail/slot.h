#pragma once
// How a member says that it is one word which refers to an object: by its nested type weft_gc_slot.
#include <weft/detail/config.h>

namespace weft::gc::detail {

struct strong_slot {};
struct weak_slot {};

// The word there, which may belong to nobody yet.
WEFT_NO_SANITIZE inline void* word_at(void* p) noexcept {
  asm volatile("" : "+r"(p) : : "memory");
  return *static_cast<void**>(p);
}

}  // namespace weft::gc::detail
