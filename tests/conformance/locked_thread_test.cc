// E.6.4 lock_os_thread: a locked task has its thread for itself.
#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/mutex.h>
#include <weft/time.h>
#include <weft/wait_group.h>

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "scheduler/park.h"
#include "scheduler/runtime_control.h"
#include "scheduler/thread.h"
#include "tests/conformance/hogs.h"
#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;

// gettid() is declared const, so the compiler might keep it across a switch.
[[gnu::noinline]] pid_t thread_id() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

// Parks and yields in every way.
void move_about(chan<int> to, chan<int> from) {
  this_task::yield();
  to.send(1);
  from.recv();
  this_task::sleep_for(20us);
  blocking([] { ::usleep(10); });
  spawn([] { this_task::yield(); }).join();
}

void answer(chan<int> to, chan<int> from) {
  while (to.recv()) from.send(1);
}

WEFT_WORLD_TEST(LockedThread, TaskKeepsItsThread) {
  wait_group wg;
  for (int i = 0; i < 4; ++i) {
    wg.go([] {
      chan<int> to(0), from(0);
      go([=] { answer(to, from); });
      lock_os_thread();
      const pid_t mine = thread_id();
      for (int k = 0; k < test::sized(50, 10); ++k) {
        move_about(to, from);
        ASSERT_EQ(thread_id(), mine);
      }
      unlock_os_thread();
      to.close();
    });
  }
  wg.wait();
}

WEFT_WORLD_TEST(LockedThread, NoOtherTaskRunsThere) {
  std::atomic<bool> stop{false};
  std::atomic<pid_t> locked{0};
  std::atomic<int64_t> seen{0}, wrong{0};
  wait_group wg;
  for (int i = 0; i < 2 * test::world_procs(); ++i) {
    wg.go([&] {
      while (!stop) {
        if (thread_id() == locked) ++wrong;
        ++seen;
        this_task::yield();
      }
    });
  }
  auto h = spawn([&] {
    lock_os_thread();
    locked = thread_id();
    // Nobody lives on this thread but the task, also while it is parked.
    for (int i = 0; i < 20; ++i) {
      this_task::sleep_for(100us);
      this_task::yield();
    }
    EXPECT_TRUE(test::eventually([&] { return seen > 100; }));
    locked = 0;
    unlock_os_thread();
  });
  h.join();
  stop = true;
  wg.wait();
  EXPECT_EQ(wrong.load(), 0);
}

WEFT_WORLD_TEST(LockedThread, Nests) {
  spawn([] {
    auto locked = [] {
      sched::critical in_runtime;
      return sched::current_task()->locked_to_thread;
    };
    unlock_os_thread();  // no effect
    EXPECT_FALSE(locked());
    lock_os_thread();
    lock_os_thread();
    unlock_os_thread();
    EXPECT_TRUE(locked());
    unlock_os_thread();
    EXPECT_FALSE(locked());
    unlock_os_thread();
    lock_os_thread();
    EXPECT_TRUE(locked());
    EXPECT_FALSE(spawn([=] { return locked(); }).join());  // is not inherited
    unlock_os_thread();
  }).join();
}

WEFT_WORLD_TEST(LockedThread, UnlockedThreadServesOthersAgain) {
  const int before = sched::worker_thread_count();
  for (int i = 0; i < 30; ++i) {
    spawn([] {
      lock_os_thread();
      this_task::yield();
      unlock_os_thread();
      this_task::yield();
    }).join();
  }
  EXPECT_LE(sched::worker_thread_count(), before + test::world_procs() + 2);
}

struct at_thread_end {
  std::atomic<int>* count = nullptr;
  ~at_thread_end() {
    if (count != nullptr) ++*count;
  }
};
thread_local at_thread_end t_at_end;
[[gnu::noinline]] void count_thread_end(std::atomic<int>& n) { t_at_end.count = &n; }

WEFT_WORLD_TEST(LockedThread, EndsWithATaskThatEndsLocked) {
  static std::atomic<int> ends;
  ends = 0;
  const int n = test::sized(40, 10);
  wait_group wg;
  for (int i = 0; i < n; ++i) {
    wg.go([i] {
      lock_os_thread();
      count_thread_end(ends);
      if (i % 2 == 0) this_task::yield();
      if (i % 3 == 0) this_task::sleep_for(10us);
    });
  }
  wg.wait();
  EXPECT_TRUE(test::eventually([&] { return ends == n; }));
  // The processors of those threads are still there.
  EXPECT_TRUE(test::eventually([] { return test::own_tasks() == 1; }));
  std::atomic<int> here{0};
  for (int i = 0; i < test::world_procs(); ++i) {
    wg.go([&] {
      ++here;
      while (here < test::world_procs()) this_task::yield();
    });
  }
  wg.wait();
}

// The thread's end may use the runtime: thread-local destructors run after its worker's life.
struct sender_at_end {
  chan<int> c;
  ~sender_at_end() {
    if (c.capacity() > 0) c.send(7);
  }
};
thread_local sender_at_end t_sender;
[[gnu::noinline]] void send_at_thread_end(chan<int> c) { t_sender.c = c; }

// Often, because all is idle while they run, which must not be taken for a deadlock.
WEFT_WORLD_TEST(LockedThread, ThreadLocalDestructorsMayUseTheRuntime) {
  for (int i = 0; i < test::sized(300, 50); ++i) {
    chan<int> c(1);
    go([=] {
      lock_os_thread();
      send_at_thread_end(c);
    });
    EXPECT_EQ(c.recv(), 7);
  }
}

// A locked hog loses its processor like any other, and comes back to its own thread.
WEFT_WORLD_TEST(LockedThread, HogsAreRetaken) {
  for (test::hog_kind kind : {test::hog_kind::busy_loop, test::hog_kind::pipe_read}) {
    test::hogs h(kind);
    wait_group wg;
    for (int i = 0; i < test::world_procs() + 1; ++i) {
      wg.go([&] {
        lock_os_thread();
        const pid_t mine = thread_id();
        h.hold();
        for (int k = 0; k < 10; ++k) {
          this_task::yield();
          EXPECT_EQ(thread_id(), mine);
        }
        unlock_os_thread();
      });
    }
    EXPECT_TRUE(test::eventually([&] { return h.holding() == test::world_procs() + 1; }));
    h.stop();
    wg.wait();
    EXPECT_EQ(h.interrupted(), 0);
  }
}

TEST(LockedThread, ResizeAndRestart) {
  static std::atomic<bool> stop;
  static std::atomic<int> steps, ended;
  stop = false;
  steps = 0;
  ended = 0;
  options o;
  o.max_procs = 4;
  run(o, [] {
    for (int i = 0; i < 6; ++i) {
      go([] {
        lock_os_thread();
        const pid_t mine = thread_id();
        while (!stop) {
          ++steps;
          this_task::yield();
          ASSERT_EQ(thread_id(), mine);
        }
        ++ended;
      });
    }
    for (int procs : {1, 8, 2, 5, 1}) {
      set_max_procs(procs);
      int now = steps;
      EXPECT_TRUE(test::eventually([&] { return steps > now + 20; }));
    }
  });
  const int at_rest = steps;
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(steps.load(), at_rest);
  run(o, [&] {
    EXPECT_TRUE(test::eventually([&] { return steps > at_rest + 20; }));
    stop = true;
    EXPECT_TRUE(test::eventually([] { return ended == 6; }));
  });
}

TEST(LockedThread, ForeignThreadsStandForThemselves) {
  lock_os_thread();
  chan<int> c(1);
  c.send(1);
  unlock_os_thread();
  unlock_os_thread();
  EXPECT_EQ(c.recv(), 1);
}

// Locked pairs that wake each other: each wake-up takes a processor from thread to thread.
WEFT_WORLD_TEST(LockedThread, LockedPairsPlayPingPong) {
  wait_group wg;
  for (int pair = 0; pair < 3; ++pair) {
    chan<int> ping(0), pong(0);
    wg.go([=] {
      lock_os_thread();
      for (int i = 0; i < test::sized(200, 40); ++i) {
        ping.send(i);
        ASSERT_EQ(pong.recv(), i);
      }
      ping.close();
      unlock_os_thread();
    });
    wg.go([=] {
      lock_os_thread();
      for (int v : ping) pong.send(v);
      unlock_os_thread();
    });
  }
  wg.wait();
}

}  // namespace
}  // namespace weft
