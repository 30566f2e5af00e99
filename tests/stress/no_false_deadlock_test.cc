// The deadlock report must never fire while anything can still happen: many worlds that are
// completely asleep but for one actor, which acts at the last moment. A false report ends this
// process.
#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/condition_variable.h>
#include <weft/mutex.h>
#include <weft/select.h>
#include <weft/time.h>
#include <weft/wait_group.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"
#include "tests/stress/stress.h"

namespace weft {
namespace {

using std::chrono::microseconds;

void spin(uint32_t turns) {
  for (uint32_t i = 0; i < turns; ++i) asm volatile("");
}

class NoFalseDeadlock : public ::testing::Test {
 protected:
  uint32_t random(uint32_t below) {
    return std::uniform_int_distribution<uint32_t>(0, below - 1)(rng_);
  }
  std::mt19937_64 rng_{test::stress_seed()};
};

TEST_F(NoFalseDeadlock, TimersAreTheOnlyActors) {
  for (int procs : {1, 4}) {
    run({.max_procs = procs}, [&] {
      for (int i = 0; i < test::sized(400, 100); ++i) {
        chan<int> c(0);
        if (i % 3 == 0) {
          after(microseconds(random(3000))).recv();
        } else if (i % 3 == 1) {
          select(on_recv(c, [](std::optional<int>) {}),
                 on_timeout(microseconds(random(3000)), [] {}));
        } else {
          go([c, d = random(3000)] {
            this_task::sleep_for(microseconds(d));
            c.send(1);
          });
          c.recv();
        }
      }
    });
  }
}

TEST_F(NoFalseDeadlock, ThreadsThatTheRuntimeHasNeverSeen) {
  run({.max_procs = 4}, [&] {
    for (int i = 0; i < test::sized(500, 60); ++i) {
      chan<int> c(0);
      std::thread t([c, turns = random(8000000)] {
        spin(turns);
        c.send(1);
      });
      c.recv();
      t.detach();  // its end is under way while the next wait begins
    }
  });
}

// Two foreign threads and a task: at any time all but one sleep in primitives.
TEST_F(NoFalseDeadlock, ForeignThreadsThatSleepInPrimitives) {
  constexpr int ring = 4;
  const int rounds = test::sized(4000, 400);
  std::vector<chan<int>> c;
  for (int i = 0; i < ring; ++i) c.emplace_back(0);
  std::vector<std::thread> threads;
  for (int i = 1; i < ring; ++i) {
    threads.emplace_back([=] {
      while (auto v = c[static_cast<size_t>(i)].recv()) {
        if (*v % 61 == 0) spin(3000000);  // long enough for the monitor to look
        c[static_cast<size_t>((i + 1) % ring)].send(*v);
      }
    });
  }
  run({.max_procs = 2}, [&] {
    for (int r = 0; r < rounds; ++r) {
      c[1].send(r);
      c[0].recv();
    }
    for (int i = 1; i < ring; ++i) c[static_cast<size_t>(i)].close();
  });
  for (std::thread& t : threads) t.join();
}

// Foreign threads pass a lock and timed waits among themselves while every task sleeps.
TEST_F(NoFalseDeadlock, ForeignThreadsAmongThemselves) {
  mutex m;
  condition_variable cv;
  int turn = 0;
  const int turns = test::sized(6000, 600);
  chan<int> done(0);
  std::vector<std::thread> threads;
  for (int who = 0; who < 3; ++who) {
    threads.emplace_back([&, who] {
      std::unique_lock hold(m);
      while (turn < turns) {
        if (turn % 3 == who) {
          if (turn % 61 == 0) spin(3000000);
          ++turn;
          cv.notify_all();
        } else {
          cv.wait_for(hold, microseconds(500));
        }
      }
      hold.unlock();
      done.send(1);
    });
  }
  run({.max_procs = 2}, [&] {
    for (int i = 0; i < 3; ++i) done.recv();
  });
  for (std::thread& t : threads) t.join();
}

TEST_F(NoFalseDeadlock, BlockingCallsThatReturnAtTheLastMoment) {
  run({.max_procs = 2}, [&] {
    for (int i = 0; i < test::sized(600, 100); ++i) {
      chan<int> c(0);
      go([c, d = random(2500)] {
        blocking([d] { std::this_thread::sleep_for(microseconds(d)); });
        c.send(1);
      });
      c.recv();
      blocking([this] { std::this_thread::sleep_for(microseconds(random(2500))); });
    }
  });
}

// Runs that end while the monitor is about to look, with tasks of earlier runs parked for ever.
TEST_F(NoFalseDeadlock, RunsThatEndAndBeginAgain) {
  chan<int> gate(0);
  for (int i = 0; i < test::sized(600, 100); ++i) {
    run({.max_procs = 1 + i % 4}, [&] {
      go([gate] { gate.recv(); });
      if (i % 2 == 0) this_task::yield();
    });
    if (i % 4 == 0) spin(random(8000000));
  }
  run([&] {
    gate.close();
    EXPECT_TRUE(test::eventually([] { return num_tasks() == 1; }));
  });
}

}  // namespace
}  // namespace weft
