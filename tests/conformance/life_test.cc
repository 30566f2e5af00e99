// E.12 Task and process life.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/error.h>
#include <weft/mutex.h>
#include <weft/run.h>
#include <weft/wait_group.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

TEST(E12_Life, MainReturnsItsStatus) {
  EXPECT_EQ(run([] { return 7; }), 7);
  EXPECT_EQ(run([] {}), 0);
  options o;
  o.max_procs = 3;
  EXPECT_EQ(run(o, [] { return set_max_procs(0); }), 3);
}

// The main task ran the caller's own copy of the function, which destroys it, and the caller
// destroyed it once more.
TEST(E12_Life, MainFunctionIsDestroyedOnce) {
  auto shared = std::make_shared<int>(1);
  run([shared] { EXPECT_GE(shared.use_count(), 2); });
  EXPECT_EQ(shared.use_count(), 1);
}

TEST(E12_Life, MainEndsWithoutWaitingForOthers) {
  EXPECT_EXIT(
      {
        static std::atomic<bool> finished{false};
        struct at_end {
          ~at_end() { finished = true; }
        };
        int status = run([] {
          for (int i = 0; i < 10; ++i) {
            go([] {
              at_end note;
              chan<int>{}.recv();
            });
            go([] {
              at_end note;
              for (;;) this_task::yield();
            });
          }
          for (int i = 0; i < 50; ++i) this_task::yield();
          return 0;
        });
        std::exit(finished ? 9 : status);
      },
      testing::ExitedWithCode(0), "");
}

TEST(E12_Life, OneRunAtATime) {
  test::in_world(1, [] { EXPECT_THROW(run([] {}), panic_error); });
  options o;
  o.max_procs = -1;
  EXPECT_THROW(run(o, [] {}), std::invalid_argument);
  o.max_procs = 1025;
  EXPECT_THROW(run(o, [] {}), std::invalid_argument);
}

TEST(E12_Life, SecondRunLetsTheOthersGoOn) {
  static std::atomic<int> steps{0};
  static std::atomic<bool> stop;
  stop = false;
  run([] {
    go([] {
      while (!stop) {
        ++steps;
        this_task::yield();
      }
    });
    EXPECT_TRUE(test::eventually([] { return steps.load() > 10; }));
  });
  int at_rest = steps.load();
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(steps.load(), at_rest);
  run([&] {
    EXPECT_TRUE(test::eventually([&] { return steps.load() > at_rest; }));
    stop = true;
    EXPECT_TRUE(test::eventually([] { return test::own_tasks() == 1; }));
  });
}

TEST(E12_Life, EscapingExceptionKillsTheProcess) {
  EXPECT_EXIT(run([] {
                go([] { throw std::runtime_error("it broke"); });
                chan<int>{}.recv();
              }),
              testing::ExitedWithCode(2), "panic: it broke \\(std::runtime_error\\)");
  EXPECT_EXIT(run([] { throw std::string("in main"); }), testing::ExitedWithCode(2),
              "panic: in main");
  EXPECT_EXIT(run([] {
                go([] { throw "a literal"; });
                chan<int>{}.recv();
              }),
              testing::ExitedWithCode(2), "panic: a literal");
  EXPECT_EXIT(run([] { throw 5; }), testing::ExitedWithCode(2), "panic: exception of type");
  EXPECT_EXIT(run([] { throw std::runtime_error("two\nlines"); }), testing::ExitedWithCode(2),
              "panic: two\n\tlines");
}

TEST(E12_Life, EscapingPanicNamesTheMisuse) {
  EXPECT_EXIT(run([] {
                chan<int> c(0);
                c.close();
                c.close();
              }),
              testing::ExitedWithCode(2), "panic: close of closed channel");
  EXPECT_EXIT(run([] {
                wait_group wg;
                wg.go([] { throw std::logic_error("in a group"); });
                wg.wait();
              }),
              testing::ExitedWithCode(2), "panic: in a group");
}

TEST(E12_Life, UnjoinedExceptionKillsTheProcess) {
  EXPECT_EXIT(run([] {
                {
                  auto h = spawn([] { throw std::runtime_error("nobody joined"); });
                }
                chan<int>{}.recv();
              }),
              testing::ExitedWithCode(2), "panic: nobody joined");
  EXPECT_EXIT(run([] {
                auto h = spawn([] { throw std::runtime_error("dropped late"); });
                test::eventually([&] { return h.done(); });
                h = {};
                chan<int>{}.recv();
              }),
              testing::ExitedWithCode(2), "panic: dropped late");
}

// Two tasks panic at once: one report, exit status 2.
TEST(E12_Life, ConcurrentPanicsReportOnce) {
  EXPECT_EXIT(
      {
        options o;
        o.max_procs = 4;
        run(o, [] {
          std::atomic<int> here{0};
          for (int i = 0; i < 4; ++i) {
            go([&] {
              ++here;
              while (here < 4) {
              }
              throw std::runtime_error("both");
            });
          }
          chan<int>{}.recv();
        });
      },
      testing::ExitedWithCode(2), "^panic: both \\(std::runtime_error\\)\n\n");
}

WEFT_WORLD_TEST(E12_Life, NumTasksCountsUserTasksOnly) {
  EXPECT_EQ(test::own_tasks(), 1);
  chan<int> gate(0);
  for (int i = 1; i <= 20; ++i) {
    go([gate] { gate.recv(); });
    EXPECT_EQ(test::own_tasks(), 1 + i);
  }
  gate.close();
  EXPECT_TRUE(test::eventually([] { return test::own_tasks() == 1; }));
}

TEST(E12_Life, MainTaskHasIdOne) {
  EXPECT_EXIT(
      {
        bool right = false;
        run([&] { right = this_task::id() == 1; });
        ::_exit(right ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

WEFT_WORLD_TEST(E12_Life, IdsAreUniqueAndNeverReused) {
  static std::set<uint64_t> seen;  // over all worlds of this process
  mutex m;
  wait_group wg;
  for (int i = 0; i < 500; ++i) {
    wg.go([&] {
      uint64_t id = this_task::id();
      this_task::yield();
      EXPECT_EQ(this_task::id(), id);
      std::lock_guard hold(m);
      EXPECT_TRUE(seen.insert(id).second) << id;
    });
  }
  wg.wait();
  EXPECT_GT(*seen.begin(), 1u);
}

}  // namespace
}  // namespace weft
