#pragma once
// errno in code that may wait. Every task has its own value, but the compiler may take errno's
// address once per function, and after a wait the task may run on another thread, where that
// address is wrong. A function that reads or writes errno before and after something that may wait
// must do so through these. weft's own calls report errors by exceptions and results, never by
// errno.
#include <weft/detail/config.h>

namespace weft {

WEFT_OPAQUE int get_errno() noexcept;
WEFT_OPAQUE void set_errno(int value) noexcept;

}  // namespace weft
