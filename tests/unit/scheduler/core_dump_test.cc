// What a dying process does about its core file. Whether debuggers find the stacks there is tested
// by tests/gdb.
#include "scheduler/core_dump.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>
#include <weft/weft.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "base/check.h"
#include "scheduler/park.h"

namespace weft::sched {
namespace {

// For the child process of a death test. Its core is wanted by the limit and unwanted by its size,
// so that everything is prepared and next to nothing written.
void want_a_tiny_core() {
  rlimit tiny{};
  ::getrlimit(RLIMIT_CORE, &tiny);
  tiny.rlim_cur = 1;
  ::setrlimit(RLIMIT_CORE, &tiny);
}

class CoreDumpDeathTest : public ::testing::Test {
 protected:
  // The child starts the program anew, without the threads of tests that ran before.
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

[[noreturn]] void park_some_and(int parked, const std::function<int()>& then) {
  options o;
  o.max_procs = 2;
  run(o, [&] {
    chan<int> never(0);
    for (int i = 0; i < parked; ++i) go([never]() mutable { never.recv(); });
    auto waiting = [] {
      int n = 0;
      for_each_task(
          [](task& t, void* arg) {
            if (!t.foreign && status_of(t.state.load()) == task_status::waiting)
              ++*static_cast<int*>(arg);
          },
          &n);
      return n;
    };
    while (waiting() < parked) this_task::yield();
    ::_exit(then());
  });
  ::_exit(99);
}

TEST_F(CoreDumpDeathTest, EveryParkedTaskIsInPlaceOrCopiedOrCountedMissing) {
  auto body = [] {
    want_a_tiny_core();
    g_core_dump_limits = {5, 16384, 4096};
    park_some_and(100, [] {
      prepare_core_dump();
      const core_dump_index& d = g_core_dump;
      if (d.prepared_ns == 0) return 1;
      if (d.copy_count < 5 || d.missing == 0) return 2;
      if (d.in_place != 1 + 5) return 3;  // this task and five parked ones
      return d.in_place + d.copy_count + d.missing == 101 ? 42 : 4;
    });
  };
  EXPECT_EXIT(body(), ::testing::ExitedWithCode(42), "");
}

// Red zones of other tasks' frames are none of AddressSanitizer's business here.
[[gnu::no_sanitize_address]] uintptr_t word_at(uint64_t address) {
  return *reinterpret_cast<const volatile uintptr_t*>(address);
}

TEST_F(CoreDumpDeathTest, CopiesAreRelocatedAndOtherwiseEqual) {
  auto body = [] {
    want_a_tiny_core();
    g_core_dump_limits.max_ranges = 0;
    park_some_and(20, [] {
      prepare_core_dump();
      if (g_core_dump.copy_count != 20) return 1;
      for (uint64_t i = 0; i < g_core_dump.copy_count; ++i) {
        const stack_copy& c = g_core_dump.copies[i];
        int moved = 0;
        for (uint64_t at = 0; at + sizeof(uintptr_t) <= c.size; at += sizeof(uintptr_t)) {
          uintptr_t was = word_at(c.sp + at);
          bool own = was >= c.sp && was < c.sp + c.size;
          if (word_at(c.copy + at) != (own ? was - c.sp + c.copy : was)) return 2;
          moved += own;
        }
        if (moved == 0 || c.copy % 16 != 0) return 3;  // a frame pointer at least
      }
      return 42;
    });
  };
  EXPECT_EXIT(body(), ::testing::ExitedWithCode(42), "");
}

TEST_F(CoreDumpDeathTest, NothingIsPreparedForACoreThatWillNotBeWritten) {
  auto body = [] {
    want_a_tiny_core();
    rlimit none{};
    ::setrlimit(RLIMIT_CORE, &none);
    park_some_and(3, [] {
      prepare_core_dump();
      char piped = 0;
      FILE* f = std::fopen("/proc/sys/kernel/core_pattern", "re");
      if (f == nullptr || std::fread(&piped, 1, 1, f) != 1) return 1;
      std::fclose(f);
      return (g_core_dump.prepared_ns != 0) == (piped == '|') ? 42 : 2;
    });
  };
  EXPECT_EXIT(body(), ::testing::ExitedWithCode(42), "");
}

TEST_F(CoreDumpDeathTest, FatalErrorsPrepareTheCoreOfTracebackCrash) {
  auto body = [] {
    want_a_tiny_core();
    ::setenv("WEFT_TRACEBACK", "crash", 1);
    static base::crash_hook by_run;
    park_some_and(3, [] {
      by_run = base::set_crash_hook([]() noexcept {
        by_run();
        if (g_core_dump.in_place == 1 + 3) base::log_line("all stacks are in the core");
      });
      base::fatal("meant");
      return 1;
    });
  };
  EXPECT_EXIT(body(), ::testing::KilledBySignal(SIGABRT),
              "fatal error: meant(.|\n)*all stacks are in the core");
}

TEST_F(CoreDumpDeathTest, DefaultActionIsTakenAfterwards) {
  for (int signal : {SIGABRT, SIGSEGV, SIGFPE, SIGILL, SIGXCPU}) {
    auto body = [signal] {
      want_a_tiny_core();
      for (int s : {SIGABRT, SIGSEGV, SIGFPE, SIGILL}) ::signal(s, SIG_DFL);  // a sanitizer's own
      park_some_and(3, [signal] {
        signal == SIGABRT ? std::abort() : static_cast<void>(::raise(signal));
        return 1;
      });
    };
    EXPECT_EXIT(body(), ::testing::KilledBySignal(signal), "");
  }
}

TEST_F(CoreDumpDeathTest, HandlerOfTheProgramIsAskedAndMayGoOn) {
  auto body = [] {
    want_a_tiny_core();
    static volatile sig_atomic_t seen = 0;
    ::signal(SIGABRT, [](int) { seen = seen + 1; });
    ::signal(SIGILL, SIG_IGN);
    park_some_and(3, [] {
      ::raise(SIGABRT);
      ::raise(SIGABRT);
      ::raise(SIGILL);
      if (seen != 2) return 1;
      // Parked tasks can still run.
      return spawn([] { return 42; }).join();
    });
  };
  EXPECT_EXIT(body(), ::testing::ExitedWithCode(42), "");
}

TEST_F(CoreDumpDeathTest, HandlerOfTheProgramForOneTimeIsCalledOnce) {
  auto body = [] {
    want_a_tiny_core();
    struct sigaction once {};
    once.sa_handler = [](int) {};
    once.sa_flags = SA_RESETHAND;
    ::sigaction(SIGXCPU, &once, nullptr);
    park_some_and(3, [] {
      ::raise(SIGXCPU);
      ::raise(SIGXCPU);
      return 1;
    });
  };
  EXPECT_EXIT(body(), ::testing::KilledBySignal(SIGXCPU), "");
}

TEST_F(CoreDumpDeathTest, HandledSignalsChangeTheCoreAFewTimesOnly) {
  auto body = [] {
    want_a_tiny_core();
    ::signal(SIGXCPU, [](int) {});
    park_some_and(3, [] {
      for (int i = 0; i < 1000; ++i) ::raise(SIGXCPU);
      return g_core_dump.in_place == 16 ? 42 : 1;
    });
  };
  EXPECT_EXIT(body(), ::testing::ExitedWithCode(42), "");
}

}  // namespace
}  // namespace weft::sched
