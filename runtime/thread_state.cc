// What a C library keeps per thread, for code in tasks.
#include <weft/errno.h>
#include <weft/fenv.h>
#include <weft/task.h>

#include <cerrno>

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

fenv_guard::fenv_guard() noexcept : locked_(sched::self_or_null() != nullptr) {
  if (locked_) lock_os_thread();
  std::fegetenv(&saved_);
}

fenv_guard::~fenv_guard() {
  std::fesetenv(&saved_);
  if (locked_) unlock_os_thread();
}

}  // namespace weft
