#pragma once
// Who owns a task, and how that changes. tests/unit/scheduler/task_state_test.cc reads the table
// below and compares it with legal().
#include <cstdint>

namespace weft::sched {

enum class task_status : uint8_t {
  free,      // on a free list of records; nobody's
  runnable,  // on exactly one run queue; whoever pops it owns it. Without a stack until its first
             // run.
  running,   // current on one thread that holds a P; that thread owns it and its stack
  blocking,  // executing on a thread whose P was released or retaken; the thread owns it
  waiting,   // off its stack, listed by whoever will wake it; the wait reason is valid
};

// FROM     -> TO         cause
//  free     -> runnable   spawn
//  free     -> running    a foreign thread attaches
//  runnable -> running    picked by a scheduler
//  running  -> runnable   yield, or sent to the global queue
//  running  -> waiting    park, once the task is off its stack
//  running  -> blocking   the P was given up (blocking) or retaken (monitor)
//  running  -> free       body ended, or a foreign thread detaches
//  blocking -> running    a P was free on return
//  blocking -> runnable   no P was free on return
//  waiting  -> runnable   ready
//  waiting  -> running    a foreign thread's own wait ended
constexpr bool legal(task_status from, task_status to) {
  using enum task_status;
  switch (from) {
    case free:
      return to == runnable || to == running;
    case runnable:
      return to == running;
    case running:
      return to == runnable || to == waiting || to == blocking || to == free;
    case blocking:
      return to == running || to == runnable;
    case waiting:
      return to == runnable || to == running;
  }
  return false;
}

enum class wait_reason : uint8_t {
#define WEFT_WAIT_REASON(name, text) name,
#include "scheduler/wait_reasons.def"
#undef WEFT_WAIT_REASON
};

const char* status_name(
    task_status s) noexcept;  // "runnable", "running", "syscall", "waiting", "dead"
const char* reason_name(wait_reason r) noexcept;  // "chan receive", …

}  // namespace weft::sched
