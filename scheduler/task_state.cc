#include "scheduler/task_state.h"

namespace weft::sched {

const char* status_name(task_status s) noexcept {
  switch (s) {
    case task_status::free:
      return "dead";
    case task_status::runnable:
      return "runnable";
    case task_status::running:
      return "running";
    case task_status::blocking:
      return "syscall";
    case task_status::waiting:
      return "waiting";
  }
  return "?";
}

const char* reason_name(wait_reason r) noexcept {
  static constexpr const char* names[] = {
#define WEFT_WAIT_REASON(name, text) text,
#include "scheduler/wait_reasons.def"
#undef WEFT_WAIT_REASON
  };
  return names[static_cast<int>(r)];
}

}  // namespace weft::sched
