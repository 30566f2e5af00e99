// The detectors of WEFT_DEBUG that look at locks and channels. Each in a child process, which goes
// on after the report; longrun is in reports_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>
#include <weft/weft.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <new>
#include <shared_mutex>
#include <string>
#include <vector>

#include "base/check.h"
#include "profiler/reports.h"
#include "scheduler/detectors.h"

namespace weft {
namespace {

class Detectors : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// Matches a report with each of `once` exactly once and none of `absent`.
auto report_is(std::vector<std::string> once, std::vector<std::string> absent) {
  return ::testing::Truly([=](const std::string& text) {
    for (const std::string& part : once) {
      if (count(text, part) != 1) return false;
    }
    for (const std::string& part : absent) {
      if (count(text, part) != 0) return false;
    }
    return true;
  });
}

template <class F>
[[noreturn]] void run_with(const char* switches, F f) {
  ::setenv("WEFT_DEBUG", switches, 1);
  prof::install_reports();
  run({.max_procs = 2}, f);
  base::write_stderr("END\n", 4);
  ::_exit(0);
}

template <class A, class B>
[[gnu::noinline]] void one_way(A& a, B& b) {
  std::lock_guard first(a);
  std::lock_guard second(b);
}
template <class A, class B>
[[gnu::noinline]] void the_other_way(A& a, B& b) {
  std::lock_guard first(b);
  std::lock_guard second(a);
}

constexpr const char* inversion = "weft: lockorder: locks are taken in different orders\n";

TEST_F(Detectors, LockorderShowsBothStacksOfAnInversionOnce) {
  auto child = [] {
    run_with("lockorder", [] {
      mutex a;
      mutex b;
      for (int i = 0; i < 3; ++i) {
        spawn([&] { one_way(a, b); }).join();
        spawn([&] { the_other_way(a, b); }).join();
      }
    });
  };
  EXPECT_EXIT(
      child(), ::testing::ExitedWithCode(0),
      report_is({inversion, " wants ", " wanted ", "::one_way<", "::the_other_way<", "END\n"}, {}));
}

[[gnu::noinline]] void takes(mutex& first, mutex& second) {
  std::lock_guard outer(first);
  std::lock_guard inner(second);
}

TEST_F(Detectors, LockorderFindsCyclesOfThree) {
  auto child = [] {
    run_with("lockorder", [] {
      mutex m[3];
      for (int i = 0; i < 3; ++i) spawn([&m, i] { takes(m[i], m[(i + 1) % 3]); }).join();
    });
  };
  EXPECT_EXIT(child(), ::testing::ExitedWithCode(0), ::testing::Truly([](const std::string& text) {
                return count(text, inversion) == 1 && count(text, " wanted ") == 2 &&
                       count(text, "::takes(") == 3;
              }));
}

TEST_F(Detectors, LockorderKnowsSharedAndRecursiveMutexes) {
  auto child = [] {
    run_with("lockorder", [] {
      recursive_mutex a;
      shared_mutex b;
      std::lock_guard outer(a);
      {
        std::lock_guard again(a);
        std::shared_lock reading(b);
      }
      a.unlock();
      {
        std::lock_guard writing(b);
        a.lock();
        a.unlock();
      }
      a.lock();
    });
  };
  EXPECT_EXIT(child(), ::testing::ExitedWithCode(0),
              report_is({inversion, " wants ", " wanted ", "END\n"}, {}));
}

// Right orders, locks that were only tried, and a new lock where another one was.
TEST_F(Detectors, LockorderIsSilentWhereNothingIsWrong) {
  auto child = [] {
    run_with("lockorder", [] {
      mutex a;
      mutex b;
      one_way(a, b);
      one_way(a, b);
      {
        std::lock_guard hold(b);
        if (a.try_lock()) a.unlock();
        if (a.try_lock_for(std::chrono::hours(1))) a.unlock();
      }
      shared_mutex s;
      std::shared_lock reading(s);
      reading.unlock();
      one_way(a, b);
      alignas(mutex) std::byte room[sizeof(mutex)];
      auto* first = new (room) mutex;
      one_way(a, *first);
      std::destroy_at(first);
      auto* second = new (room) mutex;
      the_other_way(a, *second);
      // Unlocked by another than the one that locked it.
      b.lock();
      spawn([&] { b.unlock(); }).join();
      one_way(a, b);
    });
  };
  EXPECT_EXIT(child(), ::testing::ExitedWithCode(0), report_is({"END\n"}, {"lockorder"}));
}

// The inversion is told before it blocks for ever.
TEST_F(Detectors, LockorderReportsTheDeadlockItself) {
  auto child = [] {
    run_with("lockorder", [] {
      mutex a;
      mutex b;
      chan<int> locked(0);
      chan<int> both_are(0);
      auto take = [locked, both_are](mutex& x, mutex& y) {
        std::lock_guard first(x);
        locked.send(1);
        both_are.recv();
        std::lock_guard second(y);
      };
      go([&] { take(a, b); });
      auto h = spawn([&] { take(b, a); });
      locked.recv();
      locked.recv();
      both_are.send(1);
      both_are.send(1);
      h.join();
    });
  };
  EXPECT_EXIT(child(), ::testing::ExitedWithCode(2),
              report_is({inversion, "all tasks are asleep"}, {"END\n"}));
}

[[gnu::noinline]] void waits_on_nil() {
  chan<int>{}.recv();
  asm volatile("");
}
[[gnu::noinline]] void selects_nothing() {
  chan<int> none;
  select(on_recv(none, [](std::optional<int>) {}));
  asm volatile("");
}

TEST_F(Detectors, ChandeadReportsWhatCanNeverComplete) {
  auto child = [] {
    run_with("chandead=5", [] {
      chan<int> quiet(0);
      chan<int> none;
      go([] { waits_on_nil(); });
      go([] { selects_nothing(); });
      // Neither is certain: somebody may send, and the limit ends.
      go([quiet] { quiet.recv(); });
      go([none] { static_cast<void>(none.recv_for(std::chrono::hours(1))); });
      while (sched::chandead_reports() < 2) this_task::sleep_for(std::chrono::milliseconds(2));
      this_task::sleep_for(std::chrono::milliseconds(50));
    });
  };
  EXPECT_EXIT(child(), ::testing::ExitedWithCode(0), ::testing::Truly([](const std::string& text) {
                return count(text, "weft: chandead: ") == 2 && count(text, "END\n") == 1 &&
                       count(text, "chan receive (nil chan) can never complete\ngoroutine ") == 1 &&
                       count(text, "select (no cases) can never complete\ngoroutine ") == 1 &&
                       count(text, "::waits_on_nil(...)\n") == 1 &&
                       count(text, "::selects_nothing(...)\n") == 1;
              }));
}

// Two libraries that stand in front of the same function of libc do not go together.
#if !WEFT_TSAN && !WEFT_ASAN
[[gnu::noinline]] void parks_with(std::mutex& m, const chan<int>& c) {
  std::lock_guard hold(m);
  c.recv();
  asm volatile("");
}

TEST_F(Detectors, LockparkReportsATaskThatParksWithAMutex) {
  auto child = [] {
    run_with("lockpark", [] {
      std::mutex m;
      chan<int> c(0);
      wait_group wg;
      wg.go([&] { parks_with(m, c); });
      // Once it is parked for certain.
      while (sched::lockpark_reports() < 1) this_task::sleep_for(std::chrono::milliseconds(2));
      c.send(1);
      wg.wait();
      // Wherever that task went, the count went with it; and who unlocks first is not to blame.
      for (int i = 0; i < 20; ++i) {
        wg.go([&] {
          { std::lock_guard hold(m); }
          this_task::yield();
          this_task::sleep_for(std::chrono::microseconds(100));
        });
      }
      wg.wait();
    });
  };
  ::setenv("LD_PRELOAD", WEFT_LOCKPARK_LIBRARY, 1);
  EXPECT_EXIT(child(), ::testing::ExitedWithCode(0), ::testing::Truly([](const std::string& text) {
                return count(text, "weft: lockpark: ") == 1 && count(text, "END\n") == 1 &&
                       count(text, "(chan receive) while it holds 1 pthread mutex\ngoroutine ") ==
                           1 &&
                       count(text, "::parks_with(...)\n") == 1;
              }));
  ::unsetenv("LD_PRELOAD");
}
#endif

TEST_F(Detectors, LockparkSaysWhatItNeeds) {
  EXPECT_EXIT(run_with("lockpark", [] { this_task::yield(); }), ::testing::ExitedWithCode(0),
              "WEFT_DEBUG=lockpark ignored.*LD_PRELOAD=(.|\n)*END");
}

}  // namespace
}  // namespace weft
