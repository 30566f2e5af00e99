// E.4 sync: mutex, wait_group, condition_variable.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/condition_variable.h>
#include <weft/error.h>
#include <weft/mutex.h>
#include <weft/wait_group.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using sched::wait_reason;
using test::count_waiting;
using test::eventually_waiting;
using test::panic_of;

WEFT_WORLD_TEST(E4_Mutex, S1_Excludes) {
  mutex m;
  int inside = 0;
  int64_t total = 0;
  wait_group wg;
  const int n = test::sized(5000, 500);
  for (int i = 0; i < 10; ++i) {
    wg.go([&] {
      for (int k = 0; k < n; ++k) {
        std::lock_guard hold(m);
        EXPECT_EQ(++inside, 1);
        if (k % 50 == 0) this_task::yield();
        ++total;
        --inside;
      }
    });
  }
  wg.wait();
  EXPECT_EQ(total, 10 * n);
}

WEFT_WORLD_TEST(E4_Mutex, S1_AnyTaskMayUnlock) {
  mutex m;
  m.lock();
  spawn([&] { m.unlock(); }).join();
  EXPECT_TRUE(m.try_lock());
  EXPECT_FALSE(m.try_lock());
  m.unlock();
}

TEST(E4_Mutex, S1_UnlockOfUnlockedIsFatal) {
  for (bool in_task : {false, true}) {
    EXPECT_EXIT(
        {
          mutex m;
          if (in_task) run([&] { m.unlock(); });
          m.unlock();
          ::_exit(0);
        },
        testing::ExitedWithCode(2), "fatal error: sync: unlock of unlocked mutex");
  }
}

WEFT_WORLD_TEST(E4_Mutex, S1_WaitersQueueInOrder) {
  mutex m;
  m.lock();
  std::vector<int> order;
  wait_group wg;
  for (int i = 0; i < 5; ++i) {
    wg.go([&, i] {
      std::lock_guard hold(m);
      order.push_back(i);
    });
    ASSERT_TRUE(eventually_waiting(wait_reason::mutex_lock, i + 1));
  }
  m.unlock();
  wg.wait();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

// A hog that holds the mutex nearly always, and a task that wants it ten times.
WEFT_WORLD_TEST(E4_Mutex, S1_StarvingWaitersAreServed) {
  mutex m;
  std::atomic<bool> stop{false};
  auto hog = spawn([&] {
    while (!stop) {
      m.lock();
      auto until = clock::now() + 100us;
      while (clock::now() < until) {
      }
      m.unlock();
    }
  });
  for (int i = 0; i < 10; ++i) {
    this_task::sleep_for(100us);
    m.lock();
    m.unlock();
  }
  stop = true;
  hog.join();
}

// In starvation mode the mutex belongs to the first waiter: a newcomer's try_lock fails in between.
WEFT_WORLD_TEST(E4_Mutex, S1_StarvationHandsOver) {
  mutex m;
  bool handed_over = false;
  // The waiter must have starved: it waits longer than 1 ms twice, once per lost race.
  for (int attempt = 0; attempt < 100 && !handed_over; ++attempt) {
    m.lock();
    std::atomic<bool> owner{false};
    auto waiter = spawn([&] {
      m.lock();
      owner = true;
      m.unlock();
    });
    EXPECT_TRUE(eventually_waiting(wait_reason::mutex_lock, 1));
    auto until = clock::now() + 2ms;
    while (clock::now() < until) {
    }
    // Woken in normal mode, it competes: take the mutex before it can.
    m.unlock();
    if (m.try_lock()) {
      EXPECT_TRUE(test::eventually([&] { return count_waiting(wait_reason::mutex_lock) == 1; }));
      m.unlock();  // to a starving waiter: handed over
      bool mine = m.try_lock();
      if (mine && !owner) ADD_FAILURE() << "a newcomer overtook a starving waiter";
      if (mine) m.unlock();
      handed_over = true;
    }
    waiter.join();
  }
  EXPECT_TRUE(handed_over || test::world_procs() > 1);
}

WEFT_WORLD_TEST(E4_Mutex, S1_ManyStarvingWaitersAllGetIt) {
  mutex m;
  m.lock();
  wait_group wg;
  int served = 0;
  for (int i = 0; i < 50; ++i) {
    wg.go([&] {
      for (int k = 0; k < 20; ++k) {
        m.lock();
        ++served;
        if (k % 5 == 0) this_task::yield();
        m.unlock();
      }
    });
  }
  ASSERT_TRUE(eventually_waiting(wait_reason::mutex_lock, 50));
  auto until = clock::now() + 2ms;
  while (clock::now() < until) {
  }
  m.unlock();
  wg.wait();
  EXPECT_EQ(served, 1000);
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

// Whoever is the last to unlock destroys it, though others may not have returned from unlock() yet.
WEFT_WORLD_TEST(E4_Mutex, MayDieAfterTheLastUnlock) {
  struct shared {
    mutex m;
    int users = 4;
  };
  wait_group wg;
  for (int i = 0; i < test::sized(2000, 200); ++i) {
    auto* s = new shared;
    for (int k = 0; k < 4; ++k) {
      wg.go([s, timed = k == 3] {
        while (!timed || !s->m.try_lock_for(1us)) {
          if (timed) continue;
          s->m.lock();
          break;
        }
        const bool last = --s->users == 0;
        if (s->users % 2 == 0) this_task::yield();
        s->m.unlock();
        if (last) delete s;
      });
    }
    if (i % 16 == 0) wg.wait();
  }
  wg.wait();
}

WEFT_WORLD_TEST(E4_WaitGroup, S3_ReleasesAllWaitersAtZero) {
  wait_group wg;
  wg.wait();  // nothing to wait for
  wg.add(2);
  wait_group waiters;
  std::atomic<int> released{0};
  for (int i = 0; i < 10; ++i) {
    waiters.go([&] {
      wg.wait();
      ++released;
    });
  }
  ASSERT_TRUE(eventually_waiting(wait_reason::wait_group_wait, 10));
  wg.done();
  EXPECT_EQ(released.load(), 0);
  wg.done();
  waiters.wait();
  EXPECT_EQ(released.load(), 10);
}

WEFT_WORLD_TEST(E4_WaitGroup, S3_NegativeCounterPanics) {
  wait_group wg;
  EXPECT_THROW(wg.done(), panic_error);
  wg.add(3);
  EXPECT_EQ(panic_of([&] { wg.add(-4); }), "sync: negative WaitGroup counter");
  wg.add(-3);  // the failed call changed nothing
  wg.wait();
}

// On one processor the released waiter has not run yet when the next round begins, unless this task
// was interrupted for long in between: then it is tried again.
TEST(E4_WaitGroup, S3_ReuseBeforeWaitHasReturnedPanics) {
  test::in_world(1, [] {
    std::string seen;
    for (int attempt = 0; attempt < 1000 && seen.empty(); ++attempt) {
      wait_group wg;
      wg.add(1);
      auto waiter = spawn([&] { wg.wait(); });
      ASSERT_TRUE(eventually_waiting(wait_reason::wait_group_wait, 1));
      wg.done();
      try {
        wg.add(1);
        wg.done();
      } catch (const panic_error& e) {
        seen = e.what();
      }
      waiter.join();
      wg.add(1);  // it has returned: allowed
      wg.done();
      wg.wait();
    }
    EXPECT_EQ(seen, "sync: WaitGroup is reused before previous Wait has returned");
  });
}

WEFT_WORLD_TEST(E4_WaitGroup, S3_IsReusableAndMayDieAfterWait) {
  for (int round = 0; round < test::sized(2000, 200); ++round) {
    auto wg = std::make_unique<wait_group>();
    std::atomic<int> n{0};
    for (int again = 0; again < 2; ++again) {
      for (int i = 0; i < 3; ++i) wg->go([&] { ++n; });
      wg->wait();
      ASSERT_EQ(n.load(), 3 * (again + 1));
    }
  }
}

WEFT_WORLD_TEST(E4_Cond, S5_NotifyOneWakesOneInOrder) {
  mutex m;
  condition_variable cv;
  std::vector<int> order;
  wait_group wg;
  for (int i = 0; i < 5; ++i) {
    wg.go([&, i] {
      std::unique_lock hold(m);
      cv.wait(hold);
      order.push_back(i);
    });
    ASSERT_TRUE(eventually_waiting(wait_reason::cond_wait, i + 1));
  }
  for (size_t n = 1; n <= 5; ++n) {
    cv.notify_one();
    EXPECT_TRUE(test::eventually([&] {
      std::lock_guard hold(m);
      return order.size() == n;
    }));
  }
  wg.wait();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

WEFT_WORLD_TEST(E4_Cond, S5_NotifyAllWakesAll) {
  mutex m;
  condition_variable cv;
  int awake = 0;
  wait_group wg;
  for (int i = 0; i < 20; ++i) {
    wg.go([&] {
      std::lock_guard hold(m);
      cv.wait(m);  // any lock, also the bare mutex
      ++awake;
    });
  }
  ASSERT_TRUE(eventually_waiting(wait_reason::cond_wait, 20));
  cv.notify_all();
  wg.wait();
  EXPECT_EQ(awake, 20);
}

WEFT_WORLD_TEST(E4_Cond, S5_NotifyWithoutWaitersIsLost) {
  mutex m;
  condition_variable cv;
  cv.notify_one();
  cv.notify_all();
  std::unique_lock hold(m);
  EXPECT_EQ(cv.wait_for(hold, 2ms), std::cv_status::timeout);
  EXPECT_FALSE(m.try_lock());  // held again
}

WEFT_WORLD_TEST(E4_Cond, S5_NoSpuriousWakeups) {
  mutex m;
  condition_variable cv;
  std::atomic<int> woke{0};
  constexpr int n = 10;
  wait_group wg;
  for (int i = 0; i < n; ++i) {
    wg.go([&] {
      std::unique_lock hold(m);
      cv.wait(hold);
      ++woke;
    });
  }
  ASSERT_TRUE(eventually_waiting(wait_reason::cond_wait, n));
  for (int i = 1; i <= n; ++i) {
    cv.notify_one();
    EXPECT_TRUE(test::eventually([&] { return woke.load() == i; }));
    for (int k = 0; k < 20; ++k) this_task::yield();
    EXPECT_EQ(woke.load(), i);
    EXPECT_EQ(count_waiting(wait_reason::cond_wait), n - i);
  }
  wg.wait();
}

// A ring of generations: each task wakes the next one only after all of its generation have been
// seen, as a signal that reached a later waiter than the first would leave one behind.
WEFT_WORLD_TEST(E4_Cond, S5_SignalGenerations) {
  mutex m;
  condition_variable cv;
  const int n = test::sized(100, 50);
  chan<int> running(static_cast<size_t>(n));
  chan<int> awake(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) {
    go([&, i, running, awake] {
      m.lock();
      running.send(1);
      cv.wait(m);
      awake.send(i);
      m.unlock();
    });
    if (i > 0) {
      ASSERT_EQ(awake.recv(), i - 1);
    }
    running.recv();
    m.lock();
    cv.notify_one();
    m.unlock();
  }
  EXPECT_EQ(awake.recv(), n - 1);
}

// The notification of a waiter that took its place first is not stolen by one that comes later.
WEFT_WORLD_TEST(E4_Cond, S5_SignalStealing) {
  for (int i = 0; i < test::sized(500, 60); ++i) {
    mutex m;
    condition_variable cv;
    chan<int> started(0);
    auto first = spawn([&, started] {
      m.lock();
      started.send(1);
      cv.wait(m);
      m.unlock();
    });
    started.recv();
    m.lock();
    m.unlock();  // first has begun to wait
    bool stop = false;
    auto second = spawn([&] {
      m.lock();
      while (!stop) cv.wait(m);
      m.unlock();
    });
    cv.notify_one();
    first.join();
    m.lock();
    stop = true;
    cv.notify_all();
    m.unlock();
    second.join();
  }
}

WEFT_WORLD_TEST(E4_Cond, BoundedBuffer) {
  mutex m;
  condition_variable not_full;
  condition_variable not_empty;
  std::vector<int> buffer;
  const int n = test::sized(3000, 300);
  int64_t sum = 0;
  wait_group wg;
  for (int p = 0; p < 3; ++p) {
    wg.go([&] {
      for (int i = 1; i <= n; ++i) {
        std::unique_lock hold(m);
        not_full.wait(hold, [&] { return buffer.size() < 4; });
        buffer.push_back(i);
        not_empty.notify_one();
      }
    });
    wg.go([&] {
      for (int i = 1; i <= n; ++i) {
        std::unique_lock hold(m);
        while (!not_empty.wait_for(hold, 50us, [&] { return !buffer.empty(); })) {
        }
        sum += buffer.back();
        buffer.pop_back();
        not_full.notify_one();
      }
    });
  }
  wg.wait();
  EXPECT_EQ(sum, 3 * int64_t{n} * (n + 1) / 2);
}

// Go's TestMutexFairness: ten operations complete beside a task that holds the mutex all the time
// and one that asks for it as often.
WEFT_WORLD_TEST(E4_Mutex, S1_FairnessTenLocksBesideAHog) {
  mutex m;
  std::atomic<bool> stop{false};
  auto hog = spawn([&] {
    while (!stop) {
      m.lock();
      this_task::sleep_for(100us);
      m.unlock();
    }
  });
  auto modest = spawn([&] {
    for (int i = 0; i < 10; ++i) {
      this_task::sleep_for(100us);
      m.lock();
      m.unlock();
    }
    return 10;
  });
  EXPECT_EQ(modest.join(), 10);
  stop = true;
  hog.join();
}

// Go's TestMutexStarvation, the part about TryLock: the mutex is on its way to a waiter that
// starves, and free for nobody else. A thread that is no task unlocks and tries, while the waiter,
// on one processor and without retakes, runs only where the main task lets it.
TEST(E4_Mutex, S1_TryLockFailsWhileStarving) {
  test::no_retakes hold;
  test::in_world(1, [] {
    mutex m;
    std::atomic<int> stage{0};
    auto reach = [&stage](int n) { stage = n; };
    auto await = [&stage](int n) {
      while (stage < n) {
      }
    };
    bool taken_in_normal_mode = false;
    bool taken_on_its_way = true;
    std::thread newcomer([&] {
      m.lock();
      reach(1);
      await(2);
      m.unlock();  // the waiter is woken, and cannot run yet
      taken_in_normal_mode = m.try_lock();
      reach(3);
      await(4);
      m.unlock();  // the waiter starves by now: the mutex is handed to it
      taken_on_its_way = m.try_lock();
      reach(5);
    });
    await(1);
    bool served = false;
    auto waiter = spawn([&] {
      m.lock();
      served = true;
      m.unlock();
    });
    EXPECT_TRUE(eventually_waiting(wait_reason::mutex_lock, 1));
    auto until = clock::now() + 2ms;  // longer than starvation takes
    while (clock::now() < until) {
    }
    reach(2);
    await(3);
    EXPECT_TRUE(taken_in_normal_mode);
    EXPECT_TRUE(eventually_waiting(wait_reason::mutex_lock, 0));  // it was woken,
    EXPECT_TRUE(eventually_waiting(wait_reason::mutex_lock, 1));  // lost, and says so
    EXPECT_FALSE(served);
    reach(4);
    await(5);
    EXPECT_FALSE(taken_on_its_way);
    EXPECT_FALSE(served);
    waiter.join();
    EXPECT_TRUE(served);
    EXPECT_TRUE(m.try_lock());
    m.unlock();
    newcomer.join();
  });
}

}  // namespace
}  // namespace weft
