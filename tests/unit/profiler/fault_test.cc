// What a process says, and how it dies, when an instruction of its faults. Each in a child process.
#include "scheduler/fault.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weft/weft.h>

#include <thread>

#include "profiler/fault_report.h"
#include "scheduler/park.h"
#include "scheduler/stack_memory.h"

namespace weft {
namespace {

// Not a tail call, and no compiler sees that it will not end in time.
[[gnu::noinline]] uint64_t fall_for_ever(volatile uint64_t* above) {
  volatile uint64_t here[16];
  here[0] = *above + 1;
  if (here[0] == 0) return 0;
  uint64_t below = fall_for_ever(here);
  return below + here[0];
}

[[gnu::noinline]] void overflow_now() {
  volatile uint64_t zero = 0;
  fall_for_ever(&zero);
}

int compare_by_sorting(const void*, const void*);
[[gnu::noinline]] int sort_again(int depth) {
  int values[2] = {depth, 0};
  ::qsort(values, 2, sizeof(int), compare_by_sorting);
  return values[0];
}
[[gnu::noinline]] int compare_by_sorting(const void* a, const void* b) {
  return sort_again(*static_cast<const int*>(a) + 1) - *static_cast<const int*>(b);
}

int* volatile g_null = nullptr;
__attribute__((noinline, no_sanitize("undefined"))) void write_through_null() {
  *g_null = 1;
  asm volatile("");
}

void (*volatile g_no_function)() = nullptr;
__attribute__((noinline, no_sanitize("undefined"))) void call_through_null() {
  g_no_function();
  asm volatile("");
}

volatile int g_one = 1;
volatile int g_zero = 0;
__attribute__((noinline, no_sanitize("undefined"))) void divide_by_zero() {
  volatile int quotient = g_one / g_zero;
  static_cast<void>(quotient);
}

void run_with_reports(void (*body)()) {
  prof::install_fault_reports();
  run({.max_procs = 2}, body);
  ::_exit(0);
}

class Fault : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

const auto dies_of_segv = ::testing::KilledBySignal(SIGSEGV);
const auto exits_2 = ::testing::ExitedWithCode(2);

#if WEFT_ASAN || WEFT_TSAN
// The sanitizer's handler was there before ours, and ours calls it.
#define WEFT_NEEDS_PLAIN_FAULTS() GTEST_SKIP() << "the sanitizer reports faults itself"
#else
#define WEFT_NEEDS_PLAIN_FAULTS() static_cast<void>(0)
#endif

TEST_F(Fault, OverflowOfTheMainTask) {
  EXPECT_EXIT(run_with_reports([] { overflow_now(); }), exits_2,
              "runtime: task stack exceeds [0-9]+-byte limit\n"
              "runtime: sp=0x[0-9a-f]+ stack=\\[0x[0-9a-f]+, 0x[0-9a-f]+\\]\n"
              "fatal error: stack overflow\n\n"
              "runtime: task 1 has a stack of class standard, [0-9]+ bytes usable(.|\n)*"
              "goroutine 1 \\[running\\]:\n"
              ".*fall_for_ever(.|\n)*"
              "\\.\\.\\.[0-9]+ frames elided\\.\\.\\.\n"
              "(.|\n)*fall_for_ever(.|\n)*overflow_now");
}

TEST_F(Fault, OverflowOfANamedCompactTaskSaysWhereItWasStarted) {
  EXPECT_EXIT(run_with_reports([] {
                go({.name = "small", .stack = stack_class::compact}, [] { overflow_now(); });
                for (;;) this_task::sleep_for(std::chrono::seconds(1));
              }),
              exits_2,
              "fatal error: stack overflow\n\n"
              "runtime: task [0-9]+ has a stack of class compact, [0-9]+ bytes usable(.|\n)*"
              "goroutine [0-9]+ \\[running, name \"small\"\\]:\n"
              "(.|\n)*overflow_now(.|\n)*created by .* in goroutine 1\n");
}

TEST_F(Fault, OverflowOfAStackOfTheProgramsSize) {
  EXPECT_EXIT(run_with_reports(
                  [] { spawn({.stack_size = size_t{200} << 10}, [] { overflow_now(); }).join(); }),
              exits_2, "has a stack of class 256 KiB");
}

TEST_F(Fault, OverflowThroughFramesOfLibc) {
  EXPECT_EXIT(run_with_reports(
                  [] { spawn({.stack = stack_class::compact}, [] { sort_again(1); }).join(); }),
              exits_2,
              "fatal error: stack overflow(.|\n)*compare_by_sorting(.|\n)*qsort(.|\n)*frames "
              "elided(.|\n)*created by");
}

TEST_F(Fault, OverflowInABlockingCall) {
  EXPECT_EXIT(run_with_reports([] { blocking([] { overflow_now(); }); }), exits_2,
              "fatal error: stack overflow(.|\n)*goroutine 1 \\[running\\]:\n");
}

TEST_F(Fault, AWildPointerIntoAGuardIsToldFromAnOverflow) {
  EXPECT_EXIT(run_with_reports([] {
                static char* volatile guard;
                chan<int> never(0);
                go({.name = "the owner"}, [never] {
                  char here = 0;
                  const auto at = reinterpret_cast<uintptr_t>(&here);
                  guard = sched::slot_at(*sched::find_slab(at), at).base;
                  chan<int>(never).recv();
                });
                while (guard == nullptr) this_task::yield();
                guard[8] = 1;
              }),
              dies_of_segv,
              "fatal error: wild access into the guard of task [0-9]+'s stack\n"
              "\\[signal SIGSEGV: segmentation violation code=0x1 addr=0x[0-9a-f]+ pc=0x[0-9a-f]+"
              "\\]\n\ngoroutine 1 \\[running\\]:\n");
}

TEST_F(Fault, ANullDereferenceShowsTheTaskAndDiesOfTheSignal) {
  WEFT_NEEDS_PLAIN_FAULTS();
  EXPECT_EXIT(run_with_reports([] { write_through_null(); }), dies_of_segv,
              "panic: runtime error: invalid memory address or nil pointer dereference\n"
              "\\[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x[0-9a-f]+\\]\n\n"
              "goroutine 1 \\[running\\]:\n"
              ".*write_through_null");
}

TEST_F(Fault, ANullDereferenceOnAPlainThread) {
  WEFT_NEEDS_PLAIN_FAULTS();
  EXPECT_EXIT(run_with_reports([] { std::thread(write_through_null).join(); }), dies_of_segv,
              "\\[signal SIGSEGV: (.|\n)*goroutine 0 \\[running, name \"thread .*\"\\]:\n"
              ".*write_through_null");
}

TEST_F(Fault, ACallThroughANullPointerShowsTheCaller) {
  WEFT_NEEDS_PLAIN_FAULTS();
  EXPECT_EXIT(run_with_reports([] { call_through_null(); }), dies_of_segv,
              "pc=0x0\\]\n\ngoroutine 1 \\[running\\]:\n.*call_through_null");
}

TEST_F(Fault, ADivisionByZero) {
  WEFT_NEEDS_PLAIN_FAULTS();
  EXPECT_EXIT(run_with_reports([] { divide_by_zero(); }), ::testing::KilledBySignal(SIGFPE),
              "panic: runtime error: integer divide by zero\n"
              "\\[signal SIGFPE: floating-point exception code=0x1");
}

TEST_F(Fault, ASignalThatSomebodySentIsSaidToBe) {
  WEFT_NEEDS_PLAIN_FAULTS();
  EXPECT_EXIT(run_with_reports([] {
                ::kill(::getpid(), SIGSEGV);
                for (;;) this_task::sleep_for(std::chrono::seconds(1));
              }),
              dies_of_segv, "SIGSEGV: segmentation violation, sent by process [0-9]+\n");
}

TEST_F(Fault, MayEndTheProcessWithStatus2Instead) {
  WEFT_NEEDS_PLAIN_FAULTS();
  EXPECT_EXIT(
      {
        ::setenv("WEFT_FAULT", "exit", 1);
        run_with_reports([] { write_through_null(); });
      },
      exits_2, "SIGSEGV(.|\n)*write_through_null");
}

TEST_F(Fault, MayBeSwitchedOff) {
  WEFT_NEEDS_PLAIN_FAULTS();
  EXPECT_EXIT(
      {
        ::setenv("WEFT_FAULT", "off", 1);
        run_with_reports([] { overflow_now(); });
      },
      dies_of_segv, "^$");
}

void programs_handler(int, siginfo_t* info, void*) { ::_exit(info->si_addr == nullptr ? 7 : 8); }

void install_programs_handler() {
  struct sigaction action {};
  action.sa_sigaction = programs_handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGSEGV, &action, nullptr);
}

TEST_F(Fault, TheProgramsHandlerFromBeforeRunsWithItsArguments) {
  EXPECT_EXIT(
      {
        install_programs_handler();
        run_with_reports([] { write_through_null(); });
      },
      ::testing::ExitedWithCode(7), "^$");
}

TEST_F(Fault, TheProgramsHandlerFromLaterRuns) {
  EXPECT_EXIT(run_with_reports([] {
                install_programs_handler();
                write_through_null();
              }),
              ::testing::ExitedWithCode(7), "^$");
}

TEST_F(Fault, AnOverflowIsNotTheProgramsHandlersAffair) {
  EXPECT_EXIT(
      {
        install_programs_handler();
        run_with_reports([] { overflow_now(); });
      },
      exits_2, "fatal error: stack overflow");
}

TEST_F(Fault, TwoThreadsAtOnceGiveOneReport) {
  WEFT_NEEDS_PLAIN_FAULTS();
  EXPECT_EXIT(run_with_reports([] {
                std::thread other(write_through_null);
                write_through_null();
                other.join();
              }),
              dies_of_segv, "^panic: [^\n]*\n\\[signal [^\n]*\n\ngoroutine ");
}

TEST_F(Fault, AReportThatFaultsIsReplacedByAddresses) {
  WEFT_NEEDS_PLAIN_FAULTS();
  EXPECT_EXIT(
      {
        prof::install_fault_reports();
        sched::fault_port port = sched::current_fault_port();
        port.report = [](const sched::fault_record&, int) { write_through_null(); };
        sched::set_fault_port(port);
        run([] { write_through_null(); });
      },
      dies_of_segv, "weft: the report failed; without names:\npanic: (.|\n)*\t0x[0-9a-f]+\n");
}

// The thread that reports is the parent's.
TEST_F(Fault, AForkedChildDiesWithoutAReport) {
  WEFT_NEEDS_PLAIN_FAULTS();
  EXPECT_EXIT(run_with_reports([] {
                pid_t child = ::fork();
                if (child == 0) write_through_null();
                int status = 0;
                if (::waitpid(child, &status, 0) != child) ::_exit(1);
                ::_exit(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV ? 42 : 2);
              }),
              ::testing::ExitedWithCode(42), "^$");
}

// The reporter hangs, as it does when the fault came from inside the allocator.
TEST_F(Fault, AReportThatDoesNotEndIsReplacedByAddresses) {
  WEFT_NEEDS_PLAIN_FAULTS();
  EXPECT_EXIT(
      {
        prof::install_fault_reports();
        sched::fault_port port = sched::current_fault_port();
        port.report = [](const sched::fault_record&, int) {
          for (;;) ::pause();
        };
        sched::set_fault_port(port);
        sched::g_fault_patience_ns = 1'000'000;
        run({.max_procs = 1}, [] { write_through_null(); });
      },
      dies_of_segv,
      "without names:\npanic: runtime error: (.|\n)*\\[signal SIGSEGV: [^\n]*\n\t0x[0-9a-f]+\n");
}

}  // namespace
}  // namespace weft
