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
//          4         a deterministic test runs (directed.cc); nothing is retaken
//          0 -> 5    the world stops (world_stop.cc)      5 -> 0    seen, or the world goes on
// A thread that finds `wanted` when it enters refuses, and yields in its own time: a task that
// calls the runtime all the time gives way as well. Nothing but work that waits makes a slice end:
// a processor with empty queues is left to its holder, as in Go.
//
// No signal is involved, so no system call of the user's sees EINTR. Where membarrier is missing
// (Linux before 4.14, seccomp filters) the thread's fence is executed by a signal handler on that
// very thread, and the rest of the protocol is the same: the monitor waits for the handler's answer
// where it waited for membarrier. Then a user's sleep or poll may see EINTR; this is logged once.
// Rejected: a handler that gives the processor up itself. It would be a second protocol, with
// another set of states and the check of crit on the other side.
//
// tests/model/retake_model.cc explores both.
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>
#include <utility>

#include "base/check.h"
#include "scheduler/directed.h"
#include "scheduler/fork.h"
#include "scheduler/park.h"
#include "scheduler/scheduler.h"
#include "scheduler/thread_signal.h"
#include "scheduler/wait_watch.h"
#include "scheduler/world_stop.h"

namespace weft::sched {
namespace {

enum steal_word : int { keep = 0, wanted = 1, taking = 2, gone = 3 };

constexpr int64_t signal_patience_ns = 10'000'000;

std::atomic<bool> g_membarrier{false};

void fall_back_to_signals() noexcept {
  g_membarrier.store(false, std::memory_order_relaxed);
  install_thread_signal();
  base::log_line(
      "membarrier(2) is not available (Linux before 4.14, or a seccomp filter): processors are "
      "taken back with SIGURG; a task that sleeps or polls outside the runtime may see EINTR");
}

// Lets th, which may be executing anything, pass a full fence now.
bool fence_on(thread& th) noexcept {
  if (g_membarrier.load(std::memory_order_relaxed)) {
    if (::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0) return true;
    fall_back_to_signals();  // a filter was installed meanwhile
  }
  return fence_by_signal(th, signal_patience_ns, [](const thread& t) {
    return t.steal.load(std::memory_order_relaxed) == wanted;
  });
}

// A stay outside the runtime without a processor, for who watches waits. Both ends are rare enough
// for a look at the clock.
struct blocked_time {
  int64_t from_ns = 0;
  int64_t to_ns = 0;
  int64_t cpu_ns = -1;  // -1: nobody watched when it began
};

void begin_blocked_time(thread& th, int64_t (*cpu_time)(const thread&)) noexcept {
  if (!all_causes_wanted()) return;
  base::now_refresh();
  th.blocked_cpu_ns.store(cpu_time(th), std::memory_order_relaxed);
}

blocked_time end_blocked_time(thread& th, const task& me) noexcept {
  const int64_t before = th.blocked_cpu_ns.exchange(-1, std::memory_order_relaxed);
  if (before < 0 || !all_causes_wanted()) return {};
  const int64_t from = me.since_ns.load(std::memory_order_relaxed);
  return {from, base::now_refresh(), thread_cpu_ns() - before};
}

void tell(task& me, const blocked_time& b) noexcept {
  if (b.cpu_ns >= 0) back_from_blocking(me, b.from_ns, b.to_ns, b.cpu_ns);
}

// The thread's task runs without a processor: get one, or queue the task and let the thread sleep.
thread* reacquire(thread* th) noexcept {
  th->steal.store(keep, std::memory_order_relaxed);
  th->declared_blocking.store(false, std::memory_order_relaxed);
  if (th->rests.load(std::memory_order_relaxed)) end_rest(th);
  task* me = th->current.load(std::memory_order_relaxed);
  const blocked_time blocked = end_blocked_time(*th, *me);
  g_sched.lock.lock();
  processor* p =
      g_sched.stop_requested.load(std::memory_order_relaxed) ? nullptr : take_idle_processor();
  g_sched.lock.unlock();
  if (p != nullptr) {
    acquire(th, p);
    change_state(*me, task_status::blocking, task_status::running);
    tell(*me, blocked);
    return th;
  }
  // The task's, not the thread's: it is sent where the task next waits.
  gathered_output* gathered = std::exchange(th->gathered, nullptr);
  th->after.what = after_switch::op::requeue;
  th->after.prev = me;
  th->current.store(nullptr, std::memory_order_release);  // [ord world.stopped]
  th = switch_context(th, me->ctx, th->sched_ctx, false);
  finish_switch(th);
  th->gathered = gathered;
  tell(*me, blocked);
  return th;
}

}  // namespace

void prepare_retake() noexcept {
  register_fences();
  if (!g_membarrier.load(std::memory_order_relaxed)) fall_back_to_signals();
}

void register_fences() noexcept {
  if (::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0)
    g_membarrier.store(true, std::memory_order_relaxed);
}

void fence_all_threads() noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (g_membarrier.load(std::memory_order_relaxed) &&
      ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0)
    return;
  for_each_thread(
      [](thread* th, void*) {
        fence_by_signal(*th, signal_patience_ns, [](const thread&) { return true; });
      },
      nullptr);
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
    if ((g_gate.load(std::memory_order_relaxed) & gate_stop) != 0) stop_here(th);
    // [ord thread.steal] acquire: after `gone`, the monitor's change of the task's state is visible
    int s = th->steal.load(std::memory_order_acquire);
    if (s == keep) return th;
    if (s == steal_directed) return directed_point(th);
    if (s == wanted && th->steal.compare_exchange_strong(s, keep)) {
      const processor* p = th->p.load(std::memory_order_relaxed);
      if (p != nullptr && p->tick.load(std::memory_order_relaxed) ==
                              th->wanted_tick.load(std::memory_order_relaxed))
        return yield_preempted(th);
      return th;
    }
    if (s == gone) return reacquire(th);
    if (s == steal_stop) {
      th->steal.compare_exchange_strong(s, keep, std::memory_order_relaxed);
      continue;
    }
    base::cpu_relax();
  }
}

void begin_blocking() noexcept {
  thread* th = self();
  if (th->gathered != nullptr) [[unlikely]]
    send_gathered(th);
  if (th->foreign) {
    leave();
    return;
  }
  begin_blocked_time(*th, [](const thread&) { return thread_cpu_ns(); });
  change_state(*th->current.load(std::memory_order_relaxed), task_status::running,
               task_status::blocking);
  th->declared_blocking.store(true, std::memory_order_relaxed);
  begin_rest(th);
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
  th->wanted_tick.store(seen_tick, std::memory_order_relaxed);
  int expected = keep;
  if (!th->steal.compare_exchange_strong(expected, wanted)) return false;
  bool passed = fence_on(*th);
  expected = wanted;
  if (!passed || th->crit.load(std::memory_order_acquire) != 0 ||
      th->p.load(std::memory_order_relaxed) != p ||
      p->tick.load(std::memory_order_relaxed) != seen_tick) {
    th->steal.compare_exchange_strong(expected, keep);
    return false;
  }
  if (!th->steal.compare_exchange_strong(expected, taking)) return false;
  begin_blocked_time(*th, [](const thread& of) { return thread_cpu_ns(of.tid); });
  change_state(*th->current.load(std::memory_order_relaxed), task_status::running,
               task_status::blocking);
  release(th);
  th->steal.store(gone, std::memory_order_release);  // [ord thread.steal]
  g_sched.retakes.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace weft::sched
