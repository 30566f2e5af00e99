// The pacer at work on the real heap, and what is recorded of cycles.
#include "gc/pacing.h"

#include <gtest/gtest.h>
#include <time.h>
#include <weft/gc/gc.h>
#include <weft/mem_stats.h>
#include <weft/weft.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "gc/cycle_record.h"
#include "gc/pacer.h"
#include "gc/stress.h"
#include "scheduler/task_state.h"
#include "tests/conformance/world.h"

namespace weft::gc {
namespace {

struct link {
  WEFT_GC_FIELDS(next)
  ref<link> next;
  long payload[6] = {};
};

link* chain(size_t bytes) {
  link* first = nullptr;
  for (size_t i = 0; i <= bytes / sizeof(link); ++i) {
    link* l = make<link>();
    l->next = first;
    first = l;
  }
  return first;
}

void churn(size_t bytes) {
  for (size_t i = 0; i < bytes / sizeof(link); ++i) keep(make<link>());
}

TEST(pacing, goal_follows_what_is_live) {
  weft::run([] {
    root<link> data(chain(32 << 20));
    collect();
    const heap_stats s = stats();
    EXPECT_GE(s.marked_bytes, uint64_t{32} << 20);
    EXPECT_GE(s.goal_bytes, 2 * s.marked_bytes);
    EXPECT_LE(s.goal_bytes, 2 * s.marked_bytes + (uint64_t{16} << 20));
    EXPECT_GE(s.trigger_bytes, s.marked_bytes + (s.goal_bytes - s.marked_bytes) / 2);
    EXPECT_LE(s.trigger_bytes, s.goal_bytes);
    EXPECT_EQ(set_percent(400), 100);
    EXPECT_GE(stats().goal_bytes, 5 * s.marked_bytes);
    set_percent(-1);
    EXPECT_EQ(stats().goal_bytes, no_goal);
    EXPECT_EQ(set_percent(100), -1);
  });
}

// Cycles come by themselves and keep the heap near its goal; assists see to it where the
// collector's thread does not.
// Cycles that a stress mode makes are not the pacer's.
bool stressed() { return g_options.always || g_options.alloc_every != 0 || g_options.yield_mark; }

TEST(pacing, growth_stays_near_the_goal) {
  read_options();
  if (stressed()) GTEST_SKIP() << "a stress mode decides when cycles begin";
  weft::run([] {
    root<link> data(chain(16 << 20));
    collect();
    const uint64_t before = stats().cycles, live = stats().marked_bytes;
    uint64_t most = 0;
    for (int i = 0; i < 200; ++i) {
      churn(1 << 20);
      most = std::max(most, stats().live_bytes);
    }
    EXPECT_GE(stats().cycles, before + 4);
    // With what is allocated while marking is on, which counts as alive, m bytes are alive after a
    // cycle: m = live + 1.1 * 2 m - 1.7 m at worst, twice what is live. The heap grows to 2.2 m.
    EXPECT_LE(most, 5 * live);
  });
}

// Half of what would be used without a limit: the collector works more often, nothing fails.
TEST(pacing, the_limit_brings_cycles_forward) {
  read_options();
  if (stressed()) GTEST_SKIP() << "a stress mode decides when cycles begin";
  weft::run([] {
    root<link> data(chain(8 << 20));
    collect();
    set_percent(-1);
    const uint64_t before = stats().cycles;
    churn(32 << 20);
    EXPECT_EQ(stats().cycles, before);
    EXPECT_EQ(set_memory_limit(int64_t{96} << 20), INT64_MAX);
    EXPECT_EQ(set_memory_limit(-1), int64_t{96} << 20);
    churn(256 << 20);
    EXPECT_GT(stats().cycles, before);
    set_memory_limit(INT64_MAX);
    set_percent(100);
  });
}

std::atomic<bool> g_held{false};

// The collector marks nothing, so the heap grows to its limit: who allocates then waits, and shows
// why.
TEST(pacing, who_outgrows_the_goal_waits_for_the_collector) {
  read_options();
  if (stressed()) GTEST_SKIP() << "a stress mode decides when cycles begin";
  test::in_world(2, [] {
    root<link> data(chain(4 << 20));
    collect();
    const heap_stats before = stats();
    g_held = true;
    g_stress_hooks.before_scan = []() noexcept {
      for (timespec pause{0, 20'000}; g_held.load();) ::nanosleep(&pause, nullptr);
    };
    g_options.yield_mark = true;
    std::atomic<bool> enough{false};
    auto allocating = spawn([&] {
      while (!enough.load()) churn(64 << 10);
    });
    EXPECT_TRUE(test::eventually_waiting(sched::wait_reason::gc_assist, 1));
    EXPECT_GE(stats().live_bytes, before.goal_bytes);
    enough = true;
    g_held = false;
    allocating.join();
    collect();
    g_options.yield_mark = false;
    g_stress_hooks = {};
    EXPECT_GT(stats().assist_waits, before.assist_waits);
    EXPECT_GT(stats().assist_wait_ns, before.assist_wait_ns);
  });
}

// A list is no work to share, a tree is: tasks that allocate while it is marked scan a part of it.
TEST(pacing, helping_counts_as_the_collectors_time) {
  read_options();
  if (stressed()) GTEST_SKIP() << "a stress mode decides when cycles begin";
  weft::run([] {
    constexpr size_t width = 1 << 14, depth = 16;
    root<ref<link>> lists(make_array<ref<link>>(width));
    for (size_t i = 0; i < width; ++i) lists.get()[i] = chain(depth * sizeof(link));
    collect();
    const uint64_t before = stats().assist_ns;
    while (stats().assist_ns == before) churn(16 << 20);
    EXPECT_GT(read_mem_stats().gc_cpu_fraction, 0);
  });
}

TEST(pacing, pauses_are_kept) {
  weft::run([] {
    make<link>();
    pause_history before, h;
    collect();
    read_pauses(before);
    collect();
    collect();
    read_pauses(h);
    EXPECT_EQ(h.cycles, before.cycles + 2);
    const size_t last = (h.cycles + kept_cycles - 1) % kept_cycles;
    const size_t earlier = (h.cycles + kept_cycles - 2) % kept_cycles;
    EXPECT_GT(h.pause_ns[last], 0u);
    EXPECT_GT(h.pause_end_ns[last], h.pause_end_ns[earlier]);
    uint64_t total = 0;
    if (h.cycles <= kept_cycles) {
      for (const uint64_t ns : h.pause_ns) total += ns;
      EXPECT_EQ(total, h.total_ns);
    }
    const heap_stats s = stats();
    EXPECT_EQ(s.last_pause_ns[0] + s.last_pause_ns[1], h.pause_ns[last]);
  });
}

TEST(pacing, trace_line_is_gos) {
  cycle_record r{};
  r.number = 4;
  r.forced = true;
  r.processors = 2;
  r.pause_ns[0] = 310'000;
  r.mark_ns = 700'000;
  r.pause_ns[1] = 4'000;
  r.collector_ns = 590'000;
  r.assist_ns = 75'400;
  r.heap_before = r.heap_at_end = r.heap_live = 30 << 20;
  r.goal = 41 << 20;
  char line[256];
  const size_t n = format_cycle(r, 37'000'000, 4, line, sizeof line);
  EXPECT_EQ(std::string(line, n),
            "gc 4 @0.037s 4%: 0.31+0.70+0.004 ms clock, 0.62+0.075/0.59/0+0.008 ms cpu, "
            "30->30->30 MB, 41 MB goal, 0 MB stacks, 0 MB globals, 2 P (forced)");
  r.forced = false;
  r.mark_ns = 12'345'678;
  r.pause_ns[1] = 900;
  r.assist_ns = 8'210'000;
  const size_t m = format_cycle(r, 61'002'000'000, 0, line, sizeof line);
  EXPECT_EQ(std::string(line, m),
            "gc 4 @61.002s 0%: 0.31+12+0 ms clock, 0.62+8.2/0.59/0+0.001 ms cpu, "
            "30->30->30 MB, 41 MB goal, 0 MB stacks, 0 MB globals, 2 P");
}

}  // namespace
}  // namespace weft::gc
