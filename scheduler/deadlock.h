#pragma once
// Telling that all tasks are asleep for ever. deadlock.cc has the argument.
#include <cstdint>

#include "scheduler/thread.h"

namespace weft::sched {

// While one exists on an OS thread, that thread is the runtime's own: it never wakes a task by
// itself (the debug server, signal waiters, profile collectors, the thread that waits in
// weft::run).
class service_thread {
 public:
  service_thread() noexcept;
  ~service_thread();
  service_thread(const service_thread&) = delete;

 private:
  bool outermost_;
};

// Whether the calling thread is one.
bool is_service_thread() noexcept;

// The main task has begun or ended. Without a main task nothing is a deadlock: the process is about
// to end, or weft::run has not been called.
void set_main_task_running(bool running) noexcept;

// Around the sleep of a foreign thread inside a primitive.
class foreign_sleep {
 public:
  explicit foreign_sleep(thread* th) noexcept;
  ~foreign_sleep();
  foreign_sleep(const foreign_sleep&) = delete;

 private:
  thread* th_;
};

enum class outlook : uint8_t {
  open,          // something can still happen; whatever it is will run the monitor again
  only_unknown,  // nothing can but for OS threads that the runtime does not know
  asleep,        // no task can ever run again
};

// Any thread, best one that holds no processor.
outlook look_ahead() noexcept;

// The monitor, when no processor runs: ends the process if all tasks are asleep. Returns how long
// to sleep before looking again although nothing has run; negative: no need to.
int64_t check_deadlock(int64_t last_pause_ns) noexcept;

}  // namespace weft::sched
