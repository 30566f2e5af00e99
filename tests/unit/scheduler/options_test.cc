// Options are read once, at the first look; so each case is a process of its own.
#include "base/options.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>
#include <weft/run.h>
#include <weft/task.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "scheduler/runtime_control.h"
#include "tests/unit/in_child.h"

namespace weft::base {
namespace {

TEST(DebugSwitch, NamesValuesAndBareNames) {
  IN_CHILD({
    ::setenv("WEFT_DEBUG", "schedtrace=1000,bare,empty=,last=x=y", 1);
    EXPECT_EQ(debug_switch("schedtrace"), "1000");
    EXPECT_EQ(debug_switch("bare"), "1");
    EXPECT_EQ(debug_switch("empty"), "");
    EXPECT_EQ(debug_switch("last"), "x=y");
    EXPECT_EQ(debug_switch("sched"), "");
    EXPECT_EQ(debug_switch("schedtrace1"), "");
    EXPECT_EQ(debug_switch("1000"), "");
  });
}

TEST(DebugSwitch, AbsentWithoutTheVariable) {
  IN_CHILD({
    ::unsetenv("WEFT_DEBUG");
    EXPECT_EQ(debug_switch("bare"), "");
  });
}

TEST(DebugSwitch, UnknownOnesNameTheNearest) {
  EXPECT_EXIT(
      {
        ::setenv("WEFT_DEBUG", "deadlock=off,shedtrace=5", 1);
        run([] {});
      },
      testing::ExitedWithCode(2),
      "^fatal error: WEFT_DEBUG: unknown switch \"shedtrace\"; the nearest known one is "
      "\"schedtrace\" \\(WEFT_DEBUG=help lists all\\)\n");
}

TEST(DebugSwitch, BadNumbersAreNamed) {
  EXPECT_EXIT(
      {
        ::setenv("WEFT_DEBUG", "schedtrace=often", 1);
        run([] {});
      },
      testing::ExitedWithCode(2),
      "WEFT_DEBUG: schedtrace=often: the value must be a whole number of at least 1");
}

// Go 1.19's lines, byte for byte where they do not carry numbers.
TEST(DebugSwitch, SchedtraceLines) {
  EXPECT_EXIT(
      {
        ::setenv("WEFT_DEBUG", "schedtrace=1", 1);
        run({.max_procs = 2}, [] { this_task::sleep_for(std::chrono::milliseconds(30)); });
        ::_exit(0);
      },
      testing::ExitedWithCode(0),
      "^(SCHED [0-9]+ms: gomaxprocs=2 idleprocs=[0-2] threads=[0-9]+ spinningthreads=[0-9]+ "
      "idlethreads=[0-9]+ runqueue=[0-9]+ \\[[0-9]+ [0-9]+\\]\n)+$");
}

TEST(DebugSwitch, ScheddetailLines) {
  EXPECT_EXIT(
      {
        ::setenv("WEFT_DEBUG", "schedtrace=1,scheddetail=1", 1);
        run({.max_procs = 2}, [] { this_task::sleep_for(std::chrono::milliseconds(30)); });
        ::_exit(0);
      },
      testing::ExitedWithCode(0),
      "SCHED [0-9]+ms: gomaxprocs=2 idleprocs=[0-2] threads=[0-9]+ spinningthreads=[0-9]+ "
      "idlethreads=[0-9]+ runqueue=[0-9]+ gcwaiting=0 nmidlelocked=0 stopwait=0 sysmonwait=[01]\n"
      "  P0: status=[013] schedtick=[0-9]+ syscalltick=0 m=-?[0-9]+ runqsize=[0-9]+ gfreecnt=-1 "
      "timerslen=[0-9]+\n"
      "  P1: [^\n]*\n"
      "(  M[0-9]+: p=-?[0-9]+ curg=-?[0-9]+ mallocing=0 throwing=0 preemptoff= locks=[01] dying=0 "
      "spinning=(true|false) blocked=(true|false) lockedg=-1\n)+"
      "(  G[0-9]+: [^\n]*\n)*"
      "  G1: status=4\\(sleep\\) m=-1 lockedm=-1\n");
}

TEST(DebugSwitch, HelpListsOptionsAndSwitches) {
  EXPECT_EXIT(
      {
        ::setenv("WEFT_DEBUG", "help", 1);
        ::dup2(STDERR_FILENO, STDOUT_FILENO);
        run([] {});
      },
      testing::ExitedWithCode(0),
      "WEFT_TRACEBACK (.|\n)*Switches of WEFT_DEBUG(.|\n)*\n  schedtrace=MS ");
}

TEST(Options, EnvironmentWinsOverTheDefaultAndIsReadOnce) {
  IN_CHILD({
    ::unsetenv("WEFT_IO");
    ::setenv("WEFT_SIGQUIT", "dump", 1);
    EXPECT_EQ(option_value(option::WEFT_SIGQUIT), "dump");
    EXPECT_EQ(option_value(option::WEFT_IO), "");
    ::setenv("WEFT_SIGQUIT", "off", 1);
    EXPECT_EQ(option_value(option::WEFT_SIGQUIT), "dump");
  });
  IN_CHILD({
    ::unsetenv("WEFT_SIGQUIT");
    EXPECT_EQ(option_value(option::WEFT_SIGQUIT), "exit");
  });
}

TEST(Options, MaxProcsOverridesTheMachine) {
  IN_CHILD({
    ::setenv("WEFT_MAXPROCS", "37", 1);
    EXPECT_EQ(sched::default_max_procs(), 37);
  });
}

TEST(Options, BadMaxProcsIsNamedAndIgnored) {
  for (const char* bad : {"0", "-3", "1025", "many", "4x"}) {
    EXPECT_EXIT(
        {
          ::setenv("WEFT_MAXPROCS", bad, 1);
          ::_exit(sched::default_max_procs() >= 1 && sched::default_max_procs() < 1025 ? 0 : 1);
        },
        testing::ExitedWithCode(0),
        std::string("weft: WEFT_MAXPROCS=") + bad + " ignored: it must be a number from 1 to 1024");
  }
}

TEST(Options, HelpPrintsTheTableAndEndsTheProgram) {
  EXPECT_EXIT(
      {
        ::setenv("WEFT_DEBUG", "help", 1);
        ::dup2(2, 1);  // the death test reads stderr
        run([] { ::_exit(1); });
      },
      testing::ExitedWithCode(0), "WEFT_MAXPROCS .*default");
}

}  // namespace
}  // namespace weft::base
