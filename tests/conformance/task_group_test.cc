// task_group: structured concurrency after Go's errgroup.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/error.h>
#include <weft/task_group.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;

WEFT_WORLD_TEST(TaskGroup, WaitsForAll) {
  std::atomic<int> ended{0};
  task_group g;
  for (int i = 0; i < 50; ++i) {
    g.go([&] {
      this_task::yield();
      ++ended;
    });
  }
  g.wait();
  EXPECT_EQ(ended, 50);
  EXPECT_EQ(g.ctx().err(), errc::canceled);
  g.wait();
}

WEFT_WORLD_TEST(TaskGroup, DestructorJoins) {
  auto ended = std::make_shared<std::atomic<int>>(0);
  {
    task_group g;
    for (int i = 0; i < 10; ++i) {
      g.go([=] {
        for (int k = 0; k < 10; ++k) this_task::yield();
        ++*ended;
      });
    }
  }
  EXPECT_EQ(*ended, 10);
  EXPECT_EQ(ended.use_count(), 1);
}

WEFT_WORLD_TEST(TaskGroup, FirstFailureCancelsTheSiblingsAndIsRethrown) {
  task_group g;
  std::atomic<int> cancelled{0};
  chan<int> never(0);
  for (int i = 0; i < 8; ++i) {
    g.go([&](const context& ctx) {
      EXPECT_EQ(ctx, this_task::context());
      if (never.recv(ctx).error() == errc::canceled) ++cancelled;
      throw std::logic_error("a consequence");
    });
  }
  ASSERT_TRUE(test::eventually_waiting(sched::wait_reason::chan_receive, 8));
  g.go([] { throw std::runtime_error("the first"); });
  try {
    g.wait();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const std::runtime_error& e) {
    EXPECT_STREQ(e.what(), "the first");
  }
  EXPECT_EQ(cancelled, 8);
  EXPECT_THROW(std::rethrow_exception(g.ctx().cause()), std::runtime_error);
  g.wait();
}

WEFT_WORLD_TEST(TaskGroup, ParentCancelsTheTasks) {
  auto [ctx, cancel] = with_cancel(background());
  task_group g(ctx);
  g.go([] { EXPECT_FALSE(this_task::sleep_for(this_task::context(), 1h)); });
  cancel();
  g.wait();
  task_group h(background());
  h.go([] { EXPECT_FALSE(this_task::sleep_for(this_task::context(), 1h)); });
  h.cancel();
  h.wait();
  EXPECT_FALSE(background().err());
}

WEFT_WORLD_TEST(TaskGroup, AnExceptionInTheScopeCancelsAndWins) {
  std::atomic<int> ended{0};
  try {
    task_group g;
    for (int i = 0; i < 4; ++i) {
      g.go([&] {
        EXPECT_FALSE(this_task::sleep_for(this_task::context(), 1h));
        ++ended;
        throw std::logic_error("dropped");
      });
    }
    throw std::runtime_error("scope");
  } catch (const std::runtime_error& e) {
    EXPECT_STREQ(e.what(), "scope");
  }
  EXPECT_EQ(ended, 4);
}

TEST(TaskGroup, AnExceptionNobodyWaitedForEndsTheProcess) {
  EXPECT_EXIT(test::in_world(2,
                             [] {
                               task_group g;
                               g.go([] { throw std::runtime_error("nobody asked"); });
                             }),
              ::testing::ExitedWithCode(2), "panic: nobody asked");
}

WEFT_WORLD_TEST(TaskGroup, LimitHolds) {
  task_group g;
  g.set_limit(3);
  EXPECT_THROW(g.set_limit(0), std::invalid_argument);
  std::atomic<int> running{0}, most{0}, all{0};
  for (int i = 0; i < 60; ++i) {
    g.go([&] {
      const int now = ++running;
      int seen = most;
      while (seen < now && !most.compare_exchange_weak(seen, now)) {
      }
      this_task::yield();
      --running;
      ++all;
    });
  }
  g.wait();
  EXPECT_EQ(all, 60);
  EXPECT_LE(most, 3);
}

WEFT_WORLD_TEST(TaskGroup, TryGoDoesNotWait) {
  task_group g;
  g.set_limit(1);
  chan<int> gate(0);
  EXPECT_TRUE(g.try_go([&] { gate.recv(); }));
  auto body = [kept = std::make_unique<int>(3)] { EXPECT_EQ(*kept, 3); };
  EXPECT_FALSE(g.try_go(std::move(body)));
  EXPECT_THROW(g.set_limit(2), panic_error);
  gate.send(1);
  EXPECT_TRUE(test::eventually([&] { return g.try_go(std::move(body)); }));
  g.wait();
}

WEFT_WORLD_TEST(TaskGroup, TasksMayStartTasks) {
  std::atomic<int> n{0};
  task_group g;
  struct tree {
    task_group& g;
    std::atomic<int>& n;
    void grow(int depth) const {
      ++n;
      if (depth == 0) return;
      for (int i = 0; i < 2; ++i) g.go([t = *this, depth] { t.grow(depth - 1); });
    }
  };
  g.go([&] { tree{g, n}.grow(7); });
  g.wait();
  EXPECT_EQ(n, 255);
}

WEFT_WORLD_TEST(TaskGroup, GroupMayDieRightAfterTheWait) {
  for (int i = 0; i < test::sized(2000, 300); ++i) {
    auto g = std::make_unique<task_group>();
    g->set_limit(2);
    for (int k = 0; k < 3; ++k) g->go([] {});
    g->wait();
    g.reset();
  }
}

WEFT_WORLD_TEST(TaskGroup, WaitsHaveLimits) {
  task_group g;
  chan<int> gate(0);
  g.go({.name = "by name"}, [gate] {
    EXPECT_EQ(this_task::name(), "by name");
    gate.recv();
  });
  EXPECT_FALSE(g.wait_for(0ns));
  EXPECT_FALSE(g.wait_for(1ms));
  EXPECT_FALSE(g.wait_until(std::chrono::steady_clock::time_point::min()));
  auto [ctx, cancel] = with_cancel(background());
  cancel();
  EXPECT_FALSE(g.wait(ctx));
  EXPECT_FALSE(g.ctx().err());
  gate.send(1);
  EXPECT_TRUE(g.wait_for(1h));
  EXPECT_EQ(g.ctx().err(), errc::canceled);

  task_group failing;
  EXPECT_TRUE(failing.try_go({.name = "fails"}, [] { throw std::runtime_error("x"); }));
  EXPECT_THROW(static_cast<void>(failing.wait(background())), std::runtime_error);
  EXPECT_THROW(failing.go({.stack_size = 1}, [] {}), std::invalid_argument);
  EXPECT_TRUE(failing.wait_for(0ns));
  wait_group wg;
  wg.go({.name = "of a wait group"}, [] { EXPECT_EQ(this_task::name(), "of a wait group"); });
  EXPECT_THROW(wg.go({.stack_size = 1}, [] {}), std::invalid_argument);
  wg.wait();
}

}  // namespace
}  // namespace weft
