// What a process says on SIGQUIT, on an uncaught exception and on a fatal error. Each in a child
// process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <weft/weft.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "profiler/reports.h"
#include "scheduler/detectors.h"

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

struct says_goodbye {
  ~says_goodbye() { base::write_stderr("unwound\n", 8); }
};

[[gnu::noinline]] void nested_thrower() {
  says_goodbye local;
  try {
    throw std::out_of_range("the cause");
  } catch (...) {
    std::throw_with_nested(std::runtime_error("the effect"));
  }
}

// One child for every value of WEFT_TRACEBACK.
void panic_under(const char* level) {
  ::setenv("WEFT_TRACEBACK", level, 1);
  prof::install_reports();
  run({.max_procs = 2}, [] {
    start_one_waiter();
    go([] { nested_thrower(); });
    for (;;) this_task::sleep_for(std::chrono::seconds(1));
  });
}

constexpr const char* nested_message =
    "^panic: the effect \\(std::runtime_error\\)\n\tcaused by: the cause "
    "\\(std::out_of_range\\)\n\n";

// Matches a report that has every one of `parts` in this order and none of `absent`.
class report_is {
 public:
  report_is(std::vector<std::string> parts, std::vector<std::string> absent)
      : parts_(std::move(parts)), absent_(std::move(absent)) {}
  bool operator()(const std::string& text) const {
    size_t at = 0;
    for (const std::string& part : parts_) {
      at = text.find(part, at);
      if (at == std::string::npos) return false;
    }
    for (const std::string& part : absent_) {
      if (text.find(part) != std::string::npos) return false;
    }
    return true;
  }

 private:
  std::vector<std::string> parts_, absent_;
};

TEST_F(Reports, APanicShowsNestedExceptionsAndNoDestructorHasRun) {
  EXPECT_EXIT(panic_under("all"), ::testing::ExitedWithCode(2), nested_message);
  EXPECT_EXIT(panic_under("all"), ::testing::ExitedWithCode(2),
              ::testing::Truly(report_is({"nested_thrower", "waits_for_ever"}, {"unwound"})));
}

TEST_F(Reports, TracebackLevelsOfAPanic) {
  EXPECT_EXIT(panic_under("none"), ::testing::ExitedWithCode(2),
              ::testing::Truly(report_is({"the effect"}, {"goroutine"})));
  EXPECT_EXIT(panic_under("single"), ::testing::ExitedWithCode(2),
              ::testing::Truly(report_is({"nested_thrower"}, {"waits_for_ever"})));
  EXPECT_EXIT(panic_under("1"), ::testing::ExitedWithCode(2),
              ::testing::Truly(report_is({"nested_thrower", "waits_for_ever"}, {"weft::sched::"})));
  EXPECT_EXIT(panic_under("system"), ::testing::ExitedWithCode(2),
              ::testing::Truly(report_is({"nested_thrower", "weft::sched::park"}, {})));
  EXPECT_EXIT(panic_under("crash"), ::testing::KilledBySignal(SIGABRT),
              ::testing::Truly(report_is({"nested_thrower", "weft::sched::park"}, {})));
  EXPECT_EXIT(panic_under("loud"), ::testing::ExitedWithCode(2),
              ::testing::Truly(report_is(
                  {"WEFT_TRACEBACK=loud ignored", "nested_thrower", "waits_for_ever"}, {})));
}

// How often `part` occurs.
size_t times(const std::string& text, std::string_view part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// Eight tasks die at once, of two kinds of death. One report, whole: whoever comes second waits for
// the process to end.
TEST_F(Reports, OneAtATime) {
  EXPECT_EXIT(
      {
        prof::install_reports();
        run({.max_procs = 4}, [] {
          start_one_waiter();
          std::atomic<int> ready{0};
          for (int i = 0; i < 8; ++i) {
            go([&ready, i] {
              ++ready;
              while (ready < 4) this_task::yield();
              if (i % 2 == 0) throw std::runtime_error("the death of a task");
              base::fatalf("the death of all tasks");
            });
          }
          for (;;) this_task::sleep_for(std::chrono::seconds(1));
        });
      },
      ::testing::ExitedWithCode(2), ::testing::Truly([](const std::string& text) {
        return times(text, "the death of") == 1 && times(text, "goroutine 1 [") == 1 &&
               times(text, "waits_for_ever") >= 1;
      }));
}

[[gnu::noinline]] void computes(const std::atomic<bool>& stop) {
  while (!stop.load(std::memory_order_relaxed)) asm volatile("");
}

// The one that does not give way is reported once, however long it goes on; one that is in a
// declared blocking call is not.
TEST_F(Reports, LongrunNamesTheTaskThatDoesNotGiveWay) {
  WEFT_NEEDS_PROMPT_SIGNALS();
  EXPECT_EXIT(
      {
        ::setenv("WEFT_DEBUG", "longrun=40", 1);
        prof::install_reports();
        run({.max_procs = 3}, [] {
          std::atomic<bool> stop{false};
          wait_group wg;
          wg.go([&] { computes(stop); });
          chan<int> gate(0);
          wg.go([gate] {
            // Blocks its thread until long after the report about the other task.
            blocking([gate] { std::thread([gate] { gate.recv(); }).join(); });
          });
          while (sched::longrun_reports() == 0) this_task::sleep_for(std::chrono::milliseconds(5));
          this_task::sleep_for(std::chrono::milliseconds(200));
          gate.send(1);
          stop = true;
          wg.wait();
        });
        base::write_stderr("END\n", 4);
        ::_exit(0);
      },
      ::testing::ExitedWithCode(0), ::testing::Truly([](const std::string& text) {
        size_t first = text.find("::computes(...)");
        return report_is({"weft: longrun: task ", " ms without giving way\ngoroutine ", "END\n"},
                         {"weft::blocking"})(text) &&
               first != std::string::npos &&
               text.find("::computes(...)", first + 1) == std::string::npos;
      }));
}

TEST_F(Reports, ADeadlockShowsAllTasksAlsoUnderSingle) {
  EXPECT_EXIT(
      {
        ::setenv("WEFT_TRACEBACK", "single", 1);
        prof::install_reports();
        run({.max_procs = 2}, [] {
          start_one_waiter();
          chan<int>{}.recv();
        });
      },
      ::testing::ExitedWithCode(2),
      "^fatal error: all tasks are asleep - deadlock!\n\ngoroutine 1 \\[chan receive \\(nil "
      "chan\\)\\]:\n(.|\n)*waits_for_ever");
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
