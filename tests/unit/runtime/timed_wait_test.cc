// Waits that race with their deadline.
#include <gtest/gtest.h>
#include <weft/condition_variable.h>
#include <weft/mutex.h>
#include <weft/select.h>
#include <weft/time.h>
#include <weft/wait_group.h>

#include <atomic>
#include <chrono>
#include <mutex>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;

// A notification that met a waiter whose deadline had just passed once woke a running task: the
// waiter was already free of its deadline, but still in the list.
WEFT_WORLD_TEST(TimedWait, NotificationsRaceWithDeadlines) {
  mutex m;
  condition_variable cv;
  std::atomic<bool> stop{false};
  std::atomic<int> notified{0};
  std::atomic<int> timed_out{0};
  wait_group wg;
  for (int i = 0; i < 4; ++i) {
    wg.go([&, i] {
      for (int k = 0; k < test::sized(2000, 300); ++k) {
        std::unique_lock hold(m);
        auto r = cv.wait_for(hold, std::chrono::microseconds((k * 7 + i * 3) % 40));
        ++(r == std::cv_status::timeout ? timed_out : notified);
      }
    });
  }
  auto notifier = spawn([&] {
    while (!stop) {
      cv.notify_one();
      this_task::yield();
      cv.notify_all();
    }
  });
  wg.wait();
  stop = true;
  notifier.join();
  EXPECT_EQ(notified.load() + timed_out.load(), 4 * test::sized(2000, 300));
  EXPECT_GT(notified.load(), 0);
}

WEFT_WORLD_TEST(TimedWait, MutexIsExactAmongTimedAndPlainLockers) {
  mutex m;
  int64_t inside = 0;  // guarded by m
  std::atomic<int64_t> locked{0};
  std::atomic<int> gave_up{0};
  wait_group wg;
  for (int i = 0; i < 8; ++i) {
    wg.go([&, i] {
      for (int k = 0; k < test::sized(1500, 200); ++k) {
        if (i % 2 == 0) {
          m.lock();
        } else if (!m.try_lock_for(std::chrono::microseconds(k % 50))) {
          ++gave_up;
          continue;
        }
        int64_t seen = inside;
        if (k % 4 == 0) this_task::yield();
        inside = seen + 1;
        ++locked;
        m.unlock();
      }
    });
  }
  wg.wait();
  EXPECT_EQ(inside, locked.load());
  EXPECT_EQ(locked.load() + gave_up.load(), 8 * test::sized(1500, 200));
  EXPECT_TRUE(m.try_lock()) << "a waiter that gave up left the mutex reserved";
  m.unlock();
}

WEFT_WORLD_TEST(TimedWait, TryLockForGivesUpAndLeavesNoTrace) {
  mutex m;
  m.lock();
  EXPECT_FALSE(m.try_lock_for(2ms));
  EXPECT_FALSE(m.try_lock_for(0ns));
  EXPECT_FALSE(m.try_lock_for(-1s));
  EXPECT_FALSE(m.try_lock_until(std::chrono::steady_clock::time_point::min()));
  m.unlock();
  EXPECT_TRUE(m.try_lock_for(0ns));
  m.unlock();
  auto h = spawn([&] { return m.try_lock_until(std::chrono::steady_clock::time_point::max()); });
  EXPECT_TRUE(h.join());
  m.unlock();
}

WEFT_WORLD_TEST(TimedWait, TheLongestDurationIsNever) {
  mutex m;
  condition_variable cv;
  bool go_on = false;
  auto h = spawn([&] {
    std::unique_lock hold(m);
    return cv.wait_for(hold, std::chrono::nanoseconds::max(), [&] { return go_on; });
  });
  EXPECT_TRUE(test::eventually_waiting(sched::wait_reason::cond_wait, 1));
  {
    std::lock_guard hold(m);
    go_on = true;
  }
  cv.notify_one();
  EXPECT_TRUE(h.join());
}

// select with a deadline took the timer heap's lock under a channel's, a timer that sends took them
// the other way round.
WEFT_WORLD_TEST(TimedWait, SelectDeadlineAndTimerOnTheSameChannel) {
  wait_group wg;
  std::atomic<int> ended{0};
  for (int i = 0; i < 8; ++i) {
    wg.go([&, i] {
      for (int k = 0; k < test::sized(600, 100); ++k) {
        std::chrono::microseconds d{(k + i) % 30};
        select(on_recv(after(d)), on_timeout(d + std::chrono::microseconds(k % 3)));
        ++ended;
      }
    });
  }
  wg.wait();
  EXPECT_EQ(ended.load(), 8 * test::sized(600, 100));
}

}  // namespace
}  // namespace weft
