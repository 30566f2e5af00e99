#pragma once
// The scheduler as the layers above use it: critical sections, parking, waking.
#include <weft/detail/config.h>

#include <atomic>
#include <cstdint>

#include "scheduler/task.h"
#include "scheduler/thread.h"
#include "scheduler/timers.h"

namespace weft::sched {

thread* slow_enter() noexcept;

// Entering the runtime: until leave(), the thread's P cannot be taken away. One store and one load;
// the full fence that the protocol needs is the monitor's membarrier.
// Returns the calling thread, which the caller must not keep across a switch.
inline thread* enter() noexcept {
  thread* t = self();
  t->crit.store(1, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (t->steal.load(std::memory_order_relaxed) != 0) [[unlikely]]
    return slow_enter();
  return t;
}

inline void leave(thread* t) noexcept {
  // [ord thread.crit] release: what was done to P-local data is seen by whoever retakes the P
  t->crit.store(0, std::memory_order_release);
}
inline void leave() noexcept { leave(self()); }

// RAII for enter/leave. Not recursive. The thread may differ between constructor and destructor.
class critical {
 public:
  critical() noexcept { enter(); }
  ~critical() { leave(); }
  critical(const critical&) = delete;
  critical& operator=(const critical&) = delete;
};

// Everything below is called inside a critical section.

// The calling task; a foreign thread's own record outside the scheduler's workers.
inline task* current_task(const thread* th) noexcept {
  return th->current.load(std::memory_order_relaxed);
}
inline task* current_task() noexcept { return current_task(self()); }

// Stops the calling task until ready(). `commit`, if given, runs once the task is off its stack and
// waiting, so it may release the lock that makes the task findable: unlocking and sleeping are one
// step. When it returns false the task goes on at once. `waits_on` is shown in dumps. `th` is the
// calling thread; returns the one on which the task goes on.
thread* park(thread* th, wait_reason reason, const void* waits_on, bool (*commit)(task*, void*),
             void* arg) noexcept;
inline void park(wait_reason reason, const void* waits_on, bool (*commit)(task*, void*),
                 void* arg) noexcept {
  park(self(), reason, waits_on, commit, arg);
}

// park() whose commit step is releasing a spinlock.
void park_unlock(wait_reason reason, const void* waits_on, base::spinlock& lock) noexcept;

// Makes a waiting task runnable; it will run soon on this processor (`next`: ahead of its queue) or
// on one that steals it. Each park is ended by exactly one ready; whoever won the right calls it.
// `th` is the calling thread.
void ready(thread* th, task* t, bool next = true) noexcept;
inline void ready(task* t, bool next = true) noexcept { ready(self(), t, next); }

// Starts a task that calls start(arg), where spawning is not possible: from a timer's function.
// `created_by` is shown as its place of creation.
void start_task(void (*start)(void* arg), void* arg, uintptr_t created_by) noexcept;
// One of the runtime's own, from any thread of it in a critical section.
void start_system_task(void (*start)(void* arg), void* arg, const char* name) noexcept;

// Sleeps until `when_ns`. A task parks; a foreign thread sleeps by itself, also while no run() is
// under way.
void sleep_until(int64_t when_ns) noexcept;

// Lets other tasks run; the caller goes to the tail of the local queue, now and then of the global
// one. `th` is the calling thread; returns the thread on which the task goes on.
thread* yield_now(thread* th) noexcept;
inline void yield_now() noexcept { yield_now(self()); }

// Lets the task that was just readied run now; the caller goes to the tail of the local queue.
void yield_to_next() noexcept;

// Whether busy-waiting for a lock may pay: the owner may be running on another processor and
// nothing else could run here. `round` counts the caller's attempts. Callable outside a critical
// section.
bool can_spin(int round) noexcept;

// Gives the processor up before a call that may block, without leaving the thread. Ends by itself
// at the next enter(). Called inside a critical section, which it ends.
void begin_blocking() noexcept;

// Locks the calling task to its thread and back; nests. Without effect on foreign threads.
void lock_thread() noexcept;
void unlock_thread() noexcept;

// Replaces the task's name (malloc'ed, or null), keeping readers that hold a claim or the task
// itself safe.
void set_task_name(task& t, char* name) noexcept;

// A pseudo-random number from the calling thread's own generator.
uint32_t next_random_number() noexcept;

// Calls visit for every task in use. `visit` gets a task that may change under its hands unless
// claimed.
void for_each_task(void (*visit)(task&, void*), void* arg);

// Tasks that exist, without the runtime's own and without foreign threads.
int64_t live_tasks() noexcept;

}  // namespace weft::sched
