// Numbers: millions of parks, wake-ups, tasks and exceptions.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/wait_group.h>

#include <atomic>
#include <vector>

#include "scheduler/scheduler.h"
#include "scheduler/stack.h"
#include "tests/conformance/world.h"
#include "tests/stress/stress.h"

namespace weft {
namespace {

WEFT_WORLD_TEST(Churn, ParksAndWakeups) {
  const int pairs = 8;
  const int rounds = test::sized(80'000, 4000);  // two parks each
  wait_group wg;
  std::atomic<int64_t> sum{0};
  for (int p = 0; p < pairs; ++p) {
    chan<int> a(0);
    chan<int> b(0);
    wg.go([=] {
      for (int v : a) b.send(v + 1);
    });
    wg.go([=, &sum] {
      int v = 0;
      for (int i = 0; i < rounds; ++i) {
        a.send(v);
        v = *b.recv();
      }
      a.close();
      sum += v;
    });
  }
  wg.wait();
  EXPECT_EQ(sum.load(), int64_t{pairs} * rounds);
}

WEFT_WORLD_TEST(Churn, TasksOneByOne) {
  const int n = test::sized(300'000, 60'000);
  int64_t sum = 0;
  for (int i = 0; i < n; ++i) sum += spawn([i] { return i; }).join();
  EXPECT_EQ(sum, int64_t{n} * (n - 1) / 2);
}

WEFT_WORLD_TEST(Churn, TasksThatStartTasks) {
  const int depth = test::sized(17, 9);
  struct tree {
    static void grow(wait_group& wg, std::atomic<int64_t>& leaves, int depth) {
      if (depth == 0) {
        ++leaves;
        return;
      }
      for (int i = 0; i < 2; ++i) wg.go([&wg, &leaves, depth] { grow(wg, leaves, depth - 1); });
    }
  };
  wait_group wg;
  std::atomic<int64_t> leaves{0};
  tree::grow(wg, leaves, depth);
  wg.wait();
  EXPECT_EQ(leaves.load(), int64_t{1} << depth);
}

// Stacks are reused: the number ever handed out follows the tasks alive at once, not their total.
TEST(Churn, StacksAreReused) {
  test::in_world(2, [] {
    auto burst = [] {
      wait_group wg;
      for (int i = 0; i < 500; ++i) wg.go([] { this_task::yield(); });
      wg.wait();
    };
    auto known = [] {
      sched::stack_stats s = sched::stack_statistics();
      return s.in_use + s.free;
    };
    burst();
    size_t before = known();
    for (int i = 0; i < test::sized(500, 50); ++i) burst();
    EXPECT_LE(known(), before + 700);
  });
}

// The trimmer, a thousand times faster than it is, takes away what it thinks unused while tasks
// descend, park with something to remember, move to other processors and end.
TEST(Churn, TrimmingTouchesNothingThatLives) {
  sched::g_trim_period_ns = 1'000'000;
  test::in_world(2, [] {
    struct tree {
      // Each frame remembers where it is and what it was told.
      [[gnu::noinline]] static int64_t descend(int depth, int64_t told) {
        volatile int64_t here[128];
        for (int i = 0; i < 128; i += 16) here[i] = told + i;
        if (depth == 0) {
          this_task::sleep_for(std::chrono::microseconds(1500 + told % 2000));
        } else {
          told += descend(depth - 1, told) - told;
        }
        for (int i = 0; i < 128; i += 16) EXPECT_EQ(here[i], told + i);
        return told;
      }
    };
    const int rounds = test::sized(60, 10);
    for (int round = 0; round < rounds; ++round) {
      wait_group wg;
      for (int64_t n = 0; n < 200; ++n) {
        wg.add(1);
        const auto cls = n % 2 == 0 ? stack_class::compact : stack_class::standard;
        go({.stack = cls}, [&wg, n] {
          for (int depth : {20, 2, 0}) EXPECT_EQ(tree::descend(depth, n), n);
          wg.done();
        });
      }
      wg.wait();
      this_task::sleep_for(std::chrono::milliseconds(round % 4));
    }
    // On a busy machine the trimmer may not have had its turn yet: a stack that was deep waits for
    // it.
    chan<int> seen(0);
    go([seen] {
      tree::descend(20, 1);
      seen.send(1);
    });
    EXPECT_TRUE(test::eventually([] { return sched::stack_statistics().trimmed_bytes > 0; }));
    seen.recv();
  });
  sched::g_trim_period_ns = 1'000'000'000;
}

// Spawned by one processor, finished by others: records and stacks wander and come back.
WEFT_WORLD_TEST(Churn, SpawnHereFinishThere) {
  const int n = test::sized(100'000, 5000);
  chan<chan<int>> work(64);
  wait_group wg;
  std::atomic<int64_t> sum{0};
  for (int w = 0; w < 8; ++w) {
    wg.go([&, work] {
      for (auto& c : work) {
        go([c] { c.send(1); });
        sum += *c.recv();
      }
    });
  }
  for (int i = 0; i < n; ++i) work.send(chan<int>(static_cast<size_t>(i % 2)));
  work.close();
  wg.wait();
  EXPECT_EQ(sum.load(), n);
}

}  // namespace
}  // namespace weft
