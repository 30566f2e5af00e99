// The pacer against programs that allocate, scan and grow at scripted rates: fifty cycles each, no
// clock. Source of the world and of most programs: Go's src/runtime/mgcpacer_test.go.
#include "gc/pacer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

namespace weft::gc {
namespace {

// A value for each cycle, counted from 0.
using script = std::function<double(int)>;
script constant(double v) {
  return [=](int) { return v; };
}
script ramp(double height, int cycles, int from = 0) {
  return [=](int i) { return height * std::clamp(i - from, 0, cycles) / cycles; };
}
script once(double v, int at) {
  return [=](int i) { return i == at ? v : 0; };
}
script oscillation(double amplitude, int period) {
  return [=](int i) { return amplitude * std::sin(2 * M_PI * i / period); };
}
script noise(double amplitude, unsigned seed) {
  return [=](int i) {
    std::minstd_rand r(seed * 1000 + static_cast<unsigned>(i));
    r.discard(10);
    return std::uniform_real_distribution<double>(-amplitude, amplitude)(r);
  };
}
script operator+(const script& a, const script& b) {
  return [=](int i) { return a(i) + b(i); };
}

struct program {
  int percent = 100;
  uint64_t limit = no_goal;
  uint64_t roots = 32 << 10;
  int processors = 8;
  script alloc = constant(33), scan = constant(1024);  // KiB per CPU ms
  script growth = constant(2) + ramp(-1, 12);          // of what is live, per cycle
  script scannable = constant(1), stacks = constant(8192);
  int cycles = 50;
};

struct cycle_result {
  double live, trigger, goal, peak, share;  // of the processors, for collecting
  double goal_ratio() const { return peak / goal; }
  double trigger_ratio() const { return (trigger - live) / (goal - live); }
};

std::vector<cycle_result> simulate(const program& p) {
  constexpr double period_ns = 500'000, kib_per_period = 1024 * 0.5;
  pacer c(p.percent, p.limit);
  std::vector<cycle_result> results;
  double scannable_live = 0, black_before = 0;
  for (int i = 0; i < p.cycles; ++i) {
    const double alloc = p.alloc(i), scan = p.scan(i),
                 fraction = std::clamp(p.scannable(i), 0., 1.);
    const auto stacks = static_cast<uint64_t>(p.stacks(i)) / 2048 * 2048;
    double live = static_cast<double>(std::max(c.trigger(), c.marked()));
    scannable_live += (live - static_cast<double>(c.marked())) * fraction;
    c.set_memory_use({static_cast<uint64_t>(live), 0, static_cast<uint64_t>(live)});
    c.start_cycle(
        {static_cast<uint64_t>(live), static_cast<uint64_t>(scannable_live), stacks, p.roots});
    const double next_marked =
        i == 0 ? 256 << 10 : (static_cast<double>(c.marked()) - black_before) * p.growth(i);
    double left[3] = {static_cast<double>(p.roots), static_cast<double>(stacks),
                      std::floor(next_marked * fraction)};
    double done[3] = {};
    double duration = 0, assist = 0, black = 0;
    while (left[0] + left[1] + left[2] > 0) {
      // Helping keeps bytes scanned over bytes allocated at the assist ratio; that fixes the share
      // u: ratio = scan * u / (alloc * (1 - u)). Below the background's share nobody helps.
      const double ratio = c.assist_work_per_byte();
      const double u = std::max(ratio * alloc / (ratio * alloc + scan), background_share);
      const double can = std::floor(scan * kib_per_period * p.processors * u);
      double room = can;
      for (int k = 0; k < 3; ++k) {
        const double now = std::min(left[k], room);
        left[k] -= now;
        done[k] += now;
        room -= now;
      }
      const double part = (can - room) / can;  // the last period ends early
      const double allocated = std::floor(alloc * kib_per_period * part * p.processors * (1 - u));
      live += allocated;
      scannable_live += allocated * fraction;
      c.revise({static_cast<uint64_t>(live), static_cast<uint64_t>(scannable_live),
                static_cast<uint64_t>(done[2]), static_cast<uint64_t>(done[1]),
                static_cast<uint64_t>(done[0])});
      assist += period_ns * part * p.processors * (u - background_share);
      duration += period_ns * part;
      black += allocated;
    }
    results.push_back({static_cast<double>(c.marked()), static_cast<double>(c.triggered()),
                       static_cast<double>(c.goal()), live,
                       assist / (duration * p.processors) + background_share});
    c.end_cycle({static_cast<uint64_t>(next_marked + black), static_cast<int64_t>(duration),
                 static_cast<int64_t>(assist), 0, p.processors});
    scannable_live = done[2];
    c.commit(c.marked(), false);
    black_before = black;
  }
  return results;
}

// From cycle `from` on: the goal is met, and the share stays in its bounds.
void expect_goal_met(const std::vector<cycle_result>& r, size_t from, double low = 0.95,
                     double high = 1.05) {
  for (size_t i = from; i < r.size(); ++i) {
    EXPECT_GE(r[i].goal_ratio(), low) << "cycle " << i;
    EXPECT_LE(r[i].goal_ratio(), high) << "cycle " << i;
  }
}
void expect_share(const std::vector<cycle_result>& r, size_t from, double low, double high) {
  for (size_t i = from; i < r.size(); ++i) {
    EXPECT_GE(r[i].share, low) << "cycle " << i;
    EXPECT_LE(r[i].share, high) << "cycle " << i;
  }
}

TEST(pacer, steady) {
  auto r = simulate({});
  expect_goal_met(r, 24);
  expect_share(r, 24, 0.25, 0.255);
}

TEST(pacer, steady_with_large_stacks) {
  program p;
  p.alloc = constant(132);
  p.stacks = constant(2048) + ramp(128 << 20, 8);
  auto r = simulate(p);
  expect_goal_met(r, 24);
  expect_share(r, 24, 0.25, 0.255);
}

TEST(pacer, steady_with_many_roots) {
  program p;
  p.alloc = constant(132);
  p.roots = 128 << 20;
  auto r = simulate(p);
  expect_goal_met(r, 24);
  expect_share(r, 24, 0.25, 0.255);
}

TEST(pacer, settles_after_a_step_of_the_allocation_rate) {
  for (const double step : {66., 330.}) {
    program p;
    p.alloc = constant(33) + ramp(step, 1, 50);
    p.cycles = 100;
    auto r = simulate(p);
    expect_goal_met(r, 74);
    for (size_t i = 75; i < r.size(); ++i) EXPECT_NEAR(r[i].share, r[i - 1].share, 0.005);
  }
}

TEST(pacer, settles_after_a_change_of_what_is_scanned) {
  program p;
  p.alloc = constant(128);
  p.scannable = constant(0.2) + once(0.5, 50);
  p.cycles = 100;
  auto r = simulate(p);
  expect_goal_met(r, 74);
}

// The heap grows fifteenfold in one cycle: the share must stay, at the price of memory.
TEST(pacer, high_percentage_and_sudden_growth) {
  program p;
  p.percent = 1500;
  p.alloc = constant(165) + noise(7, 0x53);
  p.growth = constant(2) + ramp(-1, 12) + noise(0.01, 1) + once(14, 25);
  auto r = simulate(p);
  for (size_t i = 12; i < r.size(); ++i) {
    EXPECT_GE(r[i].goal_ratio(), 0.90);
    EXPECT_LE(r[i].goal_ratio(), i == 25 ? 15 : 1.05);
    EXPECT_NEAR(r[i].share, background_share, background_share + 0.03);
  }
}

TEST(pacer, oscillating_and_jittery_allocation) {
  program p;
  p.alloc = constant(67) + oscillation(13, 8);
  auto r = simulate(p);
  expect_goal_met(r, 13);
  expect_share(r, 13, 0.25, 0.3);
  p.alloc = constant(132) + noise(13, 0xf);
  p.growth = constant(2) + ramp(-1, 12) + noise(0.01, 0xe);
  r = simulate(p);
  expect_goal_met(r, 13);
  expect_share(r, 13, 0.25, 0.3);
  p.alloc = constant(330) + noise(33, 0);
  r = simulate(p);
  expect_goal_met(r, 13);
}

// Little to scan: the cycle begins late, but some way from the goal.
TEST(pacer, small_and_medium_heaps_that_grow_slowly) {
  for (const int doublings : {3, 8}) {
    program p;
    p.alloc = constant(1);
    p.scan = constant(2048);
    p.scannable = constant(0.01);
    p.growth = constant(2) + ramp(-1, doublings);
    auto r = simulate(p);
    expect_goal_met(r, static_cast<size_t>(doublings) + 1, 0.925, 1.025);
    for (size_t i = static_cast<size_t>(doublings) + 1; i < r.size(); ++i) {
      EXPECT_GE(r[i].trigger_ratio(), 0.925);
      EXPECT_LE(r[i].trigger_ratio(), 0.975);
    }
    expect_share(r, 25, 0.25, 0.255);
  }
}

// A large heap with little to scan begins 4 MiB before its goal, not at 95 % of the way.
TEST(pacer, large_heap_that_grows_slowly) {
  program p;
  p.alloc = constant(1);
  p.scan = constant(2048);
  p.scannable = constant(0.01);
  p.growth = constant(4) + ramp(-3, 12);
  auto r = simulate(p);
  expect_goal_met(r, 14, 0.95, 1.05);
  for (size_t i = 14; i < r.size(); ++i)
    EXPECT_LE(r[i].goal - r[i].trigger, 2 * static_cast<double>(least_heap_goal));
}

// Live memory stays below the limit; the goal is the limit, whatever the percentage.
TEST(pacer, the_limit_is_kept_where_it_can_be) {
  for (const int percent : {100, -1}) {
    program p;
    p.percent = percent;
    p.limit = 512 << 20;
    p.growth = constant(3) + ramp(-2, 12);
    auto r = simulate(p);
    for (size_t i = percent < 0 ? 0 : 13; i < r.size(); ++i)
      EXPECT_EQ(r[i].goal, (512 << 20) - static_cast<double>(limit_headroom)) << "cycle " << i;
    expect_goal_met(r, 24);
    expect_share(r, 24, 0.25, 0.255);
  }
}

TEST(pacer, beyond_the_limit_it_collects_all_the_time) {
  program p;
  p.percent = -1;
  p.limit = 512 << 20;
  p.growth = constant(3.5) + ramp(-2.5, 12);
  auto r = simulate(p);
  for (size_t i = 13; i < r.size(); ++i) EXPECT_EQ(r[i].goal, r[i].live) << "cycle " << i;
  expect_share(r, 24, 0.95, 1.0);
}

// --- Single rules ---

TEST(pacer, least_goal_scales_with_the_percentage) {
  EXPECT_EQ(pacer(100).goal(), uint64_t{4} << 20);
  EXPECT_EQ(pacer(400).goal(), uint64_t{16} << 20);
  EXPECT_EQ(pacer(25).goal(), uint64_t{1} << 20);
  EXPECT_EQ(pacer(-1).goal(), no_goal);
  EXPECT_EQ(pacer(-1).trigger(), no_goal);
}

TEST(pacer, goal_counts_stacks_and_roots) {
  pacer p(50);
  p.start_cycle({100 << 20, 100 << 20, 1 << 20, 10 << 20});
  p.revise({120 << 20, 120 << 20, 80 << 20, 6 << 20, 10 << 20});
  p.end_cycle({84 << 20, 1'000'000, 0, 0, 2});
  p.commit(p.marked(), true);
  EXPECT_EQ(p.goal(), uint64_t{84 + (84 + 6 + 10) / 2} << 20);
  EXPECT_LT(p.trigger(), p.goal());
  EXPECT_GE(p.trigger(), p.marked() + (p.goal() - p.marked()) * 45 / 64 - 64);
}

TEST(pacer, the_limit_counts_what_cannot_become_objects) {
  pacer p(-1, 100 << 20);
  p.set_memory_use({60 << 20, 10 << 20, 20 << 20});  // 30 MiB of stacks, malloc and the like
  EXPECT_EQ(p.goal(), uint64_t{100 - 30 - 1} << 20);
  p.set_memory_use({110 << 20, 10 << 20, 20 << 20});  // 10 MiB too much
  EXPECT_EQ(p.goal(), uint64_t{100 - 80 - 10 - 1} << 20);
  p.set_memory_use({110 << 20, 0, 20 << 20});  // the others alone are too much
  EXPECT_EQ(p.goal(), p.marked());
  // Counted at different times, the parts may exceed the whole.
  p.set_memory_use({20 << 20, 10 << 20, 20 << 20});
  EXPECT_EQ(p.goal(), uint64_t{99} << 20);
}

TEST(pacer, debt_grows_towards_the_goal_and_beyond) {
  pacer p(100);
  p.start_cycle({8 << 20, 8 << 20, 0, 0});
  p.revise({12 << 20, 12 << 20, 8 << 20, 0, 0});
  p.end_cycle({8 << 20, 1'000'000, 0, 0, 2});
  p.commit(p.marked(), true);
  ASSERT_EQ(p.goal(), uint64_t{16} << 20);
  p.start_cycle({14 << 20, 14 << 20, 0, 0});
  const double at_start = p.assist_work_per_byte();
  EXPECT_NEAR(at_start, 8. / 2, 0.01);
  p.revise({15 << 20, 15 << 20, 1 << 20, 0, 0});
  EXPECT_GT(p.assist_work_per_byte(), at_start);
  // Past the goal: all that may be scanned, in what is left to a tenth beyond.
  p.revise({17 << 20, 17 << 20, 2 << 20, 0, 0});
  EXPECT_NEAR(p.assist_work_per_byte(), 15 / (16 * 1.1 - 17), 0.1);
  EXPECT_EQ(p.hard_limit(), (uint64_t{16} << 20) + (uint64_t{16} << 20) / 10);
}

TEST(pacer, a_late_start_keeps_a_runway) {
  pacer p(100);
  p.start_cycle({64 << 20, 64 << 20, 0, 0});
  EXPECT_EQ(p.goal(), (uint64_t{64} << 20) + (64 << 10));
  EXPECT_TRUE(std::isfinite(p.assist_work_per_byte()));
  EXPECT_GT(p.hard_limit(), uint64_t{64} << 20);
}

TEST(pacer, survives_cycles_without_work_and_odd_times) {
  pacer p(100);
  p.start_cycle({1 << 20, 0, 0, 0});
  p.end_cycle({0, 0, 0, 0, 1});
  p.commit(0, true);
  EXPECT_EQ(p.goal(), least_heap_goal);
  p.start_cycle({4 << 20, 1 << 20, 0, 0});
  p.revise({5 << 20, 1 << 20, 1, 0, 0});
  p.end_cycle({1 << 20, 1, 1'000'000'000, 1'000'000'000, 1});  // more CPU time than there was
  p.commit(1 << 20, false);
  EXPECT_TRUE(std::isfinite(p.cons_mark()));
  EXPECT_LE(p.trigger(), p.goal());
  EXPECT_GE(p.trigger(), p.marked());
}

// 4096 random cycles: the order of the bounds holds in each.
TEST(pacer, bounds_hold_for_any_numbers) {
  std::mt19937_64 rng(1);
  auto up_to = [&](uint64_t n) { return rng() % (n + 1); };
  pacer p(100);
  for (int i = 0; i < 4096; ++i) {
    if (i % 16 == 0) p.set_percent(static_cast<int>(up_to(2000)) - 10);
    if (i % 32 == 0) p.set_memory_limit(up_to(1) ? no_goal : up_to(uint64_t{1} << 40));
    const uint64_t scale = uint64_t{1} << up_to(40);
    p.set_memory_use({up_to(scale * 2), up_to(scale), up_to(scale)});
    const uint64_t live = p.marked() + up_to(scale);
    p.commit(live, up_to(1));
    ASSERT_LE(p.trigger(), p.goal());
    p.start_cycle({live, up_to(live), up_to(scale), up_to(scale)});
    ASSERT_GT(p.assist_work_per_byte(), 0);
    p.revise({live + up_to(scale), live, up_to(live), up_to(scale), up_to(scale)});
    ASSERT_TRUE(std::isfinite(p.assist_work_per_byte()) && p.assist_work_per_byte() > 0);
    ASSERT_GE(p.hard_limit(), p.goal());
    p.end_cycle({up_to(live), static_cast<int64_t>(up_to(scale)),
                 static_cast<int64_t>(up_to(scale)), static_cast<int64_t>(up_to(scale)),
                 1 + static_cast<int>(up_to(63))});
    ASSERT_TRUE(std::isfinite(p.cons_mark()));
  }
}

TEST(pacer, background_workers) {
  // Go's table: one dedicated worker per four processors, a fraction where rounding is off by 30 %.
  auto expect = [](int n, int dedicated, double fraction) {
    const mark_workers w = background_workers(n);
    EXPECT_EQ(w.dedicated, dedicated) << n;
    EXPECT_NEAR(w.fraction, fraction, 1e-9) << n;
  };
  expect(1, 0, 0.25);
  expect(2, 0, 0.25);
  expect(3, 0, 0.25);
  expect(4, 1, 0);
  expect(5, 1, 0);
  expect(6, 1, 0.5 / 6);
  expect(7, 2, 0);
  expect(8, 2, 0);
  expect(64, 16, 0);
}

}  // namespace
}  // namespace weft::gc
