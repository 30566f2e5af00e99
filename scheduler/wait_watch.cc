#include "scheduler/wait_watch.h"

#include <time.h>

#include <algorithm>
#include <mutex>

#include "base/check.h"
#include "base/spinlock.h"
#include "scheduler/instant.h"
#include "scheduler/task.h"

namespace weft::sched {

std::atomic<uint64_t> g_exact_waits{0};
std::atomic<int64_t> g_wait_grid{0};
std::atomic<uint64_t> g_watched_switches{0};
std::atomic<uint64_t> g_watched_wakes{0};

namespace {

std::atomic<away_sink> g_sink{nullptr};
base::spinlock g_lock;
bool g_every_switch = false, g_every_wake = false;  // under g_lock

void set_watched() noexcept {
  const uint64_t exact = g_exact_waits.load(std::memory_order_relaxed);
  g_watched_switches.store(g_every_switch ? ~uint64_t{0} : exact, std::memory_order_release);
  g_watched_wakes.store(g_every_wake ? ~uint64_t{0} : exact, std::memory_order_relaxed);
}

// [ord wait.sink] acquire: what the sink reads was written before it was set
[[gnu::cold, gnu::noinline]] void tell(task& me, const time_away& t) noexcept {
  const away_sink sink = g_sink.load(std::memory_order_acquire);
  const bool fake = base::g_fake_ns.load(std::memory_order_relaxed) != 0;
  // A time that began or ended on the fake clock is no time.
  if (sink != nullptr && !fake && t.left_ns <= t.ready_ns && t.ready_ns <= t.back_ns) sink(me, t);
}

int64_t read_clock(clockid_t clock) noexcept {
  timespec ts;
  if (::clock_gettime(clock, &ts) != 0) return -1;
  return int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec;
}

}  // namespace

void watch_waits(away_sink sink, uint64_t exact, int64_t grid_ns) noexcept {
  WEFT_CHECK(grid_ns >= 0 && (grid_ns & (grid_ns - 1)) == 0);
  std::lock_guard hold(g_lock);
  g_sink.store(sink, std::memory_order_release);  // [ord wait.sink]
  g_exact_waits.store(exact, std::memory_order_relaxed);
  g_wait_grid.store(grid_ns != 0 ? ~(grid_ns - 1) : 0, std::memory_order_relaxed);
  set_watched();
}

void watch_every_switch() noexcept {
  std::lock_guard hold(g_lock);
  g_every_switch = true;
  set_watched();
}

void watch_every_wake(bool on) noexcept {
  std::lock_guard hold(g_lock);
  g_every_wake = on;
  set_watched();
}

[[gnu::cold, gnu::noinline]] int64_t watched_wake_ns(task& t, task_status from,
                                                     wait_reason r) noexcept {
  instant_transition(t, from, r);
  return exact_wanted(r) ? base::now_ns() : base::coarse_ns();
}

void back_from(task& me, time_away::cause why, wait_reason reason, bool exact,
               int64_t left_ns) noexcept {
  const int64_t back = exact ? base::now_ns() : base::coarse_ns();
  // The state door's stamp; that of giving way is the moment of leaving, read a little later.
  const int64_t ready =
      why == time_away::cause::gave_way
          ? left_ns
          : std::clamp(me.since_ns.load(std::memory_order_relaxed), std::min(left_ns, back), back);
  tell(me, {why, reason, exact, left_ns, ready, back});
}

void back_from_first_queue(task& me) noexcept {
  const int64_t made = me.since_ns.load(std::memory_order_relaxed);
  if (exact_wanted(wait_reason::none)) [[unlikely]]
    back_from(me, time_away::cause::first_run, wait_reason::none, true, made);
  else if (grid_passed(made, base::coarse_ns())) [[unlikely]]
    back_from(me, time_away::cause::first_run, wait_reason::none, false, made);
}

void foreign_back_from(task& me, wait_reason reason, int64_t left_ns) noexcept {
  if (left_ns == 0) return;
  const int64_t back = base::now_ns();
  time_away t{time_away::cause::parked, reason, true, left_ns, back, back};
  if (exact_wanted(reason)) tell(me, t);
  t.exact = false;
  if (grid_passed(left_ns, back)) tell(me, t);
}

void back_from_blocking(task& me, int64_t left_ns, int64_t ready_ns, int64_t cpu_ns) noexcept {
  const bool exact = exact_wanted(wait_reason::none);
  const int64_t back = exact ? base::now_ns() : base::coarse_ns();
  if (!exact && !grid_passed(left_ns, back)) return;
  tell(me, {time_away::cause::blocking_call, wait_reason::none, exact, left_ns, ready_ns,
            std::max(ready_ns, back), cpu_ns});
}

int64_t thread_cpu_ns() noexcept { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

// As pthread_getcpuclockid(), which asks for a pthread_t; the encoding is the kernel's ABI.
int64_t thread_cpu_ns(int tid) noexcept {
  constexpr unsigned per_thread_cpu_time = 6;
  return read_clock(static_cast<clockid_t>(~static_cast<unsigned>(tid) << 3 | per_thread_cpu_time));
}

}  // namespace weft::sched
