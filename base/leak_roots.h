#pragma once
// Memory that the runtime maps itself and that keeps pointers to the ordinary heap: a leak checker
// does not look there unasked.
#include <weft/detail/config.h>

#include <cstddef>

#if WEFT_ASAN
#include <sanitizer/lsan_interface.h>
#endif

namespace weft::base {

// For memory that stays mapped. Nothing without a leak checker.
inline void keeps_pointers([[maybe_unused]] const void* p, [[maybe_unused]] size_t bytes) noexcept {
#if WEFT_ASAN
  __lsan_register_root_region(p, bytes);
#endif
}

}  // namespace weft::base
