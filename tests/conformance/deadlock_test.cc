// B.6: the end of a program whose tasks are all asleep. Each case is a child process.
#include "scheduler/deadlock.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/condition_variable.h>
#include <weft/mutex.h>
#include <weft/select.h>
#include <weft/time.h>
#include <weft/wait_group.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "tests/conformance/world.h"

namespace weft {
namespace {

constexpr const char* report = "^fatal error: all tasks are asleep - deadlock!\n";

#define EXPECT_DEADLOCK(...) EXPECT_EXIT(__VA_ARGS__, testing::ExitedWithCode(2), report)

TEST(B6_Deadlock, MainAloneOnANilChannel) {
  EXPECT_DEADLOCK(run([] { chan<int>{}.recv(); }));
  EXPECT_DEADLOCK(run({.max_procs = 1}, [] { chan<int>{}.send(1); }));
  EXPECT_DEADLOCK(run([] { select(); }));
}

TEST(B6_Deadlock, EveryKindOfWait) {
  EXPECT_DEADLOCK(run([] {
    mutex m;
    m.lock();
    m.lock();
  }));
  EXPECT_DEADLOCK(run([] {
    mutex m;
    condition_variable cv;
    std::unique_lock hold(m);
    cv.wait(hold);
  }));
  EXPECT_DEADLOCK(run([] {
    wait_group wg;
    wg.add(1);
    wg.wait();
  }));
  EXPECT_DEADLOCK(run([] { spawn([] { chan<int>(0).recv(); }).join(); }));
}

TEST(B6_Deadlock, ManyTasksAndProcessors) {
  EXPECT_DEADLOCK(run({.max_procs = 8}, [] {
    chan<int> c(0);
    wait_group wg;
    for (int i = 0; i < 1000; ++i) {
      wg.go([c] {
        this_task::yield();
        c.recv();
      });
    }
    wg.wait();
  }));
}

// A timer or a blocking call only puts it off.
TEST(B6_Deadlock, AfterTheLastTimerAndBlockingCall) {
  EXPECT_DEADLOCK(run([] {
    go([] { this_task::sleep_for(std::chrono::milliseconds(20)); });
    chan<int>(0).recv();
  }));
  EXPECT_DEADLOCK(run([] {
    go([] { blocking([] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }); });
    chan<int>(0).recv();
  }));
  EXPECT_DEADLOCK(run([] {
    auto never = after(std::chrono::nanoseconds::max());
    never.recv();
  }));
}

TEST(B6_Deadlock, ForeignThreadsAsleepInPrimitivesAreNoHelp) {
  EXPECT_DEADLOCK({
    chan<int> c(0);
    std::thread t([c] { c.recv(); });
    run([c] { chan<int>(0).recv(); });
  });
}

// A thread that the runtime has never seen might send; once it has ended it cannot.
TEST(B6_Deadlock, ReportedAfterTheLastUnknownThreadHasEnded) {
  EXPECT_DEADLOCK({
    std::thread t([] { std::this_thread::sleep_for(std::chrono::milliseconds(50)); });
    run([] { chan<int>(0).recv(); });
  });
  EXPECT_DEADLOCK(run([] {
    std::thread t([] {});
    t.join();
    chan<int>(0).recv();
  }));
}

// An attached thread that runs may send, so the monitor sleeps; that thread's end wakes it. The
// thread outlives main's second recv() by far, most of the time.
TEST(B6_Deadlock, ReportedAfterTheLastForeignThreadHasEnded) {
  EXPECT_DEADLOCK(run([] {
    chan<int> c(0);
    std::thread t([c]() mutable {
      c.send(1);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    });
    c.recv();
    c.recv();
  }));
}

TEST(B6_Deadlock, InASecondRunToo) {
  EXPECT_DEADLOCK({
    for (int i = 0; i < 3; ++i) run([] { go([] { chan<int>(0).recv(); }); });
    run([] { chan<int>(0).recv(); });
  });
}

// The other direction: what may still act keeps the process alive, and the verdict says why.
TEST(B6_Deadlock, VerdictsWhileSomethingMayStillHappen) {
  EXPECT_EXIT(
      {
        using sched::outlook;
        ::setenv("WEFT_DEBUG", "deadlock=off", 1);
        chan<int> wake(0);
        std::atomic<bool> go_on{false};
        std::atomic<int> failed{0};
        std::thread observer([&] {
          sched::service_thread not_an_actor;
          // Not eventually(): its sleep needs the runtime, which may not have started yet.
          while (sched::look_ahead() != outlook::asleep) std::this_thread::yield();
          if (sched::check_deadlock(0) >= 0) ++failed;
          {
            std::thread unknown([&] {
              while (!go_on) std::this_thread::yield();
            });
            if (sched::look_ahead() != outlook::only_unknown) ++failed;
            if (sched::look_ahead() != outlook::only_unknown) ++failed;
            go_on = true;
            unknown.join();
          }
          while (sched::look_ahead() != outlook::asleep) std::this_thread::yield();
          wake.send(1);
        });
        run([&] { wake.recv(); });
        if (sched::look_ahead() != outlook::open) ++failed;  // nothing runs, so nothing hangs
        observer.join();
        ::_exit(failed);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace weft
