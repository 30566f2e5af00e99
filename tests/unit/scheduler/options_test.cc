// Options are read once, at the first look; so each case is a process of its own.
#include "base/options.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <weft/run.h>

#include <cstdio>
#include <string>

#include "scheduler/runtime_control.h"

namespace weft::base {
namespace {

#define IN_CHILD(...)                                 \
  EXPECT_EXIT(                                        \
      {                                               \
        __VA_ARGS__;                                  \
        ::_exit(testing::Test::HasFailure() ? 1 : 0); \
      },                                              \
      testing::ExitedWithCode(0), "")

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
