// Tasks that are locked to a thread.
//
// A locked task runs on its thread only, and the thread runs nothing else. So a processor that
// comes to the task must come to its thread:
//   - the thread's task gives way: the thread hands its processor off and sleeps, off the list of
//     spares, until somebody brings a processor together with the task (await_locked_task);
//   - another thread takes the task from a queue: it brings its own processor to the task's thread
//     and becomes a spare (bring_processor).
// The queues know nothing of it: a locked task is queued, stolen and woken like any other.
//
// [L1] Between the task's leaving its stack and its next run its thread has no processor for longer
//      than it takes to hand it off; whoever brings one found the task in a queue, so nobody else
//      brings another. next_p is written by that bringer alone, and read after park_word.
// tests/model/locked_model.cc explores it together with retake and begin_blocking.
//
// Rejected: keeping the processor while the task is gone for a short time, in the hope that it
// comes back: the thread would have to watch queues that others fill.
#include "base/check.h"
#include "base/futex.h"
#include "scheduler/park.h"
#include "scheduler/scheduler.h"

namespace weft::sched {

void lock_thread() noexcept {
  thread* th = self();
  if (th->foreign) return;  // it stands for itself
  if (th->lock_depth == UINT32_MAX) base::fatal("lock_os_thread nested too deep");
  if (++th->lock_depth > 1) return;
  task* me = th->current.load(std::memory_order_relaxed);
  th->locked_task = me;
  me->own_thread = th;
  me->locked_to_thread = true;
}

void unlock_thread() noexcept {
  thread* th = self();
  if (th->lock_depth == 0 || --th->lock_depth > 0) return;
  task* me = th->locked_task;
  me->locked_to_thread = false;
  me->own_thread = nullptr;
  th->locked_task = nullptr;
}

task* await_locked_task(thread* th) noexcept {
  if (th->p.load(std::memory_order_relaxed) != nullptr) hand_off(release(th));
  while (th->park_word.load(std::memory_order_acquire) == 0)  // [ord thread.handover]
    base::futex_wait(th->park_word, 0, -1);
  th->park_word.store(0, std::memory_order_relaxed);
  acquire(th, th->next_p);
  th->next_p = nullptr;
  return th->locked_task;
}

void bring_processor(thread* th, task* t) noexcept {
  thread* owner = t->own_thread;
  owner->next_p = release(th);
  // [ord thread.handover] release: publishes next_p and the processor's contents
  owner->park_word.store(1, std::memory_order_release);
  base::futex_wake(owner->park_word, 1);
}

}  // namespace weft::sched
