// E.3 Timers: sleep, timer, ticker, after, after_func.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/error.h>
#include <weft/labels.h>
#include <weft/select.h>
#include <weft/time.h>
#include <weft/wait_group.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using test::panic_of;

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
  EXPECT_TRUE(test::eventually([&] { return last.try_recv().has_value(); }));
}

// Received or not, a value of before is gone once stop() or reset() has returned.
WEFT_WORLD_TEST(E3_Timers, S2_StopSaysWhetherItPreventedTheEvent) {
  timer never_fires(1h);
  EXPECT_TRUE(never_fires.stop());
  EXPECT_FALSE(never_fires.stop());
  EXPECT_EQ(never_fires.channel().try_recv(), std::nullopt);

  timer received(0ns);
  EXPECT_TRUE(received.channel().recv().has_value());
  EXPECT_FALSE(received.stop());

  timer too_far(std::chrono::nanoseconds::max());
  EXPECT_TRUE(too_far.stop());
  EXPECT_FALSE(too_far.stop());
}

WEFT_WORLD_TEST(E3_Timers, S2_ResetSaysWhetherItWasActive) {
  timer t(1h);
  timer same = t;
  EXPECT_TRUE(same.reset(1ms));
  auto start = clock::now();
  EXPECT_TRUE(t.channel().recv().has_value());
  EXPECT_LT(clock::now() - start, 1h);
  EXPECT_FALSE(t.reset(std::chrono::nanoseconds::max()));
  EXPECT_TRUE(t.reset(-1h));
  EXPECT_TRUE(t.channel().recv().has_value());
  EXPECT_FALSE(t.stop());
  EXPECT_FALSE(t.reset(1us));  // a stopped timer goes again
  EXPECT_TRUE(t.channel().recv().has_value());
}

WEFT_WORLD_TEST(E3_Timers, S2_OnlyOneValueAndTheChannelStaysOpen) {
  timer t(1us);
  EXPECT_TRUE(t.channel().recv().has_value());
  this_task::sleep_for(2ms);
  bool open = false;
  EXPECT_EQ(t.channel().try_recv(open), std::nullopt);
  EXPECT_TRUE(open);
  t.stop();
  EXPECT_EQ(t.channel().try_recv(open), std::nullopt);
  EXPECT_TRUE(open);
}

WEFT_WORLD_TEST(E3_Timers, S2_ZeroValuePanics) {
  timer t;
  EXPECT_TRUE(t.channel().is_nil());
  EXPECT_EQ(panic_of([&] { t.stop(); }), "time: Stop called on uninitialized Timer");
  EXPECT_EQ(panic_of([&] { t.reset(1s); }), "time: Reset called on uninitialized Timer");
  ticker k;
  EXPECT_TRUE(k.channel().is_nil());
  k.stop();
  EXPECT_EQ(panic_of([&] { k.reset(1s); }), "time: Reset called on uninitialized Ticker");
}

WEFT_WORLD_TEST(E3_Timers, S2_AfterFuncRunsInATaskOfItsOwn) {
  chan<uint64_t> ids(0);
  uint64_t own = this_task::id();
  std::string label;
  with_labels(labels{{"who", "caller"}}, [&] {
    after_func(1ms, [&, ids] {
      label = this_task::labels().pairs().at(0).second;
      ids.send(this_task::id());  // it may park
    });
  });
  auto first = ids.recv();
  ASSERT_TRUE(first.has_value());
  EXPECT_NE(*first, own);
  EXPECT_EQ(label, "caller");

  timer again = after_func(-1h, [ids] { ids.send(this_task::id()); });
  EXPECT_TRUE(again.channel().is_nil());
  auto second = ids.recv();
  EXPECT_NE(second, first);
  EXPECT_FALSE(again.stop());
  EXPECT_FALSE(again.reset(0ns));
  EXPECT_NE(ids.recv(), second);
}

WEFT_WORLD_TEST(E3_Timers, S2_StopDoesNotWaitForTheFunction) {
  chan<int> started(0);
  chan<int> go_on(0);
  timer t = after_func(0ns, [=] {
    started.send(1);
    go_on.recv();
  });
  started.recv();
  EXPECT_FALSE(t.stop());
  EXPECT_FALSE(t.reset(0ns));  // a second call beside the first
  started.recv();
  go_on.send(1);
  go_on.send(1);
}

WEFT_WORLD_TEST(E3_Timers, S2_StoppedAfterFuncNeverRuns) {
  auto alive = std::make_shared<int>(0);
  std::weak_ptr<int> watch = alive;
  {
    timer t = after_func(1h, [alive = std::move(alive)] { ADD_FAILURE() << "it ran"; });
    EXPECT_FALSE(watch.expired());
    EXPECT_TRUE(t.stop());
    EXPECT_FALSE(t.stop());
    EXPECT_FALSE(t.reset(std::chrono::nanoseconds::max()));
    EXPECT_TRUE(t.reset(1h));
    EXPECT_TRUE(t.stop());
    EXPECT_FALSE(watch.expired());
  }
  EXPECT_TRUE(watch.expired());  // with the last handle
}

WEFT_WORLD_TEST(E3_Timers, S2_AfterFuncKeepsItsFunctionUntilItHasRun) {
  auto alive = std::make_shared<int>(0);
  std::weak_ptr<int> watch = alive;
  std::atomic<int> runs{0};
  after_func(1ms, [&runs, alive = std::move(alive)] { runs += alive != nullptr; });
  EXPECT_TRUE(test::eventually([&] { return watch.expired(); }));
  EXPECT_EQ(runs.load(), 1);
}

WEFT_WORLD_TEST(E3_Timers, S3_ChannelShowsItselfUnbuffered) {
  timer t(0ns);
  ticker k(1us);
  auto a = after(0ns);
  this_task::sleep_for(1ms);
  for (auto& c : {t.channel(), k.channel(), a}) {
    EXPECT_EQ(c.capacity(), 0u);
    EXPECT_EQ(c.size(), 0u);
  }
  EXPECT_TRUE(t.channel().recv() && k.channel().recv() && a.recv());
}

// The value is waiting when the timer is stopped or set anew.
WEFT_WORLD_TEST(E3_Timers, S3_NoStaleValueAfterStopOrReset) {
  for (int i = 0; i < test::sized(300, 50); ++i) {
    timer t(std::chrono::microseconds(i % 20));
    auto c = t.channel();
    for (int k = 0; k < i % 7; ++k) this_task::yield();
    EXPECT_TRUE(t.stop());  // nobody has received it
    ASSERT_EQ(c.try_recv(), std::nullopt);

    t.reset(0ns);
    for (int k = 0; k < i % 5; ++k) this_task::yield();
    auto set = clock::now();
    EXPECT_TRUE(t.reset(20us));
    auto received = c.recv();
    ASSERT_TRUE(received.has_value());
    ASSERT_GE(*received, set + 20us) << "the value of before the reset";
  }
  ticker k(1us);
  this_task::sleep_for(1ms);
  k.stop();
  EXPECT_EQ(k.channel().try_recv(), std::nullopt);
  k.reset(1us);
  this_task::sleep_for(1ms);
  auto set = clock::now();
  k.reset(2ms);
  auto tick = k.channel().recv();
  ASSERT_TRUE(tick.has_value());
  EXPECT_GE(*tick, set + 2ms);
}

// What is held of it decides how long a timer exists: the heaps must be as empty as before.
WEFT_WORLD_TEST(E3_Timers, S3_DroppedTimersAreGoneAtOnce) {
  const size_t before = test::queued_timers();
  for (int i = 0; i < 100; ++i) {
    after(1h);
    timer{1h};
    ticker{1h};
    tick(1h);
    EXPECT_EQ(select(on_recv(after(1h)), on_timeout(0ns)), 1);
  }
  EXPECT_EQ(test::queued_timers(), before);
  recv_chan<clock::time_point> c;
  {
    timer t(1h);
    c = t.channel();
  }
  EXPECT_EQ(test::queued_timers(), before + 1);
  c = ticker(1h).channel();
  EXPECT_EQ(test::queued_timers(), before + 1);
  c = {};
  EXPECT_EQ(test::queued_timers(), before);
  timer f = after_func(1h, [] {});
  EXPECT_EQ(test::queued_timers(), before + 1);
  f.stop();
  EXPECT_EQ(test::queued_timers(), before);
}

WEFT_WORLD_TEST(E3_Timers, S4_NonPositivePeriodPanics) {
  for (auto d : {0ns, -1ns, std::chrono::nanoseconds::min()}) {
    EXPECT_EQ(panic_of([&] { ticker{d}; }), "non-positive interval for NewTicker");
    EXPECT_TRUE(tick(d).is_nil());
    ticker t(1h);
    EXPECT_EQ(panic_of([&] { t.reset(d); }), "non-positive interval for Ticker.Reset");
    t.stop();
  }
}

WEFT_WORLD_TEST(E3_Timers, S4_TicksComeAtMultiplesOfThePeriod) {
  auto start = clock::now();
  ticker t(500us);
  auto last = start;
  for (int i = 1; i <= 8; ++i) {
    auto at = t.channel().recv();
    ASSERT_TRUE(at.has_value());
    EXPECT_GE(*at, start + i * 500us);
    EXPECT_GT(*at, last);
    last = *at;
  }
  EXPECT_TRUE(tick(1us).recv().has_value());
}

// While the receiver is away there are many periods and one value: no burst afterwards. A tick more
// may come late, and one with a time read a moment ago.
WEFT_WORLD_TEST(E3_Timers, S4_SlowReceiversLoseTicks) {
  constexpr auto period = 200us;
  ticker t(period);
  this_task::sleep_for(5ms);
  EXPECT_TRUE(t.channel().recv().has_value());
  auto from = clock::now();
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(t.channel().recv().has_value());
  EXPECT_GE(clock::now() - from, 7 * period);
}

WEFT_WORLD_TEST(E3_Timers, S4_StopEndsTheTicksAndLeavesTheChannelOpen) {
  ticker t(1us);
  EXPECT_TRUE(t.channel().recv().has_value());
  t.stop();
  this_task::sleep_for(1ms);
  bool open = false;
  EXPECT_EQ(t.channel().try_recv(open), std::nullopt);
  EXPECT_TRUE(open);
  t.reset(1us);
  EXPECT_TRUE(t.channel().recv().has_value());
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

// A range-for keeps the channel of a ticker that is gone.
WEFT_WORLD_TEST(E3_Timers, ChannelsOfTemporariesMayBeRangedOver) {
  int n = 0;
  for (auto t : ticker(100us).channel()) {
    EXPECT_NE(t, std::chrono::steady_clock::time_point());
    if (++n == 3) break;
  }
  EXPECT_EQ(n, 3);
  static_assert(!std::is_reference_v<decltype(timer(1s).channel())>);
}

}  // namespace
}  // namespace weft
