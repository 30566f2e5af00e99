#pragma once
// One instant of the whole program: a layer above sees each task in the state and with the stack
// that it had then, while the tasks go on. instant.cc has the protocol.
#include <atomic>
#include <cstdint>

#include "scheduler/task.h"
#include "scheduler/thread.h"

namespace weft::sched {

// What is known of a task record while an instant is open.
struct instant_note {
  // The port's: what it has captured. Not null: there is nothing to capture any more.
  std::atomic<void*> capture;
  // Of a task that waited at the instant and has been woken since; valid once its state says
  // `runnable`. wait_reason::none: it has not been woken.
  std::atomic<int64_t> since_ns;
  std::atomic<wait_reason> waited_for;
};
// instant_note::capture of a task that is younger than the instant, or that the opener has taken
// care of.
inline void* const instant_settled = reinterpret_cast<void*>(1);

// Called with nothing held, and only for notes without a capture; has to store one before it
// returns. May take microseconds; must not park, allocate or lock. The runtime's own tasks are not
// shown, nor the tasks that stand for foreign threads.
struct instant_port {
  // The calling thread executes `t`, its current task. It has stopped for the instant, or goes on
  // after a rest (world_stop.h) that has lasted since. `ucontext` is that of the signal that
  // stopped it; null: what `t` does is to be seen from this call outwards. Possibly in a signal
  // handler.
  void (*executing)(thread& th, task& t, void* ucontext, instant_note& note) noexcept = nullptr;
  // `t` does not execute, and is about to for the first time since the instant. Others may have a
  // claim on it.
  void (*parked)(thread& th, task& t, instant_note& note) noexcept = nullptr;
};

// Makes an instant: stops all code for the tens of microseconds that it takes until the executing
// tasks have been shown to the port. From then until close_instant() every task of that instant is
// shown before it executes again. False, and nothing is open: some thread did not stop within
// `patience_ns` (world_stop.h), what the port has got is void; or there is no memory. At most one
// instant is open at a time. Normal threads and tasks; not from a critical section.
bool open_instant(const instant_port& port, int64_t patience_ns, int64_t& at_ns) noexcept;
// Returns when no thread is inside the port any more.
void close_instant() noexcept;

// For the opener, and inside the port: null for a record that is younger than the instant.
instant_note* instant_note_of(const task& t) noexcept;

// The scheduler's side.
void instant_stopped(thread& th, void* ucontext) noexcept;  // world_stop.cc, before it acknowledges
void instant_before_run(thread& th, task& t) noexcept;      // the gate
void instant_before_return(thread& th) noexcept;            // the end of a rest
// The state door: `t` leaves `from` (free or waiting) and becomes runnable.
void instant_transition(task& t, task_status from, wait_reason waited_for) noexcept;

}  // namespace weft::sched
