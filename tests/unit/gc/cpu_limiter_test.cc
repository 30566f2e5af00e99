// The limiter on a scripted clock. Source: Go's src/runtime/mgclimit_test.go.
#include "gc/cpu_limiter.h"

#include <gtest/gtest.h>

#include "gc/pacer.h"

namespace weft::gc {
namespace {

constexpr int64_t us = 1000, ms = 1'000'000, second = 1'000'000'000;
constexpr int processors = 14;

struct limiter_test : testing::Test {
  int64_t advance(int64_t ns) { return now += ns; }
  // Tasks help with `share` of all processors for `ns`, and marking goes on beside them.
  void help(int64_t ns, double share) {
    l.add_assist(static_cast<int64_t>(share * static_cast<double>(ns) * processors));
    l.update(advance(ns));
  }
  int64_t now = 0;
  cpu_limiter l{0, processors};
};

TEST_F(limiter_test, the_programs_time_earns_no_credit) {
  EXPECT_EQ(l.capacity(), processors * second);
  l.update(advance(10 * ms));
  l.update(advance(3600 * second));
  EXPECT_EQ(l.fill(), 0);
  EXPECT_FALSE(l.limiting());
}

TEST_F(limiter_test, updates_are_due_after_a_period) {
  l.update(now);
  EXPECT_FALSE(l.needs_update(advance(cpu_limiter::update_period / 2)));
  EXPECT_TRUE(l.needs_update(advance(cpu_limiter::update_period)));
  l.update(now);
  EXPECT_FALSE(l.needs_update(now));
  l.update(now - second);  // older than the last: nothing
  EXPECT_EQ(l.fill(), 0);
}

TEST_F(limiter_test, pauses_count_for_all_processors) {
  l.pause_begins(true, advance(109 * ms));
  l.pause_ends(advance(2 * ms + us));
  EXPECT_EQ(l.fill(), (2 * ms + us) * processors);
  // Marking in the background takes a quarter: half of the time is left to drain the bucket.
  l.update(advance(2 * ms));
  EXPECT_EQ(l.fill(), (2 * ms + us - ms) * processors);
}

TEST_F(limiter_test, half_is_the_limit) {
  l.pause_begins(true, now);
  l.pause_ends(now);
  help(10 * ms, 0.5 - background_share);
  EXPECT_EQ(l.fill(), 0);
  help(ms, 1 - background_share);
  EXPECT_EQ(l.fill(), ms * processors);
  EXPECT_FALSE(l.limiting());
  help(second - ms, 1 - background_share);
  EXPECT_EQ(l.fill(), l.capacity());
  EXPECT_TRUE(l.limiting());
  EXPECT_EQ(l.overflow(), 0);
  // Exactly half: it stays on, and nothing overflows.
  help(second, 0.5 - background_share);
  EXPECT_TRUE(l.limiting());
  EXPECT_EQ(l.overflow(), 0);
  help(second, 0);
  EXPECT_EQ(l.fill(), l.capacity() / 2);
  EXPECT_FALSE(l.limiting());
  help(second, 1 - background_share);
  EXPECT_TRUE(l.limiting());
  EXPECT_EQ(l.overflow(), processors * second / 2);
  // The pause that ends marking counts as well.
  l.pause_begins(false, now);
  l.pause_ends(advance(5 * ms));
  EXPECT_EQ(l.overflow(), (second / 2 + 5 * ms) * processors);
}

TEST_F(limiter_test, the_number_of_processors_may_change) {
  l.pause_begins(true, now);
  l.pause_ends(advance(second));
  ASSERT_TRUE(l.limiting());
  l.set_processors(processors + 10, now);
  EXPECT_EQ(l.fill(), processors * second);
  EXPECT_FALSE(l.limiting());
  l.set_processors(processors - 10, now);
  EXPECT_EQ(l.fill(), l.capacity());
  EXPECT_TRUE(l.limiting());
  EXPECT_EQ(l.overflow(), 0);
}

// One busy processor of many: what the others do not do is not the program's.
TEST_F(limiter_test, idle_processors_do_not_hide_thrashing) {
  l.pause_begins(true, now);
  l.pause_ends(now);
  l.add_idle((processors - 4) * second);
  l.update(advance(second));
  // Of 4 busy processor-seconds 3.5 were background marking.
  EXPECT_EQ(l.fill(), 3 * second);
}

TEST(thrash_watch, speaks_once_per_window) {
  thrash_watch w(10 * second);
  int64_t now = 0;
  auto cycle = [&](int64_t collector, int64_t process) {
    return w.cycle_ended(now += second, collector, process);
  };
  int said = 0;
  for (int i = 0; i < 31; ++i) said += cycle(60, 100);
  EXPECT_EQ(said, 3);
  EXPECT_FALSE(cycle(40, 100));  // better: the window begins anew
  for (int i = 0; i < 9; ++i) EXPECT_FALSE(cycle(90, 100));
  EXPECT_TRUE(cycle(90, 100));
  EXPECT_FALSE(cycle(0, 0));
}

}  // namespace
}  // namespace weft::gc
