// E.6 what programs may rely on in the scheduler.
#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/mutex.h>
#include <weft/select.h>
#include <weft/time.h>
#include <weft/wait_group.h>

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "scheduler/park.h"
#include "scheduler/ports.h"
#include "scheduler/runtime_control.h"
#include "scheduler/thread.h"
#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;

// On one P: what a task starts last runs next, the others in the order of their start.
TEST(E6_Scheduler, S1_NewestRunsNextTheRestInOrder) {
  test::no_retakes hold;
  test::in_world(1, [] {
    std::vector<int> order;
    wait_group wg;
    for (int i = 0; i < 5; ++i) wg.go([&, i] { order.push_back(i); });
    wg.wait();
    EXPECT_EQ(order, (std::vector<int>{4, 0, 1, 2, 3}));
  });
}

// More tasks than a ring holds, all at once: the overflow goes through the global queue, none is
// lost.
WEFT_WORLD_TEST(E6_Scheduler, S1_OverflowOfTheRing) {
  const int n = test::sized(20'000, 1200);
  std::vector<std::atomic<int>> ran(static_cast<size_t>(n));
  wait_group wg;
  for (auto& r : ran) wg.go([&r] { ++r; });
  wg.wait();
  for (auto& r : ran) ASSERT_EQ(r.load(), 1);
}

// Two pairs that hand work to each other all the time; neither pair starves the other.
WEFT_WORLD_TEST(E6_Scheduler, S1_PingPongPairsShareFairly) {
  std::atomic<bool> stop{false};
  std::array<std::atomic<int64_t>, 2> rounds{};
  wait_group wg;
  for (auto& r : rounds) {
    chan<int> a(0);
    chan<int> b(0);
    wg.go([&, a, b] {
      while (!stop) {
        a.send(1);
        b.recv();
        ++r;
      }
      a.close();
    });
    wg.go([a, b] {
      for (int v : a) b.send(v);
    });
  }
  EXPECT_TRUE(test::eventually([&] { return rounds[0] > 2000 && rounds[1] > 2000; }));
  stop = true;
  wg.wait();
}

// A pair against one task that only yields: both go on.
TEST(E6_Scheduler, S1_PingPongHog) {
  test::in_world(1, [] {
    std::atomic<bool> stop{false};
    int64_t hog = 0;
    int64_t light = 0;
    chan<int> ping(0);
    chan<int> pong(0);
    wait_group wg;
    wg.go([&] {
      while (!stop) {
        ++hog;
        this_task::yield();
      }
    });
    wg.go([&] {
      for (int i = 0; i < 5000; ++i) {
        ping.send(1);
        pong.recv();
        ++light;
      }
      stop = true;
      ping.close();
    });
    wg.go([&] {
      for (int v : ping) pong.send(v);
    });
    wg.wait();
    EXPECT_EQ(light, 5000);
    EXPECT_GT(hog, 5000 / 64);
  });
}

// A full local queue that refills itself does not keep tasks of the global queue waiting for ever.
TEST(E6_Scheduler, S2_GlobalQueueIsServedBesideBusyRings) {
  test::in_world(1, [] {
    std::atomic<bool> stop{false};
    wait_group wg;
    for (int i = 0; i < 50; ++i) {
      wg.go([&] {
        while (!stop) this_task::yield();
      });
    }
    std::atomic<bool> ran{false};
    std::thread foreign([&] { go([&] { ran = true; }); });  // foreign threads queue globally
    foreign.join();
    EXPECT_TRUE(test::eventually([&] { return ran.load(); }));
    stop = true;
    wg.wait();
  });
}

// With n processors n tasks execute at the same time: each waits in a busy loop for the others.
WEFT_WORLD_TEST(E6_Scheduler, S3_WorkIsSharedAmongProcessors) {
  std::atomic<int> here{0};
  wait_group wg;
  for (int i = 0; i < test::world_procs(); ++i) {
    wg.go([&] {
      ++here;
      while (here.load() < test::world_procs()) {
      }
    });
  }
  wg.wait();
  EXPECT_EQ(here.load(), test::world_procs());
}

WEFT_WORLD_TEST(E6_Scheduler, S4_YieldLetsOthersRun) {
  test::no_retakes hold;
  std::atomic<bool> flag{false};
  go([&] { flag = true; });
  int rounds = 0;
  while (!flag) {
    this_task::yield();
    ++rounds;
  }
  if (test::world_procs() == 1) {
    EXPECT_LE(rounds, 2);
  }
}

WEFT_WORLD_TEST(E6_Scheduler, S5_BlockingReleasesTheProcessor) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  wait_group wg;
  std::atomic<int> got{0};
  const int readers = test::world_procs() + 2;
  for (int i = 0; i < readers; ++i) {
    wg.go([&] {
      char c = 0;
      ssize_t n = blocking([&] { return ::read(fds[0], &c, 1); });
      if (n == 1) ++got;
    });
  }
  // All of them block at once and this task still runs.
  int others = 0;
  for (int i = 0; i < 50; ++i) {
    this_task::yield();
    spawn([&] { ++others; }).join();
  }
  EXPECT_EQ(others, 50);
  for (int i = 0; i < readers; ++i) ASSERT_EQ(::write(fds[1], "x", 1), 1);
  wg.wait();
  EXPECT_EQ(got.load(), readers);
  ::close(fds[0]);
  ::close(fds[1]);
}

WEFT_WORLD_TEST(E6_Scheduler, S5_BlockingPassesResultsAndExceptions) {
  EXPECT_EQ(blocking([] { return 3; }), 3);
  EXPECT_THROW(blocking([]() -> int { throw std::runtime_error("x"); }), std::runtime_error);
  chan<int> c(1);
  blocking([&] { c.send(1); });  // weft functions may be used inside
  EXPECT_EQ(c.recv(), 1);
  EXPECT_EQ(blocking([] { return blocking([] { return 4; }); }), 4);
}

// A read that nobody declared keeps its thread, but not its P; no signal cuts it short.
WEFT_WORLD_TEST(E6_Scheduler, S5_UndeclaredBlockingCallsLoseTheirProcessor) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  wait_group wg;
  std::atomic<int> interrupted{0};
  std::atomic<int> done{0};
  const int readers = test::world_procs();
  for (int i = 0; i < readers; ++i) {
    wg.go([&] {
      char c = 0;
      ssize_t n = ::read(fds[0], &c, 1);
      if (n < 0 && errno == EINTR) ++interrupted;
      if (n == 1) ++done;
    });
  }
  auto helper = spawn([&] {
    for (int i = 0; i < 100; ++i) this_task::yield();
    return 1;
  });
  EXPECT_EQ(helper.join(), 1);
  for (int i = 0; i < readers; ++i) ASSERT_EQ(::write(fds[1], "x", 1), 1);
  wg.wait();
  EXPECT_EQ(done.load(), readers);
  EXPECT_EQ(interrupted.load(), 0);
  ::close(fds[0]);
  ::close(fds[1]);
}

WEFT_WORLD_TEST(E6_Scheduler, S6_BusyLoopsDoNotStopTheOthers) {
  std::atomic<bool> stop{false};
  wait_group hogs;
  for (int i = 0; i < test::world_procs(); ++i) {
    hogs.go([&] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  }
  int rounds = 0;
  for (int i = 0; i < 20; ++i) {
    spawn([&] { ++rounds; }).join();
    this_task::yield();
  }
  EXPECT_EQ(rounds, 20);
  stop = true;
  hogs.wait();
}

TEST(E6_Scheduler, S6_SetMaxProcsReadsAndChanges) {
  test::in_world(2, [] {
    EXPECT_EQ(set_max_procs(0), 2);
    EXPECT_EQ(set_max_procs(-1), 2);
    EXPECT_EQ(set_max_procs(5), 2);
    EXPECT_EQ(set_max_procs(1), 5);
    EXPECT_EQ(set_max_procs(2), 1);
    EXPECT_THROW(set_max_procs(1025), std::invalid_argument);
    EXPECT_EQ(set_max_procs(0), 2);
  });
}

TEST(E6_Scheduler, S6_SetMaxProcsKeepsEveryTaskAndTimer) {
  test::in_world(8, [] {
    wait_group wg;
    std::atomic<int> done{0};
    const int n = test::sized(500, 200);
    for (int i = 0; i < n; ++i) {
      wg.go([&, i] {
        for (int k = 0; k < 10; ++k) {
          if (i % 3 == 0) this_task::sleep_for(std::chrono::microseconds(i * 5));
          this_task::yield();
        }
        ++done;
      });
    }
    for (int procs : {1, 8, 3, 2, 16, 1, 4}) {
      set_max_procs(procs);
      this_task::sleep_for(300us);
    }
    wg.wait();
    EXPECT_EQ(done.load(), n);
  });
}

// A sleeper's timer lies on a processor that goes away; it must still wake up.
TEST(E6_Scheduler, S6_TimersOfRetiredProcessorsFire) {
  for (int round = 0; round < test::sized(20, 5); ++round) {
    test::in_world(8, [] {
      wait_group wg;
      std::atomic<int> there{0};
      std::atomic<int> done{0};
      auto due = std::chrono::steady_clock::now() + 30ms;
      for (int i = 0; i < 8; ++i) {
        wg.go([&] {
          ++there;
          while (there.load() < 8) {
          }
          this_task::sleep_until(due);
          ++done;
        });
      }
      EXPECT_TRUE(test::eventually(
          [&] { return done + test::count_waiting(sched::wait_reason::sleep) == 8; }));
      set_max_procs(1);
      wg.wait();
    });
  }
}

TEST(E6_Scheduler, S6_SetMaxProcsOutsideOfRun) {
  test::in_world(2, [] {});
  set_max_procs(4);
  test::in_world(3, [] {
    EXPECT_EQ(set_max_procs(0), 3);
    std::thread([] { EXPECT_EQ(set_max_procs(5), 3); }).join();
    EXPECT_EQ(set_max_procs(0), 5);
  });
  EXPECT_EXIT(
      {
        set_max_procs(6);
        int n = 0;
        options o;
        o.max_procs = 2;
        run(o, [&] {
          wait_group wg;
          std::atomic<int> ran{0};
          for (int i = 0; i < 100; ++i) {
            wg.go([&] {
              this_task::sleep_for(10us);
              ++ran;
            });
          }
          wg.wait();
          n = ran.load() + set_max_procs(0);
        });
        ::_exit(n == 102 ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

// Threads that slept in blocking calls are reused, not piled up.
// A poller that reports what a test tells it to, all at once, and sleeps as a real one does.
class scripted_poller final : public sched::poller {
 public:
  void poll(int64_t timeout_ns, sched::task_list& out) noexcept override {
    std::unique_lock hold(lock_);
    const auto something = [&] { return woken_ || (released_ && !waiting_.empty()); };
    if (timeout_ns < 0)
      changed_.wait(hold, something);
    else if (timeout_ns > 0)
      changed_.wait_for(hold, std::chrono::nanoseconds(timeout_ns), something);
    woken_ = false;
    if (!released_) return;
    for (sched::task* t : waiting_) {
      sched::make_ready(t);
      out.push_back(t);
    }
    waiting_.clear();
  }
  void wake() noexcept override {
    std::lock_guard hold(lock_);
    woken_ = true;
    changed_.notify_all();
  }
  bool has_waiters() const noexcept override {
    std::lock_guard hold(lock_);
    return !waiting_.empty();
  }
  const char* name() const noexcept override { return "scripted"; }

  // The calling task waits for its descriptor, so to speak.
  void wait() {
    sched::critical in_runtime;
    sched::park(
        sched::wait_reason::io_wait, this,
        [](sched::task* t, void* self) {
          auto* p = static_cast<scripted_poller*>(self);
          std::lock_guard hold(p->lock_);
          p->waiting_.push_back(t);
          return true;
        },
        this);
  }
  void release() {
    std::lock_guard hold(lock_);
    released_ = true;
    changed_.notify_all();
  }

 private:
  mutable std::mutex lock_;
  std::condition_variable_any changed_;
  std::vector<sched::task*> waiting_;
  bool released_ = false, woken_ = false;
};

// In a child, because a process gets one poller for its life.
void batch_of_the_poller_in_order(int tasks) {
  auto* io = new scripted_poller;
  sched::set_poller(io);
  test::no_retakes hold;
  bool in_order = false;
  test::in_world(1, [&] {
    std::vector<int> order;
    wait_group wg;
    for (int i = 0; i < tasks; ++i) {
      wg.go([&, i] {
        io->wait();
        order.push_back(i);
      });
      this_task::yield();  // so that they wait in the order of their numbers
    }
    EXPECT_TRUE(test::eventually_waiting(sched::wait_reason::io_wait, tasks));
    io->release();
    wg.wait();
    in_order = order.size() == static_cast<size_t>(tasks) && std::ranges::is_sorted(order);
  });
  std::_Exit(in_order ? 0 : 1);
}

// What one poll reports runs in the order of the report, as far as a ring holds it.
TEST(E6_Scheduler, S7_BatchesOfThePollerKeepTheirOrder) {
  EXPECT_EXIT(batch_of_the_poller_in_order(50), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(batch_of_the_poller_in_order(200), testing::ExitedWithCode(0), "");
}

TEST(E6_Scheduler, ThreadsAreReused) {
  test::in_world(2, [] {
    auto burst = [] {
      wait_group wg;
      for (int i = 0; i < 20; ++i) wg.go([] { blocking([] { ::usleep(200); }); });
      wg.wait();
    };
    burst();
    uint64_t before = sched::threads_created();
    for (int i = 0; i < 20; ++i) burst();
    EXPECT_LE(sched::threads_created() - before, 25u);
  });
}

// Half of a busy processor's queue goes to one without work: hogs that all start on one spread.
TEST(E6_Scheduler, S3_IdleProcessorsSteal) {
  test::in_world(4, [] {
    test::no_retakes hold;
    std::atomic<int> here{0};
    wait_group wg;
    // This task keeps its processor; what lies in its queue runs only if it is stolen.
    for (int i = 0; i < 3; ++i) {
      wg.go([&] {
        ++here;
        while (here.load() < 4) {
        }
      });
    }
    ++here;
    while (here.load() < 4) {
    }
    wg.wait();
    EXPECT_EQ(here.load(), 4);
  });
}

WEFT_WORLD_TEST(E6_Scheduler, S4_LockOsThreadNestsAndKeepsTheThread) {
  spawn([] {
    lock_os_thread();
    lock_os_thread();
    const pid_t mine = ::gettid();
    auto moved = [&] {
      for (int i = 0; i < 10; ++i) {
        this_task::yield();
        this_task::sleep_for(20us);
        if (::gettid() != mine) return true;
      }
      return false;
    };
    EXPECT_FALSE(moved());
    unlock_os_thread();
    EXPECT_FALSE(moved());
    unlock_os_thread();
    unlock_os_thread();
  }).join();
}

// The monitor takes a processor from whoever keeps it while others wait.
TEST(E6_Scheduler, S5_MonitorRetakesTheProcessor) {
  test::in_world(1, [] {
    const uint64_t before = sched::retakes();
    std::atomic<bool> ran{false};
    go([&] { ran = true; });
    while (!ran) {
#if WEFT_TSAN
      ::sched_yield();  // signals reach a thread under TSan only in calls that it intercepts
#endif
    }
    EXPECT_GT(sched::retakes(), before);
  });
}

TEST(E6_Scheduler, S6_ThreadLimitIsTenThousandAndFatal) {
  EXPECT_EQ(set_max_threads(0), 10'000);
  EXPECT_EXIT(test::in_world(1,
                             [] {
                               set_max_threads(12);
                               for (int i = 0; i < 20; ++i) {
                                 go([] { blocking([] { ::pause(); }); });
                                 this_task::yield();
                               }
                               chan<int>{}.recv();
                             }),
              testing::ExitedWithCode(2), "fatal error: thread exhaustion");
}

// A thread waits in the poller without limit; a timer made by another ends that wait in time.
WEFT_WORLD_TEST(E6_Scheduler, S7_EarlierTimersWakeABlockedPoller) {
  chan<int> stop(0);
  auto late = spawn([stop] { return select(on_recv(stop), on_timeout(1h)); });
  ASSERT_TRUE(test::eventually_waiting(sched::wait_reason::select, 1));
  std::thread foreign([stop] {
    // Every task waits now, and the timer below is the first that is due.
    EXPECT_TRUE(test::eventually_waiting(sched::wait_reason::join, 1));
    this_task::sleep_for(2ms);
    stop.send(1);
  });
  EXPECT_EQ(late.join(), 0);
  blocking([&] { foreign.join(); });
}

}  // namespace
}  // namespace weft
