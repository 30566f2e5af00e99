// The trimmer: one thread of low priority in spirit, which returns memory that stacks do not use.
//
// Parked   A task that has waited for a second gets the pages below its stack pointer taken away,
//          once per wait. They may hold what an earlier, deeper call left; nobody knows without
//          asking the kernel, because the stack pointer is only seen at switches. mincore over the
//          64 KiB below it costs 0.5 us and answers for nearly all tasks; only where a page is
//          there is anything dropped. Never at the park itself: a task that runs again soon would
//          pay twice.
// Unused   A free stack that nobody took for a whole period becomes cold (stack.h). Processors'
//          caches come back to the pools first: an idle processor's at once, a busy one's when it
//          sees that the epoch has changed.
// Safety   [T1] A parked task's stack is touched only under the task's claim bit, so it cannot run,
//          be captured, scanned or dumped meanwhile; the claim is held for one system call of at
//          most 16 ranges. A task that stands for a thread has no stack here, and one in a blocking
//          call cannot be claimed.
// CPU      A period lasts a second, or longer: 100 times the CPU time that the last walk over the
//          tasks took.
// While
//          memory is being returned it may use a quarter of a core. When no task has switched since
//          two passes ago and nothing is left over, it looks at the switch counters only, every
//          8 seconds at the rarest.
#include <algorithm>
#include <cstring>
#include <ctime>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "scheduler/directed.h"
#include "scheduler/park.h"
#include "scheduler/scheduler.h"
#include "scheduler/service_thread.h"
#include "scheduler/stack_memory.h"

namespace weft::sched {

std::atomic<uint32_t> g_stack_epoch{0};
std::atomic<int64_t> g_trim_period_ns{1'000'000'000};

namespace {

constexpr int64_t second_ns = 1'000'000'000;
// Short, because the kernel may have put the thread on a core where a task works.
constexpr int64_t round_budget_ns = 500'000;
constexpr int64_t between_rounds_ns = 1'500'000;
constexpr int longest_period = 8;       // periods
constexpr uint8_t longest_backoff = 4;  // 16 periods
constexpr size_t red_zone = 128;
constexpr uintptr_t page = 4096;

// Also what counts as waiting for long.
int64_t period_ns() noexcept { return g_trim_period_ns.load(std::memory_order_relaxed); }

int64_t cpu_ns() noexcept {
  timespec t;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return int64_t{t.tv_sec} * second_ns + t.tv_nsec;
}

page_range unused_part(const task& t) noexcept {
  auto sp = (reinterpret_cast<uintptr_t>(t.ctx.sp) - red_zone) & ~(page - 1);
  char* hi = t.stk->lo + (sp - reinterpret_cast<uintptr_t>(t.stk->lo));
  return {t.stk->lo, hi > t.stk->lo ? hi : t.stk->lo};
}

class trimmer {
 public:
  // One round of bounded length. True: there is more to do right now.
  bool round() noexcept {
    const int64_t end = cpu_ns() + round_budget_ns;
    if (!in_pass_) begin_pass();
    bool more_cold = false;
    do {
      more_cold = cool_once();
    } while (more_cold && cpu_ns() < end);
    if (!more_cold) {
      const int64_t start = cpu_ns();
      walk(end);
      walk_cpu_ns_ += cpu_ns() - start;
    }
    return more_cold || in_pass_;
  }

  // CPU time of the last pass's walk.
  int64_t walk_cpu_ns() const noexcept { return walk_cpu_ns_; }

  // Whether anything may have changed since the passes that found nothing left.
  bool worth_a_pass() noexcept {
    if (directed()) return false;  // tasks are stamped with the fake clock
    uint64_t now = switches();
    if (now != seen_switches_ || left_over_) quiet_passes_ = 0;
    seen_switches_ = now;
    return quiet_passes_ < 2;
  }

 private:
  void begin_pass() noexcept {
    in_pass_ = true;
    left_over_ = false;
    cursor_ = 0;
    walk_cpu_ns_ = 0;
    ++quiet_passes_;
    for (int c = 0; c < stack_classes; ++c) begin_cooling(static_cast<stack_class>(c));
    g_stack_epoch.fetch_add(1, std::memory_order_relaxed);
    collect_idle_caches();
  }

  static uint64_t switches() noexcept {
    uint64_t sum = 0;
    for (const std::atomic<processor*>& slot : g_sched.processors) {
      const processor* p = slot.load(std::memory_order_acquire);
      if (p == nullptr) break;
      sum += p->tick.load(std::memory_order_relaxed);
    }
    return sum;
  }

  void collect_idle_caches() noexcept {
    for (const std::atomic<processor*>& slot : g_sched.processors) {
      processor* p = slot.load(std::memory_order_acquire);
      if (p == nullptr) break;
      uint32_t tick = p->tick.load(std::memory_order_relaxed);
      p->trimmer_saw_no_switch = tick == p->trimmer_seen_tick;
      p->trimmer_seen_tick = tick;
      if (!p->trimmer_saw_no_switch) left_over_ = true;
    }
    while (release_one_idle_cache()) left_over_ = true;  // unused in the pool at the next pass
  }

  // A processor on the idle list belongs to whoever holds the lock. Its status would not do: one
  // that was just taken off the list is still called idle.
  static bool release_one_idle_cache() noexcept {
    stack* taken[stack_classes] = {};
    bool any = false;
    {
      std::lock_guard hold(g_sched.lock);
      for (processor* p = g_sched.idle_processors; p != nullptr && !any; p = p->idle_next) {
        if (!p->trimmer_saw_no_switch) continue;
        for (int c = 0; c < stack_classes; ++c) {
          taken[c] = std::exchange(p->free_stacks[c], nullptr);
          p->free_stack_count[c].store(0, std::memory_order_relaxed);
          any |= taken[c] != nullptr;
        }
      }
    }
    for (stack* chain : taken) release_stacks(chain);
    return any;
  }

  static bool cool_once() noexcept {
    bool any_more = false;
    for (int c = 0; c < stack_classes; ++c) {
      bool more = false;
      cool_free_stacks(static_cast<stack_class>(c), 64, more);
      any_more |= more;
    }
    return any_more;
  }

  void walk(int64_t end) noexcept {
    const int64_t now = base::true_now_ns();
    const size_t n = task_record_count();
    for (; cursor_ < n; ++cursor_) {
      if (cursor_ % 64 == 0 && cpu_ns() > end) break;
      look_at(task_record(cursor_), now);
    }
    drop_found();
    if (cursor_ >= n) in_pass_ = false;
  }

  void look_at(task& t, int64_t now) noexcept {
    if (status_of(t.state.load(std::memory_order_relaxed)) != task_status::waiting) return;
    int64_t since = t.since_ns.load(std::memory_order_relaxed);
    if (now - since < period_ns()) {
      left_over_ = true;
      return;
    }
    uint32_t word;
    if (!claim(t, word)) {
      left_over_ = true;
      return;
    }
    since = t.since_ns.load(std::memory_order_relaxed);
    if (status_of(word) == task_status::waiting && now - since >= period_ns() && t.stk != nullptr &&
        t.stk->trimmed_since != since) {
      stack& s = *t.stk;
      page_range r = unused_part(t);
      if (now < s.next_trim_ns) {
        left_over_ = true;
      } else if (const size_t bytes = resident_below(r.lo, r.hi); bytes > 0) {
        found_[found_count_++] = {&t, since, bytes};
      } else {
        s.trimmed_since = since;
        s.next_trim_ns = now + (period_ns() << s.trim_backoff);
        if (s.trim_backoff < longest_backoff) ++s.trim_backoff;
      }
    }
    unclaim(t);
    if (found_count_ == batch) drop_found();
  }

  // Takes the claims again for all that were found, and drops their pages with one system call.
  void drop_found() noexcept {
    task* held[batch];
    page_range ranges[batch];
    size_t n = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < found_count_; ++i) {
      task& t = *found_[i].t;
      uint32_t word;
      if (!claim(t, word)) continue;
      page_range r{nullptr, nullptr};
      if (status_of(word) == task_status::waiting &&
          t.since_ns.load(std::memory_order_relaxed) == found_[i].since && t.stk != nullptr)
        r = unused_part(t);
      if (r.hi <= r.lo) {
        unclaim(t);
        continue;
      }
      t.stk->trimmed_since = found_[i].since;
      t.stk->trim_backoff = 0;
      t.stk->next_trim_ns = 0;
      bytes += found_[i].bytes;  // the same wait, so the same pages
      held[n] = &t;
      ranges[n++] = r;
    }
    found_count_ = 0;
    if (n == 0) return;
    if (drop_pages(ranges, n) > 0) count_trimmed(bytes);
    for (size_t i = 0; i < n; ++i) unclaim(*held[i]);
  }

  static constexpr size_t batch = 16;
  struct candidate {
    task* t;
    int64_t since;
    size_t bytes;
  };
  candidate found_[batch];
  size_t found_count_ = 0;
  size_t cursor_ = 0;
  int64_t walk_cpu_ns_ = 0;
  bool in_pass_ = false;
  bool left_over_ = false;  // something will be old enough, or free, at the next pass
  int quiet_passes_ = 0;
  uint64_t seen_switches_ = 0;
};

void sleep_ns(int64_t ns) noexcept {
  timespec t{ns / second_ns, ns % second_ns};
  ::nanosleep(&t, nullptr);
}

void trimmer_main(void*) {
  trimmer work;
  int64_t period = period_ns();
  for (;;) {
    sleep_ns(period);
    if (!work.worth_a_pass()) {
      period = std::min(period * 2, longest_period * period_ns());
      continue;
    }
    if (work.round())
      period = between_rounds_ns;
    else
      period = std::max(period_ns(), 100 * std::min(work.walk_cpu_ns(), second_ns));
  }
}

}  // namespace

void start_trimmer() noexcept {
  const int error = start_service_thread("weft-trimmer", trimmer_main);
  if (error != 0)
    base::log_line("stacks are not trimmed: cannot start a thread for it: %s",
                   std::strerror(error));
}

}  // namespace weft::sched
