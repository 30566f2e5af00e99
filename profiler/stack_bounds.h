#pragma once
// Which memory an unwind may read, for tasks and threads.
#include "profiler/unwind.h"
#include "scheduler/task.h"
#include "scheduler/thread.h"

namespace weft::prof {

inline stack_range task_stack_range(const sched::task& t) noexcept {
  return {reinterpret_cast<uintptr_t>(t.stk->lo), reinterpret_cast<uintptr_t>(t.stk->hi)};
}

// The stack that `rsp` points into: the task's, or the thread's own. Async-signal-safe.
inline stack_range range_for(const sched::thread& th, const sched::task* t,
                             uintptr_t rsp) noexcept {
  if (t != nullptr && t->stk != nullptr) {
    stack_range r = task_stack_range(*t);
    if (rsp >= r.lo && rsp < r.hi) return r;
  }
  // In the middle of a switch rsp may already be another task's: then nothing but the leaf is safe.
  if (rsp < th.stack_lo || rsp >= th.stack_hi) return {rsp, rsp};
  return {th.stack_lo, th.stack_hi};
}

// The calling thread's own stack when the runtime does not know the thread. Reads /proc or thread
// attributes: not for signal handlers.
stack_range unknown_thread_range();

}  // namespace weft::prof
