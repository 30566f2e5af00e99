// Retake: taking a processor from a thread that holds it without using the runtime.
//
// Whatever a task does outside the runtime (a busy loop, a blocking read, a page fault), its thread
// does not touch the processor then, and says so: crit is 0. The monitor may then give the
// processor to another thread; the task runs on without one and asks for one at its next call into
// the runtime.
//
// [R1] A thread whose crit is 1 and whose steal was 0 after setting it keeps its processor until it
//      clears crit. This is Dekker's protocol: the thread stores crit and loads steal, the monitor
//      stores steal and loads crit. The full fence between the thread's two steps is supplied by
//      the monitor: after membarrier(PRIVATE_EXPEDITED) every running thread has executed one. So
//      entering the runtime costs a plain store and load (0.4 ns; a locked instruction would cost
//      6).
//
// steal:   0 -> 1    monitor wants the processor        1 -> 0    refused by either side
//          1 -> 2    monitor takes it                   2 -> 3    taken; thread->p is null
//          0 -> 3    the thread gave it up (begin_blocking)
//          3 -> 0    the thread looks for another
// No signal is involved, so no system call of the user's sees EINTR. Without membarrier (Linux
// before 4.14, some sandboxes) hogs keep their processor; this is logged once at start.
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>

#include "scheduler/fork.h"
#include "scheduler/park.h"
#include "scheduler/scheduler.h"

namespace weft::sched {
namespace {

enum steal_word : int { keep = 0, wanted = 1, taking = 2, gone = 3 };

bool register_membarrier() noexcept {
  return ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

// The thread's task runs without a processor: get one, or queue the task and let the thread sleep.
thread* reacquire(thread* th) noexcept {
  th->steal.store(keep, std::memory_order_relaxed);
  th->declared_blocking.store(false, std::memory_order_relaxed);
  task* me = th->current.load(std::memory_order_relaxed);
  g_sched.lock.lock();
  processor* p =
      g_sched.stop_requested.load(std::memory_order_relaxed) ? nullptr : take_idle_processor();
  g_sched.lock.unlock();
  if (p != nullptr) {
    acquire(th, p);
    change_state(*me, task_status::blocking, task_status::running);
    return th;
  }
  th->after.what = after_switch::op::requeue;
  th->after.prev = me;
  th->current.store(nullptr, std::memory_order_relaxed);
  th = switch_context(th, me->ctx, th->sched_ctx, false);
  finish_switch(th);
  return th;
}

}  // namespace

bool retake_available() noexcept {
  static const bool available = register_membarrier();
  return available;
}

thread* slow_enter() noexcept {
  refuse_in_forked_child();
  thread* th = self();
  if (th == &g_unattached) {
    attach_foreign("foreign");
    th = self();
    th->crit.store(1, std::memory_order_relaxed);
    return th;
  }
  for (;;) {
    // [ord thread.steal] acquire: after `gone`, the monitor's change of the task's state is visible
    int s = th->steal.load(std::memory_order_acquire);
    if (s == keep) return th;
    if (s == wanted && th->steal.compare_exchange_strong(s, keep)) return th;
    if (s == gone) {
      return reacquire(th);
    }
    base::cpu_relax();
  }
}

void begin_blocking() noexcept {
  thread* th = self();
  if (th->foreign) {
    leave();
    return;
  }
  change_state(*th->current.load(std::memory_order_relaxed), task_status::running,
               task_status::blocking);
  th->declared_blocking.store(true, std::memory_order_relaxed);
  processor* p = release(th);
  // A monitor that set `wanted` meanwhile finds crit == 1 and fails to set it back: it gives up.
  th->steal.store(gone, std::memory_order_release);
  hand_off(p);
  leave();
}

bool retake(processor* p, uint32_t seen_tick) noexcept {
  // One at a time (the monitor and stop_world may meet here): with two, one could take for its own
  // a `wanted` of the other's, set after it had passed its barrier and looked at crit.
  static base::spinlock retaking;
  if (!retaking.try_lock()) return false;
  std::lock_guard hold(retaking, std::adopt_lock);
  thread* th = p->owner.load(std::memory_order_acquire);
  if (th == nullptr) return false;
  int expected = keep;
  if (!th->steal.compare_exchange_strong(expected, wanted)) return false;
  ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
  expected = wanted;
  if (th->crit.load(std::memory_order_acquire) != 0 || th->p.load(std::memory_order_relaxed) != p ||
      p->tick.load(std::memory_order_relaxed) != seen_tick) {
    th->steal.compare_exchange_strong(expected, keep);
    return false;
  }
  if (!th->steal.compare_exchange_strong(expected, taking)) return false;
  change_state(*th->current.load(std::memory_order_relaxed), task_status::running,
               task_status::blocking);
  release(th);
  th->steal.store(gone, std::memory_order_release);  // [ord thread.steal]
  return true;
}

}  // namespace weft::sched
