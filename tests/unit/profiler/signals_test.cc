// The runtime's handlers beside the program's own. Each case is a process of its own.
#include "scheduler/signals.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <weft/pprof.h>
#include <weft/run.h>

#include <sstream>

#include "profiler/capture.h"
#include "profiler/cpu_sampler.h"
#include "profiler/reports.h"
#include "tests/unit/in_child.h"

namespace weft::prof {
namespace {

class Signals : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

void install_all() {
  install_reports();
  install_capture_signal();
  std::ostringstream out;
  pprof::start_cpu_profile(out);
  pprof::stop_cpu_profile();
}

bool is_ours(int signo) {
  struct sigaction now {};
  ::sigaction(signo, nullptr, &now);
  constexpr int flags = SA_RESTART | SA_ONSTACK;
  return now.sa_handler != SIG_DFL && (now.sa_flags & flags) == flags;
}

volatile sig_atomic_t g_programs_own = 0;
void programs_own(int) { g_programs_own = g_programs_own + 1; }
void programs_own_info(int, siginfo_t* info, void* context) {
  if (info != nullptr && context != nullptr) g_programs_own = g_programs_own + 1;
}

TEST_F(Signals, EveryHandlerRestartsCallsAndUsesTheSignalStack) {
  IN_CHILD({
    ::unsetenv("WEFT_SIGNALS");
    install_all();
    for (int signo : {SIGURG, SIGPROF, SIGQUIT}) EXPECT_TRUE(is_ours(signo)) << signo;
  });
}

TEST_F(Signals, TheProgramsOwnHandlersStillGetTheirs) {
  IN_CHILD({
    ::signal(SIGURG, programs_own);
    struct sigaction action {};
    action.sa_sigaction = programs_own_info;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGPROF, &action, nullptr);
    ::signal(SIGQUIT, programs_own);
    install_all();
    ::raise(SIGURG);
    EXPECT_EQ(g_programs_own, 1);
    ::raise(SIGPROF);
    EXPECT_EQ(g_programs_own, 2);
    ::raise(SIGQUIT);
    EXPECT_EQ(g_programs_own, 3);
  });
}

TEST_F(Signals, OnesThatAreNobodysAreDropped) {
  IN_CHILD({
    install_all();
    ::raise(SIGPROF);
    ::raise(SIGURG);
  });
}

TEST_F(Signals, CanBeMovedToOthers) {
  IN_CHILD({
    ::setenv("WEFT_SIGNALS", "capture=40,profile=41", 1);
    install_all();
    EXPECT_TRUE(is_ours(40));
    EXPECT_TRUE(is_ours(41));
    EXPECT_FALSE(is_ours(SIGURG));
    EXPECT_FALSE(is_ours(SIGPROF));
  });
  EXPECT_EXIT(
      {
        ::setenv("WEFT_SIGNALS", "capture=9", 1);
        install_all();
      },
      testing::ExitedWithCode(2),
      "fatal error: WEFT_SIGNALS: capture=9: it must be capture=NUMBER or profile=NUMBER");
}

TEST_F(Signals, OnesThatCannotBeTheRuntimesAreRefused) {
  const auto refused = [](const char* value, const char* message) {
    EXPECT_EXIT(
        {
          ::setenv("WEFT_SIGNALS", value, 1);
          install_all();
          ::_exit(0);
        },
        testing::ExitedWithCode(2), message);
  };
  refused("capture=40,profile=40", "capture and profile are both signal 40");
  refused("capture=27", "capture and profile are both signal 27");  // the other one's default
  refused("profile=33", "profile=33: the C library uses this signal");
  refused("capture=11", "capture=11: this signal reports faults");
  refused("capture=3", "capture=3: this signal reports faults");
}

TEST_F(Signals, ASecondHandlerForOneSignalIsRefused) {
  EXPECT_EXIT(
      {
        const auto handler = [](siginfo_t*, void*) noexcept { return true; };
        sched::install_signal(40, handler);
        sched::install_signal(40, handler);
      },
      testing::ExitedWithCode(2), "signal 40 has a handler of the runtime's already");
}

TEST_F(Signals, AHandlerForOneTimeIsCalledOnce) {
  IN_CHILD({
    struct sigaction action {};
    action.sa_handler = programs_own;
    action.sa_flags = SA_RESETHAND;
    ::sigaction(SIGPROF, &action, nullptr);
    install_all();
    ::raise(SIGPROF);
    ::raise(SIGPROF);
    EXPECT_EQ(g_programs_own, 1);
  });
}

// As programs do that take their signals by sigwait().
TEST_F(Signals, CpuProfilesWorkWhenMainBlocksEverything) {
  IN_CHILD({
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    size_t samples = 0;
    run([&] {
      cpu_consumer profile(1000);
      timespec used{};
      do {
        ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
      } while (used.tv_sec == 0 && used.tv_nsec < 500'000'000);
      samples = profile.stop().samples.size();
    });
    EXPECT_GT(samples, 0u);
  });
}

}  // namespace
}  // namespace weft::prof
