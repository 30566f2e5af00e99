// The monitor: one thread without a processor that keeps the others honest.
//
// Every 20 microseconds to 2 milliseconds while anything runs (asleep while nothing does, but for
// the timers of a stopped world) it refreshes the coarse clock, polls descriptors that nobody has
// looked at for a while, calls for help when work sits on a processor that does not switch, and
// retakes processors held for a slice (10 ms) while others wait. Once a second it looks whether the
// machine still grants as many CPUs.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/clock.h"
#include "base/futex.h"
#include "scheduler/deadlock.h"
#include "scheduler/directed.h"
#include "scheduler/park.h"
#include "scheduler/queues.h"
#include "scheduler/runtime_control.h"
#include "scheduler/scheduler.h"
#include "scheduler/service_thread.h"

namespace weft::sched {
namespace {

constexpr int64_t shortest_sleep_ns = 20'000;
constexpr int64_t longest_sleep_ns = 2'000'000;
constexpr int64_t unattended_poll_ns = 2'000'000;
constexpr int64_t machine_check_ns = 1'000'000'000;
constexpr int idle_rounds_before_backoff = 50;

// A fifth of a slice, so that one ends at most a fifth too late.
int64_t longest_sleep() noexcept {
  return std::clamp(slice() / 5, shortest_sleep_ns, longest_sleep_ns);
}

bool work_waits_for(const processor* p, int64_t now) noexcept {
  return has_local_work(p) || p->timers.earliest() <= now ||
         g_sched.global_size.load(std::memory_order_relaxed) > 0;
}

// True if it did something, so that the next look should come soon.
bool poll_if_unattended(int64_t now) noexcept {
  int64_t last = g_sched.last_poll_ns.load(std::memory_order_relaxed);
  if (last == 0 || now - last < unattended_poll_ns) return false;
  poller* io = g_sched.io.load(std::memory_order_acquire);
  if (!io->has_waiters()) return false;
  task_list list;
  g_sched.last_poll_ns.compare_exchange_strong(last, now, std::memory_order_relaxed);
  io->poll(0, list);
  if (list.empty()) return false;
  global_push_list(list);
  wake_one();
  return true;
}

bool look_at(processor* p, int64_t now) noexcept {
  if (p->status.load(std::memory_order_relaxed) != processor_status::running) {
    // An idle processor's timers are the polling thread's business, unless nobody polls.
    if (p->timers.earliest() <= now && g_sched.last_poll_ns.load(std::memory_order_relaxed) != 0)
      wake_one();
    return false;
  }
  uint32_t tick = p->tick.load(std::memory_order_relaxed);
  if (tick != p->seen_tick) {
    p->seen_tick = tick;
    p->seen_at_ns = now;
    return false;
  }
  if (!work_waits_for(p, now)) return false;
  if (g_sched.idle_procs.load(std::memory_order_relaxed) > 0) wake_one();
  if (now - p->seen_at_ns < g_sched.slice_ns.load(std::memory_order_relaxed) || !retake(p, tick))
    return false;
  p->seen_at_ns = now;
  hand_off(p);
  return true;
}

// Between two runs, and before the first, no thread with a processor looks at the timers, but
// threads that are no tasks wait with time limits all the same. Returns how long nothing is due.
int64_t run_timers_while_stopped() noexcept {
  if (!g_sched.stop_requested.load(std::memory_order_seq_cst)) return -1;
  // The fake clock of a deterministic test may be on still, or again, and is far in the future.
  int64_t now = base::true_now_ns();
  int n = g_sched.max_procs.load(std::memory_order_relaxed);
  for (int i = 0; i < n; ++i) run_due_timers(g_sched.processors[i], now);
  int64_t when = earliest_timer();
  if (when == never_ns) return -1;
  return when > now ? when - now : 0;
}

void sleep_while_idle() noexcept {
  int64_t pause = 0;
  for (;;) {
    g_sched.monitor_word.store(1, std::memory_order_seq_cst);
    // acquire() counts first and reads monitor_word then: one of the two sees the other. So do
    // timer_added() and stop() with the timers and stop_requested.
    if (g_sched.running_procs.load(std::memory_order_seq_cst) != 0) break;
    int64_t timeout = run_timers_while_stopped();
    if (timeout < 0) timeout = pause = check_deadlock(pause);
    if (g_sched.monitor_word.load(std::memory_order_relaxed) == 1)
      base::futex_wait(g_sched.monitor_word, 1, timeout);
  }
  g_sched.monitor_word.store(0, std::memory_order_relaxed);
}

void monitor_main(void*) {
  auto* th = new thread;
  th->foreign = true;
  th->role = "monitor";
  th->service.store(true, std::memory_order_relaxed);
  th->crit.store(1, std::memory_order_relaxed);
  register_thread(th);
  int quiet = 0;
  int64_t sleep_ns = shortest_sleep_ns;
  int64_t machine_checked_at = 0;
  for (;;) {
    if (g_sched.running_procs.load(std::memory_order_seq_cst) == 0) {
      sleep_while_idle();
      quiet = 0;
    }
    sleep_ns = quiet < idle_rounds_before_backoff ? shortest_sleep_ns : sleep_ns * 2;
    if (sleep_ns > longest_sleep()) sleep_ns = longest_sleep();
    timespec pause{0, sleep_ns};
    ::nanosleep(&pause, nullptr);
    if (directed()) {
      watch_directed();
      ++quiet;
      continue;
    }
    const int64_t now = base::true_now_ns();
    if (directed()) continue;  // it began meanwhile, and the coarse clock is its own
    base::g_coarse_ns.store(now, std::memory_order_relaxed);
    bool acted = poll_if_unattended(now);
    int n = g_sched.max_procs.load(std::memory_order_relaxed);
    for (int i = 0; i < n; ++i) acted |= look_at(g_sched.processors[i], now);
    quiet = acted ? 0 : quiet + 1;
    if (now - machine_checked_at > machine_check_ns) {
      machine_checked_at = now;
      follow_machine_now();
    }
  }
}

}  // namespace

int64_t slice() noexcept { return g_sched.slice_ns.load(std::memory_order_relaxed); }
void set_slice(int64_t ns) noexcept { g_sched.slice_ns.store(ns, std::memory_order_relaxed); }
uint64_t retakes() noexcept { return g_sched.retakes.load(std::memory_order_relaxed); }

void wake_monitor() noexcept {
  if (g_sched.monitor_word.exchange(0, std::memory_order_seq_cst) != 0)
    base::futex_wake(g_sched.monitor_word, 1);
}

void start_monitor() noexcept {
  prepare_retake();
  const int error = start_service_thread("weft-monitor", monitor_main);
  if (error != 0) base::fatalf("cannot start the monitor thread: %s", std::strerror(error));
}

}  // namespace weft::sched
