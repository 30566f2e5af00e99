// Work is counted in bytes scanned, as in Go: those of the collector, those of tasks that help, and
// those of objects allocated while marking is on, which will have to be scanned in the next cycle.
//
// Credit   What the collector scans pays the debts of tasks first; only what it does not keep up
//          with is scanned by the tasks. A task that owes more than it can scan at once carries the
//          rest on.
// Limit    The memory that counts is what the kernel says is resident and not from a file: the
// heap,
//          its tables, stacks, malloc's memory, whatever is mapped. Nothing has to be declared, and
//          memory that was given back does not count.
#include "gc/pacing.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>
#include <weft/gc/gc.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "base/clock.h"
#include "gc/cpu_limiter.h"
#include "gc/heap.h"
#include "gc/pacer.h"
#include "gc/page_heap.h"
#include "gc/stacks.h"
#include "gc/unstopped.h"
#include "scheduler/runtime_control.h"

namespace weft::gc {
namespace {

constexpr int64_t poll_ns = 10'000'000;
constexpr int64_t quiet_poll_ns = 100'000'000;  // where nothing is allocated
constexpr int64_t default_thrash_window_ns = 60'000'000'000;

// Guards the four below, and the settings. Held with the world stopped, too: who is a task takes it
// in a critical section.
base::spinlock g_lock;
pacer g_pacer;
cpu_limiter g_limiter(0, 1);
thrash_watch g_thrash(default_thrash_window_ns);
thrash_hook g_thrash_hook = nullptr;

std::atomic<int64_t> g_limit{INT64_MAX};
std::atomic<uint64_t> g_goal{0};
std::atomic<double> g_work_per_byte{0};
std::atomic<uint64_t> g_hard_limit{no_goal};
std::atomic<bool> g_limiting{false};
std::atomic<int64_t> g_credit{0};         // scanned by the collector, not yet used
std::atomic<int64_t> g_task_work{0};      // scanned by tasks in this cycle
std::atomic<int64_t> g_task_ns{0};        // in this cycle
std::atomic<int64_t> g_all_task_ns{0};    // ever
std::atomic<int64_t> g_unreported_ns{0};  // of tasks, for the limiter

// The collector's.
uint64_t g_credited = 0;
int64_t g_mark_began = 0, g_mark_cpu = 0, g_mark_cpu_began = 0;
double g_scannable = 1;             // share of the bytes alive that were scanned in the last cycle
std::atomic<uint64_t> g_stacks{0};  // bytes of stack that the last cycle scanned
int64_t g_process_cpu = 0, g_limiter_cpu = 0, g_collector_cpu = 0, g_cycle_task_ns = 0;
uint64_t g_allocated_at_poll = 0;

int64_t process_cpu_ns() noexcept {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

int processors() noexcept { return std::max(1, sched::current_max_procs()); }

memory_use use_now() noexcept {
  if (g_limit.load(std::memory_order_relaxed) == INT64_MAX) return {};
  const uint64_t allocated = g_counters.allocated.load(std::memory_order_relaxed);
  const uint64_t freed = g_counters.freed.load(std::memory_order_relaxed);
  return {resident_anonymous_bytes(), page_counters().free_bytes,
          allocated > freed ? allocated - freed : 0};
}

// g_lock held.
void publish() noexcept {
  g_goal.store(g_pacer.goal(), std::memory_order_relaxed);
  if (g_pacer.triggered() == no_goal)
    g_counters.trigger.store(g_pacer.trigger(), std::memory_order_relaxed);
}

void settings_changed(const memory_use& use) noexcept {
  g_pacer.set_memory_use(use);
  g_pacer.commit(g_counters.live.load(std::memory_order_relaxed), true);
  publish();
}

// g_lock held. Time that no processor worked is what was there less what was used.
void update_limiter(int64_t now) noexcept {
  const int64_t cpu = process_cpu_ns();
  const int64_t used = cpu - std::exchange(g_limiter_cpu, cpu);
  g_limiter.add_assist(g_unreported_ns.exchange(0, std::memory_order_relaxed));
  g_limiter.add_idle(std::max<int64_t>(0, g_limiter.window(now) - used));
  g_limiter.update(now);
  g_limiting.store(g_limiter.limiting(), std::memory_order_relaxed);
}

void report_thrashing(double share) noexcept {
  std::fprintf(stderr,
               "weft: the collector has used %.0f %% of the CPU time for a while: the live heap is "
               "too close to its goal or to the memory limit\n",
               share * 100);
}

}  // namespace

uint64_t resident_anonymous_bytes() noexcept {
  static const int fd = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  static const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  char text[128];
  const ssize_t n = fd < 0 ? -1 : ::pread(fd, text, sizeof text, 0);
  if (n <= 0) return 0;
  uint64_t fields[3] = {};
  const char* at = text;
  for (uint64_t& f : fields) {
    while (at < text + n && *at == ' ') ++at;
    at = std::from_chars(at, text + n, f).ptr;
  }
  return fields[1] > fields[2] ? (fields[1] - fields[2]) * page : 0;
}

uint64_t last_scanned_stack_bytes() noexcept { return g_stacks.load(std::memory_order_relaxed); }

void start_pacing(int percent, int64_t limit) noexcept {
  std::lock_guard hold(g_lock);
  g_limit.store(limit, std::memory_order_relaxed);
  g_pacer.set_percent(percent);
  g_pacer.set_memory_limit(static_cast<uint64_t>(limit == INT64_MAX ? -1 : limit));
  g_limiter.restart(base::true_now_ns(), processors());
  g_limiter_cpu = g_process_cpu = process_cpu_ns();
  settings_changed(use_now());
}

int set_pacing_percent(int percent) noexcept {
  unstopped here;
  std::lock_guard hold(g_lock);
  const int before = g_pacer.percent();
  g_pacer.set_percent(percent);
  settings_changed(use_now());
  return before;
}

int pacing_percent() noexcept {
  unstopped here;
  std::lock_guard hold(g_lock);
  return g_pacer.percent();
}

int64_t set_pacing_limit(int64_t bytes) noexcept {
  unstopped here;
  std::lock_guard hold(g_lock);
  const int64_t before = g_limit.exchange(bytes, std::memory_order_relaxed);
  g_pacer.set_memory_limit(bytes == INT64_MAX ? no_goal : static_cast<uint64_t>(bytes));
  settings_changed(use_now());
  return before;
}

int64_t pacing_limit() noexcept { return g_limit.load(std::memory_order_relaxed); }
uint64_t heap_goal() noexcept { return g_goal.load(std::memory_order_relaxed); }

void pacing_pause_begins() noexcept {
  std::lock_guard hold(g_lock);
  update_limiter(base::true_now_ns());
}

void pacing_pause_ends(bool marking_follows) noexcept {
  const int64_t now = base::true_now_ns();
  std::lock_guard hold(g_lock);
  g_limiter.pause_ends(now);
  g_limiter.pause_begins(marking_follows, now);  // only the flag: no time has passed
  g_limiter_cpu = process_cpu_ns();
}

void pacing_cycle_begins() noexcept {
  for (mutator* m = g_mutators.load(std::memory_order_acquire); m != nullptr; m = m->all_next)
    m->assist_credit = 0;
  g_credit.store(0, std::memory_order_relaxed);
  g_task_work.store(0, std::memory_order_relaxed);
  g_task_ns.store(0, std::memory_order_relaxed);
  g_credited = 0;
  g_mark_began = base::true_now_ns();
  g_mark_cpu_began = g_mark_cpu = -1;
  const uint64_t live = g_counters.live.load(std::memory_order_relaxed);
  std::lock_guard hold(g_lock);
  g_pacer.start_cycle({live, static_cast<uint64_t>(static_cast<double>(live) * g_scannable),
                       2 * g_stacks + (64 << 10), 0});
  g_goal.store(g_pacer.goal(), std::memory_order_relaxed);
  g_hard_limit.store(g_pacer.hard_limit(), std::memory_order_relaxed);
  g_work_per_byte.store(g_pacer.assist_work_per_byte(), std::memory_order_relaxed);
}

void pacing_progress(uint64_t scanned, int64_t cpu) noexcept {
  if (g_mark_cpu_began < 0) g_mark_cpu_began = cpu;
  g_mark_cpu = cpu;
  g_credit.fetch_add(static_cast<int64_t>(scanned - std::exchange(g_credited, scanned)),
                     std::memory_order_relaxed);
  const auto tasks = static_cast<uint64_t>(g_task_work.load(std::memory_order_relaxed));
  const uint64_t stacks = std::min<uint64_t>(scanned_stack_bytes(), scanned + tasks);
  const uint64_t live = g_counters.live.load(std::memory_order_relaxed);
  const int64_t now = base::true_now_ns();
  std::lock_guard hold(g_lock);
  const uint64_t began = std::min(g_pacer.triggered(), live);
  const auto fresh = static_cast<uint64_t>(static_cast<double>(live - began) * g_scannable);
  g_pacer.revise({live, static_cast<uint64_t>(static_cast<double>(live) * g_scannable),
                  scanned + tasks - stacks + fresh, stacks, 0});
  g_goal.store(g_pacer.goal(), std::memory_order_relaxed);
  g_hard_limit.store(g_pacer.hard_limit(), std::memory_order_relaxed);
  g_work_per_byte.store(g_pacer.assist_work_per_byte(), std::memory_order_relaxed);
  if (g_limiter.needs_update(now)) update_limiter(now);
}

void pacing_cycle_ends(uint64_t marked) noexcept {
  g_work_per_byte.store(0, std::memory_order_relaxed);
  const int64_t duration = std::max<int64_t>(base::true_now_ns() - g_mark_began, 1);
  const int n = processors();
  const int64_t assist = g_task_ns.load(std::memory_order_relaxed);
  g_cycle_task_ns = assist;
  g_stacks = scanned_stack_bytes();
  // The collector's thread is not bound to its quarter; what it had beyond that the processors had
  // to spare.
  const auto quarter = static_cast<int64_t>(static_cast<double>(duration * n) * background_share);
  const int64_t beyond = std::max<int64_t>(0, g_mark_cpu - g_mark_cpu_began - quarter);
  const auto scanned = static_cast<double>(
      g_credited + static_cast<uint64_t>(g_task_work.load(std::memory_order_relaxed)));
  std::lock_guard hold(g_lock);
  const uint64_t live = g_counters.live.load(std::memory_order_relaxed);
  const uint64_t allocated = live > g_pacer.triggered() ? live - g_pacer.triggered() : 0;
  const auto old = static_cast<double>(marked > allocated ? marked - allocated : 0);
  if (old > 0) g_scannable = std::clamp(scanned / old, 0.01, 1.0);
  g_pacer.end_cycle({marked, duration, assist, beyond, n});
  g_pacer.commit(marked, false);
  publish();
}

cycle_cost pacing_swept(int64_t collector_cpu) noexcept {
  const int64_t process = process_cpu_ns();
  const cycle_cost cost{collector_cpu - std::exchange(g_collector_cpu, collector_cpu),
                        g_cycle_task_ns, process - std::exchange(g_process_cpu, process)};
  const int64_t now = base::true_now_ns();
  const memory_use use = use_now();
  bool thrashing = false;
  thrash_hook hook = nullptr;
  {
    std::lock_guard hold(g_lock);
    if (const int n = processors(); n != g_limiter.processors()) g_limiter.set_processors(n, now);
    g_pacer.set_memory_use(use);
    g_pacer.commit(g_counters.live.load(std::memory_order_relaxed), true);
    publish();
    thrashing = g_thrash.cycle_ended(now, cost.collector_ns + cost.assist_ns, cost.process_ns);
    hook = g_thrash_hook;
  }
  if (thrashing) {
    const double share = static_cast<double>(cost.collector_ns + cost.assist_ns) /
                         static_cast<double>(cost.process_ns);
    hook != nullptr ? hook(share) : report_thrashing(share);
  }
  // Near the limit free pages are worth more to others.
  const auto limit = static_cast<uint64_t>(g_limit.load(std::memory_order_relaxed));
  if (limit != INT64_MAX && use.total > limit - limit / 20)
    return_free_pages(use.total - (limit - limit / 20));
  return cost;
}

int64_t pacing_nap() noexcept {
  if (g_limit.load(std::memory_order_relaxed) == INT64_MAX) return INT64_MAX;
  const uint64_t allocated = g_counters.allocated.load(std::memory_order_relaxed);
  return std::exchange(g_allocated_at_poll, allocated) == allocated ? quiet_poll_ns : poll_ns;
}

bool pacing_poll() noexcept {
  if (g_limit.load(std::memory_order_relaxed) == INT64_MAX) return false;
  const memory_use use = use_now();
  std::lock_guard hold(g_lock);
  settings_changed(use);
  return g_counters.live.load(std::memory_order_relaxed) >=
             g_counters.trigger.load(std::memory_order_relaxed) &&
         g_counters.live.load(std::memory_order_relaxed) > g_pacer.marked();
}

void owe(mutator& m, size_t bytes) noexcept {
  m.assist_credit -= static_cast<int64_t>(static_cast<double>(bytes) *
                                          g_work_per_byte.load(std::memory_order_relaxed));
}

int64_t debt(mutator& m) noexcept {
  if (m.assist_credit >= 0) return 0;
  if (g_limiting.load(std::memory_order_relaxed)) return 0;
  int64_t there = g_credit.load(std::memory_order_relaxed);
  while (there > 0) {
    const int64_t take = std::min(there, -m.assist_credit);
    if (!g_credit.compare_exchange_weak(there, there - take, std::memory_order_relaxed)) continue;
    m.assist_credit += take;
    break;
  }
  return -m.assist_credit;
}

void pay(mutator& m, int64_t bytes, int64_t ns) noexcept {
  m.assist_credit += bytes;
  g_task_work.fetch_add(bytes, std::memory_order_relaxed);
  g_task_ns.fetch_add(ns, std::memory_order_relaxed);
  g_all_task_ns.fetch_add(ns, std::memory_order_relaxed);
  g_unreported_ns.fetch_add(ns, std::memory_order_relaxed);
}

uint64_t assist_time_ns() noexcept {
  return static_cast<uint64_t>(g_all_task_ns.load(std::memory_order_relaxed));
}

bool over_hard_limit() noexcept {
  return g_counters.live.load(std::memory_order_relaxed) >=
             g_hard_limit.load(std::memory_order_relaxed) &&
         !g_limiting.load(std::memory_order_relaxed);
}

void lock_pacing() noexcept { g_lock.lock(); }
void unlock_pacing() noexcept { g_lock.unlock(); }

thrash_hook set_thrash_hook(thrash_hook hook, std::chrono::nanoseconds window) {
  unstopped here;
  std::lock_guard hold(g_lock);
  g_thrash.set_window(window.count());
  return std::exchange(g_thrash_hook, hook);
}

}  // namespace weft::gc
