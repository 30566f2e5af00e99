#pragma once
// WEFT_DEBUG=lockpark, as the switch calls it. lockpark.cc has the design.
#include <atomic>
#include <cstdint>

#include "scheduler/task_state.h"

namespace weft::sched {

struct task;

extern std::atomic<bool> g_lockpark;  // set once, when the scheduler starts

// A task is about to leave its stack: sets the thread's count of pthread mutexes to 0, reports the
// task if it was more, and returns what it was. `stays_alive`: it will come back and give it to
// lockpark_resume() on the thread it then runs on.
int lockpark_leave(task& me, bool stays_alive, wait_reason reason) noexcept;
void lockpark_resume(int held) noexcept;

}  // namespace weft::sched
