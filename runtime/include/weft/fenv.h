#pragma once
// The floating-point environment (rounding mode, masked exceptions) in tasks. It belongs to the
// thread: a switch between tasks does not save it, because almost nobody changes it.
#include <cfenv>

namespace weft {

// Restores the environment at the end of the scope, whatever was changed in it:
//
//   weft::fenv_guard restore;
//   std::fesetround(FE_UPWARD);
//   ...                          // nothing that may wait, nor weft::this_task::yield
//
// A task that waits inside the scope would leave its environment to other tasks and go on without
// it. Where that can be seen, because the task has moved to another thread, the process ends with a
// report.
class fenv_guard {
 public:
  fenv_guard() noexcept;
  ~fenv_guard();
  fenv_guard(const fenv_guard&) = delete;

 private:
  std::fenv_t saved_;
  const void* thread_;
};

}  // namespace weft
