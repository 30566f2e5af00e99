// Nothing freezes the others: whatever a task does with its processor, work that waits goes on, and
// no system call of the user's is cut short. All of it runs once more where membarrier is
// forbidden.
#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/wait_group.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

#include "scheduler/runtime_control.h"
#include "tests/conformance/hogs.h"
#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;
using test::hog_kind;
using test::hogs;

// Every processor is held, and as many hogs again wait for one.
void with_hogs(void (*body)()) {
  for (hog_kind kind : test::all_hogs) {
    hogs h(kind);
    wait_group wg;
    for (int i = 0; i < 2 * test::world_procs(); ++i) wg.go([&] { h.hold(); });
    EXPECT_TRUE(test::eventually([&] { return h.holding() == 2 * test::world_procs(); }));
    body();
    h.stop();
    wg.wait();
    EXPECT_EQ(h.interrupted(), 0) << test::name_of(kind);
  }
}

WEFT_WORLD_TEST(Freeze, TasksGoOnBesideHogsOfEveryKind) {
  with_hogs([] {
    int rounds = 0;
    chan<int> c(0);
    for (int i = 0; i < 5; ++i) {
      spawn([&] { ++rounds; }).join();
      go([=] { c.send(1); });
      rounds += *c.recv();
      this_task::yield();
    }
    EXPECT_EQ(rounds, 10);
  });
}

WEFT_WORLD_TEST(Freeze, SleepersWakeBesideHogsOfEveryKind) {
  with_hogs([] { this_task::sleep_for(3ms); });
}

// The main task of a world of one processor, and nothing waits but what the test is about.
void busy_until(const std::function<bool()>& done) {
  while (!done()) {
#if WEFT_TSAN
    ::sched_yield();  // signals reach a thread under TSan only in calls that it intercepts
#endif
  }
}

TEST(Freeze, WorkWaitsInTheNextSlot) {
  test::in_world(1, [] {
    std::atomic<bool> ran{false};
    go([&] { ran = true; });
    busy_until([&] { return ran.load(); });
  });
}

TEST(Freeze, WorkWaitsInTheRing) {
  test::in_world(1, [] {
    std::atomic<int> ran{0};
    for (int i = 0; i < 5; ++i) go([&] { ++ran; });
    busy_until([&] { return ran.load() == 5; });
  });
}

TEST(Freeze, WorkWaitsInTheGlobalQueue) {
  test::in_world(1, [] {
    std::atomic<bool> ran{false};
    std::thread foreign([&] { go([&] { ran = true; }); });
    busy_until([&] { return ran.load(); });
    foreign.join();
  });
}

TEST(Freeze, WorkWaitsForATimer) {
  test::in_world(1, [] {
    std::atomic<bool> asleep{false};
    std::atomic<bool> woke{false};
    go([&] {
      asleep = true;
      this_task::sleep_for(2ms);
      woke = true;
    });
    while (!asleep) this_task::yield();
    busy_until([&] { return woke.load(); });
  });
}

// As in Go: a processor that nobody waits for stays where it is.
TEST(Freeze, ProcessorsWithoutWorkAreNotRetaken) {
  test::in_world(2, [] {
    hogs h(hog_kind::busy_loop);
    wait_group wg;
    wg.go([&] { h.hold(); });
    EXPECT_TRUE(test::eventually([&] { return h.holding() == 1; }));
    const uint64_t before = sched::retakes();
    // This task holds a processor in a busy loop as well; five slices.
    auto until = std::chrono::steady_clock::now() + 50ms;
    while (std::chrono::steady_clock::now() < until) {
    }
    EXPECT_EQ(sched::retakes(), before);
    h.stop();
    wg.wait();
  });
}

// The mask is inherited by the runtime's threads; their own signal gets through all the same.
TEST(Freeze, RunFromAThreadThatBlocksAllSignals) {
  EXPECT_EXIT(
      {
        sigset_t all;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
        test::in_world(3, [] { with_hogs([] { spawn([] {}).join(); }); });
        ::_exit(testing::Test::HasFailure() ? 1 : 0);
      },
      testing::ExitedWithCode(0), "");
}

// The world stops although nobody calls the runtime.
TEST(Freeze, ResizeAmongHogs) {
  test::in_world(4, [] {
    with_hogs([] {
      for (int procs : {1, 3, 4}) set_max_procs(procs);
    });
  });
}

// Hogs that a run() left behind burn on without a processor; the next run is not stopped by them.
TEST(Freeze, RunEndsAndStartsAmongHogs) {
  hogs h(hog_kind::busy_loop);
  std::atomic<int> ended{0};
  options o;
  o.max_procs = 2;
  run(o, [&] {
    for (int i = 0; i < 2; ++i) {
      go([&] {
        h.hold();
        ++ended;
      });
    }
    EXPECT_TRUE(test::eventually([&] { return h.holding() == 2; }));
  });
  run(o, [&] {
    EXPECT_EQ(spawn([] { return 3; }).join(), 3);
    h.stop();
    EXPECT_TRUE(test::eventually([&] { return ended == 2; }));
  });
}

// Context switches of all threads but the calling one, which means wake-ups: one per time a thread
// sleeps.
int64_t wake_ups_of_others() {
  int64_t n = 0;
  const pid_t own = ::gettid();
  DIR* d = ::opendir("/proc/self/task");
  while (const dirent* e = ::readdir(d)) {
    if (std::atoi(e->d_name) == 0 || std::atoi(e->d_name) == own) continue;
    std::string path = std::string("/proc/self/task/") + e->d_name + "/status";
    FILE* f = std::fopen(path.c_str(), "re");
    if (f == nullptr) continue;
    char line[256];
    long long value = 0;
    while (std::fgets(line, sizeof line, f) != nullptr)
      if (std::sscanf(line, "voluntary_ctxt_switches: %lld", &value) == 1) n += value;
    std::fclose(f);
  }
  ::closedir(d);
  return n;
}

// With nothing to do every thread sleeps, the monitor too, and none has an alarm set.
WEFT_WORLD_TEST(Idle, NobodyWakesUp) {
  if (WEFT_TSAN) return;  // its own thread wakes up all the time
  chan<int> never(0);
  auto waiting = spawn([&] { never.recv(); });
  bool quiet = false;
  std::thread watch([&] {
    for (int i = 0; i < 300 && !quiet; ++i) {
      const int64_t before = wake_ups_of_others();
      ::usleep(200'000);
      quiet = wake_ups_of_others() == before;
    }
    never.close();
  });
  // Not in blocking(): this task is to be parked as well.
  waiting.join();
  blocking([&] { watch.join(); });
  EXPECT_TRUE(quiet);
}

}  // namespace
}  // namespace weft
