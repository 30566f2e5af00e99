// The timer heap against a sorted model.
#include "scheduler/timers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <vector>

namespace weft::sched {
namespace {

TEST(TimerHeap, EmptyHeapHasNoDeadline) {
  timer_heap h;
  EXPECT_EQ(h.earliest(), never_ns);
  EXPECT_EQ(h.pop_any(), nullptr);
  EXPECT_EQ(h.pop_due(never_ns), nullptr);
}

TEST(TimerHeap, PopDueStopsAtNow) {
  timer_heap h;
  timer early;
  timer late;
  early.when_ns = 10;
  late.when_ns = 20;
  h.insert(&late, nullptr);
  h.insert(&early, nullptr);
  EXPECT_EQ(h.earliest(), 10);
  EXPECT_EQ(h.pop_due(9), nullptr);
  EXPECT_EQ(h.pop_due(10), &early);
  EXPECT_EQ(early.index, timer::not_queued);
  EXPECT_EQ(h.pop_due(10), nullptr);
  EXPECT_EQ(h.earliest(), 20);
  h.erase(&late);
  EXPECT_EQ(h.earliest(), never_ns);
  EXPECT_EQ(h.size(), 0u);
}

TEST(TimerHeap, BehavesAsASortedMultimap) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    timer_heap h;
    std::multimap<int64_t, timer*> model;
    std::deque<timer> storage;
    std::vector<timer*> free;
    for (int step = 0; step < 5000; ++step) {
      // Phases of growth and of shrinking, so that both deep and nearly empty heaps occur.
      uint32_t dice = random() % 8;
      bool grow = (step / 500) % 2 == 0;
      if (model.empty() || dice < (grow ? 5u : 2u)) {
        timer* t;
        if (free.empty()) {
          t = &storage.emplace_back();
        } else {
          t = free.back();
          free.pop_back();
        }
        t->when_ns = static_cast<int64_t>(random() % 64);  // many equal ones
        h.insert(t, nullptr);
        model.emplace(t->when_ns, t);
      } else if (dice < 6) {
        auto at = std::next(model.begin(), static_cast<long>(random() % model.size()));
        h.erase(at->second);
        ASSERT_EQ(at->second->index, timer::not_queued);
        free.push_back(at->second);
        model.erase(at);
      } else {
        auto now = static_cast<int64_t>(random() % 64);
        timer* t = h.pop_due(now);
        if (model.begin()->first > now) {
          ASSERT_EQ(t, nullptr);
        } else {
          ASSERT_NE(t, nullptr);
          ASSERT_EQ(t->when_ns, model.begin()->first);
          auto [from, to] = model.equal_range(t->when_ns);
          auto at = std::find_if(from, to, [&](auto& e) { return e.second == t; });
          ASSERT_NE(at, to);
          model.erase(at);
          free.push_back(t);
        }
      }
      ASSERT_EQ(h.size(), model.size());
      ASSERT_EQ(h.earliest(), model.empty() ? never_ns : model.begin()->first);
    }
    int64_t last = 0;
    while (timer* t = h.pop_any()) {
      ASSERT_GE(t->when_ns, last);
      last = t->when_ns;
    }
    EXPECT_EQ(h.earliest(), never_ns);
  }
}

TEST(TimerHeap, DeadlinesDoNotOverflow) {
  EXPECT_EQ(deadline_after(100, 5), 105);
  EXPECT_EQ(deadline_after(100, never_ns), never_ns);
  EXPECT_EQ(deadline_after(never_ns - 1, 1), never_ns);
  EXPECT_EQ(deadline_after(never_ns - 1, 2), never_ns);
}

}  // namespace
}  // namespace weft::sched
