// E.4 sync: once, and the call_once that std has and Go has not.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/context.h>
#include <weft/once.h>
#include <weft/run.h>
#include <weft/wait_group.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;
using sched::wait_reason;
using test::eventually_waiting;

WEFT_WORLD_TEST(E4_Once, S4_CallersWaitForTheFirst) {
  once o;
  once_flag flag;
  int ran = 0;
  int called = 0;
  chan<int> go_on(0);
  wait_group wg;
  wg.go([&, go_on] {
    o.call([&] {
      go_on.recv();
      ++ran;
    });
  });
  ASSERT_TRUE(eventually_waiting(wait_reason::chan_receive, 1));
  for (int i = 0; i < 10; ++i) {
    wg.go([&] {
      o.call([&] { ++ran; });
      EXPECT_EQ(ran, 1);
      call_once(
          flag, [&](int by) { called += by; }, 2);
      EXPECT_EQ(called, 2);
    });
  }
  ASSERT_TRUE(eventually_waiting(wait_reason::once_wait, 10));
  go_on.send(1);
  wg.wait();
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(called, 2);
}

// A limit ends the wait for another's call, never the call; who is woken by a failure tries itself.
WEFT_WORLD_TEST(E4_Once, LimitedWaitsEndOrGetTheirTurn) {
  once_flag flag;
  chan<int> entered(0), leave(0);
  auto first = spawn([&] {
    EXPECT_THROW(call_once(flag,
                           [&] {
                             entered.send(1);
                             leave.recv();
                             throw 1;
                           }),
                 int);
  });
  entered.recv();
  int calls = 0;
  auto count = [&] { ++calls; };
  EXPECT_FALSE(call_once_for(flag, 1ms, count));
  EXPECT_FALSE(call_once_for(flag, -1s, count));
  EXPECT_FALSE(call_once_until(flag, std::chrono::steady_clock::now() + 1ms, count));
  auto [ctx, cancel] = with_cancel(background());
  auto cancelled = spawn([&, x = ctx] { return call_once(x, flag, count); });
  ASSERT_TRUE(eventually_waiting(wait_reason::once_wait, 1));
  cancel();
  EXPECT_FALSE(cancelled.join());
  auto next = spawn([&] { return call_once_for(flag, 1h, count); });
  ASSERT_TRUE(eventually_waiting(wait_reason::once_wait, 1));
  EXPECT_EQ(calls, 0);
  leave.send(1);
  EXPECT_TRUE(next.join());
  first.join();
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(call_once_for(flag, -1s, count));
  EXPECT_TRUE(call_once_until(flag, {}, count));
  EXPECT_FALSE(call_once(ctx, flag, count));  // cancelled before: not even asked
  EXPECT_EQ(calls, 1);
}

// Failures and limits meet in every order: no wake-up is lost, and it happens once.
WEFT_WORLD_TEST(E4_Once, LimitsAndFailuresRace) {
  for (int round = 0; round < 50; ++round) {
    once_flag flag;
    std::atomic<int> attempts{0}, successes{0};
    std::vector<join_handle<void>> all;
    for (int i = 0; i < 8; ++i) {
      all.push_back(spawn([&, i] {
        for (bool over = false; !over;) {
          try {
            over = call_once_for(flag, std::chrono::microseconds(10 * (i + 1)), [&] {
              this_task::yield();
              if (attempts.fetch_add(1) < 20) throw 1;
              ++successes;
            });
          } catch (int) {
          }
        }
      }));
    }
    for (auto& h : all) h.join();
    EXPECT_EQ(successes, 1);
    EXPECT_EQ(attempts, 21);
  }
}

// Go's Once counts a panic as done; call_once lets the next one try, as std's.
WEFT_WORLD_TEST(E4_Once, S4_PanicCountsAsDone) {
  once o;
  EXPECT_THROW(o.call([] { throw std::runtime_error("first"); }), std::runtime_error);
  o.call([] { ADD_FAILURE() << "called again"; });
}

WEFT_WORLD_TEST(E4_Once, CallOnceTriesAgainAfterAnException) {
  once_flag flag;
  std::atomic<int> attempts{0};
  std::atomic<int> thrown{0};
  wait_group wg;
  for (int i = 0; i < 10; ++i) {
    wg.go([&] {
      try {
        call_once(flag, [&] {
          int mine = ++attempts;
          this_task::yield();
          if (mine < 4) throw std::runtime_error("not yet");
        });
        EXPECT_GE(attempts.load(), 4);
      } catch (const std::runtime_error&) {
        ++thrown;
      }
    });
  }
  wg.wait();
  EXPECT_EQ(attempts.load(), 4);
  EXPECT_EQ(thrown.load(), 3);
}

TEST(E4_Once, S4_RecursionDeadlocks) {
  test::in_world(2, [] {
    auto o = new once;  // the task never leaves it
    go([o] { o->call([o] { o->call([] { ADD_FAILURE() << "the inner call ran"; }); }); });
    EXPECT_TRUE(eventually_waiting(wait_reason::once_wait, 1));
    test::leave_tasks_behind(wait_reason::once_wait, 1);
  });
}

}  // namespace
}  // namespace weft
