// What a process says on SIGQUIT, on an uncaught exception and on a fatal error. Each in a child
// process.
#include <gtest/gtest.h>
#include <signal.h>
#include <weft/weft.h>

#include <stdexcept>

#include "base/check.h"
#include "profiler/reports.h"

namespace weft {
namespace {

[[gnu::noinline]] void thrower_of_the_test() {
  throw std::runtime_error("first line\nsecond line");
}

[[gnu::noinline]] void waits_for_ever(chan<int> c) {
  c.recv();
  asm volatile("");
}

void start_one_waiter() {
  chan<int> c(0);
  go({.name = "the waiter"}, [c] { waits_for_ever(c); });
  // The new task is next in line; afterwards it is parked.
  while (num_tasks() < 2) this_task::yield();
  this_task::sleep_for(std::chrono::milliseconds(5));
}

class Reports : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

#if WEFT_TSAN
// TSan holds a signal back until its thread calls something that TSan intercepts; a busy thread and
// one that sleeps in a futex of its own never do.
#define WEFT_NEEDS_PROMPT_SIGNALS() GTEST_SKIP() << "TSan delays signals"
#else
#define WEFT_NEEDS_PROMPT_SIGNALS() static_cast<void>(0)
#endif

TEST_F(Reports, SigquitDumpsEveryTaskAndExits2) {
  WEFT_NEEDS_PROMPT_SIGNALS();
  EXPECT_EXIT(
      {
        prof::install_reports();
        run({.max_procs = 2}, [] {
          start_one_waiter();
          ::kill(::getpid(), SIGQUIT);
          for (;;) this_task::sleep_for(std::chrono::seconds(1));
        });
      },
      ::testing::ExitedWithCode(2),
      "SIGQUIT: quit\n\ngoroutine (.|\n)*\\[chan receive, name \"the "
      "waiter\"\\](.|\n)*waits_for_ever(.|"
      "\n)*created by");
}

TEST_F(Reports, SigquitAnswersWhenEveryWorkerIsBusy) {
  WEFT_NEEDS_PROMPT_SIGNALS();
  EXPECT_EXIT(
      {
        prof::install_reports();
        run({.max_procs = 1}, [] {
          ::kill(::getpid(), SIGQUIT);
          for (;;) asm volatile("");
        });
      },
      ::testing::ExitedWithCode(2), "SIGQUIT: quit\n\ngoroutine 1 \\[");
}

TEST_F(Reports, AnUncaughtExceptionShowsTheStackOfTheThrow) {
  EXPECT_EXIT(
      {
        prof::install_reports();
        run({.max_procs = 2}, [] {
          go([] { thrower_of_the_test(); });
          for (;;) this_task::sleep_for(std::chrono::seconds(1));
        });
      },
      ::testing::ExitedWithCode(2),
      "panic: first line\n\tsecond line \\(std::runtime_error\\)\n\ngoroutine "
      "(.|\n)*thrower_of_the_test");
}

TEST_F(Reports, AFatalErrorShowsAllTasks) {
  EXPECT_EXIT(
      {
        prof::install_reports();
        run({.max_procs = 2}, [] {
          start_one_waiter();
          mutex m;
          m.unlock();
        });
      },
      ::testing::ExitedWithCode(2),
      "fatal error: sync: unlock of unlocked mutex\n\ngoroutine 1 "
      "\\[running\\](.|\n)*waits_for_ever");
}

}  // namespace
}  // namespace weft
