#pragma once
// The floating-point environment (rounding mode, masked exceptions) in tasks. It belongs to the
// thread: a switch between tasks does not save it, because almost nobody changes it.
#include <cfenv>

namespace weft {

// Restores the environment at the end of the scope, whatever was changed in it:
//
//   weft::fenv_guard restore;
//   std::fesetround(FE_UPWARD);
//
// Any call into weft may let other tasks run, so the task is locked to its thread for the scope (as
// by lock_os_thread): no other task sees the environment, and the task finds it after every wait.
// Waiting inside the scope is allowed, but costs a change of threads each time.
class fenv_guard {
 public:
  fenv_guard() noexcept;
  ~fenv_guard();
  fenv_guard(const fenv_guard&) = delete;

 private:
  std::fenv_t saved_;
  bool locked_;
};

}  // namespace weft
