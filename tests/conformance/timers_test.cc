// E.3 Timers: sleep and after.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/select.h>
#include <weft/time.h>
#include <weft/wait_group.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

WEFT_WORLD_TEST(E3_Timers, S1_SleepOfNothingReturnsWithoutParking) {
  uint64_t id = this_task::id();
  for (int i = 0; i < 1000; ++i) {
    this_task::sleep_for(0ns);
    this_task::sleep_for(-1h);
    this_task::sleep_for(std::chrono::nanoseconds::min());
    this_task::sleep_until(clock::time_point{});
    this_task::sleep_until(clock::time_point::min());
  }
  EXPECT_EQ(this_task::id(), id);
}

WEFT_WORLD_TEST(E3_Timers, S1_SleepLastsAtLeastItsDuration) {
  for (auto d : {1us, 100us, 3000us}) {
    auto start = clock::now();
    this_task::sleep_for(d);
    EXPECT_GE(clock::now() - start, d);
    auto until = clock::now() + d;
    this_task::sleep_until(until);
    EXPECT_GE(clock::now(), until);
  }
}

TEST(E3_Timers, S1_OverflowMeansNever) {
  test::in_world(2, [] {
    std::atomic<int> back{0};
    go([&] {
      this_task::sleep_for(std::chrono::nanoseconds::max());
      ++back;
    });
    go([&] {
      this_task::sleep_until(clock::time_point::max());
      ++back;
    });
    EXPECT_TRUE(test::eventually_waiting(sched::wait_reason::sleep, 2));
    auto never = after(std::chrono::nanoseconds::max());
    this_task::sleep_for(5ms);
    EXPECT_EQ(never.try_recv(), std::nullopt);
    EXPECT_EQ(back.load(), 0);
    test::leave_tasks_behind(sched::wait_reason::sleep, 2);
  });
}

WEFT_WORLD_TEST(E3_Timers, AfterSendsTheTimeOnce) {
  auto start = clock::now();
  auto c = after(2ms);
  EXPECT_EQ(c.capacity(), 1u);
  auto t = c.recv();
  ASSERT_TRUE(t.has_value());
  EXPECT_GE(*t - start, 2ms);
  EXPECT_GE(clock::now(), *t);
  bool open = false;
  EXPECT_EQ(c.try_recv(open), std::nullopt);
  EXPECT_TRUE(open);
  EXPECT_TRUE(after(0ns).recv().has_value());
  EXPECT_TRUE(after(-1h).recv().has_value());
}

WEFT_WORLD_TEST(E3_Timers, AfterFiresThoughNobodyListens) {
  for (int i = 0; i < 200; ++i) after(std::chrono::microseconds(i));
  auto last = after(1ms);
  EXPECT_TRUE(test::eventually([&] { return last.size() == 1; }));
}

WEFT_WORLD_TEST(E3_Timers, SleepersWakeInTheOrderOfTheirDeadlines) {
  // One deadline per millisecond, started in another order; each notes when it was due and when it
  // ran.
  struct note {
    clock::time_point due, woke;
  };
  std::vector<note> notes(20);
  wait_group wg;
  auto base = clock::now() + 5ms;
  for (size_t i = 0; i < notes.size(); ++i) {
    size_t k = (i * 7) % notes.size();
    notes[k].due = base + std::chrono::milliseconds(k);
    wg.go([&n = notes[k]] {
      this_task::sleep_until(n.due);
      n.woke = clock::now();
    });
  }
  wg.wait();
  for (const note& n : notes) EXPECT_GE(n.woke, n.due);
}

// Every P is busy with tasks that never sleep but yield, then with ones that never call the
// runtime.
WEFT_WORLD_TEST(E3_Timers, S5_FireAlthoughAllProcessorsAreBusy) {
  std::atomic<bool> stop{false};
  wait_group wg;
  for (int i = 0; i < test::world_procs() + 1; ++i) {
    wg.go([&] {
      while (!stop) this_task::yield();
    });
  }
  for (int i = 0; i < 5; ++i) this_task::sleep_for(1ms);
  EXPECT_TRUE(after(1ms).recv().has_value());
  stop = true;
  wg.wait();
}

WEFT_WORLD_TEST(E3_Timers, S5_FireAlthoughAllProcessorsSpin) {
  std::atomic<bool> stop{false};
  wait_group wg;
  for (int i = 0; i < test::world_procs(); ++i) {
    wg.go([&] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  }
  for (int i = 0; i < 3; ++i) this_task::sleep_for(1ms);
  stop = true;
  wg.wait();
}

// A thread waits in the poller for a late timer; an earlier one, made elsewhere, must shorten that
// wait.
WEFT_WORLD_TEST(E3_Timers, S5_EarlierTimerWakesTheWaitingPoller) {
  chan<int> stop(0);
  auto late = spawn([stop] { return select(on_recv(stop), on_timeout(1h)); });
  ASSERT_TRUE(test::eventually_waiting(sched::wait_reason::select, 1));
  this_task::sleep_for(3ms);  // everything idles meanwhile
  std::atomic<bool> woke{false};
  std::thread foreign([&] {
    this_task::sleep_for(2ms);
    woke = true;
  });
  this_task::sleep_for(1ms);
  foreign.join();
  EXPECT_TRUE(woke.load());
  stop.send(1);
  EXPECT_EQ(late.join(), 0);
}

WEFT_WORLD_TEST(E3_Timers, ManySleepers) {
  const int n = test::sized(10'000, 1000);
  std::atomic<int> early{0};
  wait_group wg;
  for (int i = 0; i < n; ++i) {
    wg.go([&early, i] {
      auto until = clock::now() + std::chrono::microseconds((i * 37) % 5000);
      this_task::sleep_until(until);
      if (clock::now() < until) ++early;
    });
  }
  wg.wait();
  EXPECT_EQ(early.load(), 0);
}

}  // namespace
}  // namespace weft
