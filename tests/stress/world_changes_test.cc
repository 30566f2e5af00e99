// The world stops, goes on, grows and shrinks while tasks run.
#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/run.h>
#include <weft/select.h>
#include <weft/time.h>
#include <weft/wait_group.h>

#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>

#include "tests/conformance/world.h"
#include "tests/stress/stress.h"

namespace weft {
namespace {

TEST(WorldChanges, RunAgainAndAgain) {
  test::stress_clock time;
  std::mt19937 random(test::stress_seed());
  int64_t runs = 0;
  while (time.running()) {
    test::in_world(static_cast<int>(1 + random() % 8), [&] {
      wait_group wg;
      std::atomic<int> n{0};
      for (uint32_t i = 0; i < 10; ++i) {
        wg.go([&, i, pause = random() % 100] {
          if (i % 3 == 0) this_task::sleep_for(std::chrono::microseconds(pause));
          ++n;
        });
      }
      wg.wait();
      EXPECT_EQ(n.load(), 10);
    });
    ++runs;
  }
  std::printf("%lld runs\n", static_cast<long long>(runs));
}

// A pipeline that no single run() finishes; each gets a little further.
TEST(WorldChanges, TasksSurviveManyRuns) {
  static chan<int> in;
  static chan<int> out;
  in = chan<int>(0);
  out = chan<int>(0);
  const int n = test::sized(500, 100);
  run([] {
    go([] {
      for (int v : in) {
        if (v % 5 == 0) this_task::sleep_for(std::chrono::microseconds(200));
        if (v % 7 == 0) blocking([] { ::usleep(100); });
        out.send(v);
      }
      out.close();
    });
  });
  for (int i = 0; i < n; ++i) {
    options o;
    o.max_procs = 1 + i % 4;
    run(o, [i] { in.send(i); });
    o.max_procs = 1 + i % 3;
    run(o, [i] { EXPECT_EQ(out.recv(), i); });
  }
  // Not in_world(), which would wait at its start for the pipeline to end.
  run([] {
    in.close();
    EXPECT_EQ(out.recv(), std::nullopt);
    EXPECT_TRUE(test::eventually([] { return num_tasks() == 1; }));
  });
}

TEST(WorldChanges, ResizeWhileEverythingRuns) {
  test::stress_clock time;
  uint32_t seed = test::stress_seed();
  test::in_world(4, [&] {
    wait_group wg;
    std::atomic<int64_t> sent{0};
    std::atomic<int64_t> received{0};
    chan<int> c(3);
    wait_group senders;
    for (int i = 0; i < 6; ++i) {
      senders.go([&, i] {
        for (int k = 0; time.running(); ++k) {
          c.send(k);
          ++sent;
          if (k % 50 == i) this_task::sleep_for(std::chrono::microseconds(30));
          if (k % 200 == i) blocking([] { ::usleep(50); });
        }
      });
      wg.go([&] {
        for (;;) {
          bool closed = false;
          if (select(on_recv(c, [&](std::optional<int> v) { closed = !v; }),
                     on_timeout(std::chrono::microseconds(100))) == 1)
            continue;
          if (closed) return;
          ++received;
        }
      });
    }
    wg.go([&] {
      while (time.running()) {
        auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(12);
        while (std::chrono::steady_clock::now() < until) {
        }
        this_task::yield();
      }
    });
    int64_t resizes = 0;
    for (uint32_t who = 0; who < 2; ++who) {
      wg.go([&, who] {
        std::mt19937 random(seed + who);
        while (time.running()) {
          set_max_procs(static_cast<int>(1 + random() % 12));
          if (who == 0) ++resizes;
          this_task::sleep_for(std::chrono::microseconds(random() % 2000));
        }
      });
    }
    std::thread foreign([&] {
      std::mt19937 random(seed + 9);
      while (time.running()) {
        set_max_procs(static_cast<int>(1 + random() % 5));
        this_task::sleep_for(std::chrono::microseconds(random() % 3000));
      }
    });
    senders.wait();
    c.close();
    wg.wait();
    blocking([&] { foreign.join(); });
    EXPECT_EQ(sent.load(), received.load());
    EXPECT_GT(resizes, 0);
    std::printf("%lld resizes, %lld values\n", static_cast<long long>(resizes),
                static_cast<long long>(sent.load()));
  });
}

}  // namespace
}  // namespace weft
