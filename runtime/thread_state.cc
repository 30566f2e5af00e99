// What a C library keeps per thread, for code in tasks.
#include <weft/errno.h>
#include <weft/fenv.h>

#include <cerrno>

#include "base/check.h"
#include "scheduler/thread.h"

namespace weft {

WEFT_OPAQUE int get_errno() noexcept {
  asm volatile("");
  return errno;
}

WEFT_OPAQUE void set_errno(int value) noexcept {
  asm volatile("");
  errno = value;
}

fenv_guard::fenv_guard() noexcept : thread_(sched::self_or_null()) { std::fegetenv(&saved_); }

fenv_guard::~fenv_guard() {
  if (thread_ != nullptr && thread_ != sched::self_or_null())
    base::fatal(
        "weft::fenv_guard: the task waited inside the guarded scope and moved to another "
        "thread");
  std::fesetenv(&saved_);
}

}  // namespace weft
