// E.4 sync: shared_mutex.
#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/run.h>
#include <weft/shared_mutex.h>
#include <weft/wait_group.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using sched::wait_reason;
using test::count_waiting;
using test::eventually_waiting;
using test::let_others_run;

WEFT_WORLD_TEST(E4_RWMutex, S2_ReadersShareWritersExclude) {
  shared_mutex m;
  std::atomic<int> readers{0};
  std::atomic<int> writers{0};
  std::atomic<int> most_readers{0};
  int64_t value = 0;  // guarded by m
  wait_group wg;
  const int n = test::sized(1000, 100);
  for (int i = 0; i < 10; ++i) {
    wg.go([&, i] {
      for (int k = 0; k < n; ++k) {
        if (i < 3) {
          std::unique_lock hold(m);
          EXPECT_EQ(++writers, 1);
          EXPECT_EQ(readers.load(), 0);
          ++value;
          if (k % 20 == 0) this_task::yield();
          --writers;
        } else {
          std::shared_lock hold(m);
          int now = ++readers;
          EXPECT_EQ(writers.load(), 0);
          if (now > most_readers) most_readers = now;
          if (k % 20 == 0) this_task::yield();
          --readers;
        }
      }
    });
  }
  wg.wait();
  EXPECT_EQ(value, 3 * n);
  EXPECT_GT(most_readers.load(), 1);
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

WEFT_WORLD_TEST(E4_RWMutex, S2_BlockedLockStopsNewReaders) {
  shared_mutex m;
  m.lock_shared();
  EXPECT_TRUE(m.try_lock_shared());
  auto writer = spawn([&] {
    m.lock();
    m.unlock();
  });
  ASSERT_TRUE(eventually_waiting(wait_reason::rwmutex_lock, 1));
  EXPECT_FALSE(m.try_lock_shared());
  EXPECT_FALSE(m.try_lock_shared_for(1ms));
  EXPECT_FALSE(m.try_lock());
  auto reader = spawn([&] { std::shared_lock hold(m); });
  ASSERT_TRUE(eventually_waiting(wait_reason::rwmutex_rlock, 1));
  m.unlock_shared();
  let_others_run();
  EXPECT_EQ(count_waiting(wait_reason::rwmutex_lock), 1);  // one reader is left
  EXPECT_EQ(count_waiting(wait_reason::rwmutex_rlock), 1);
  m.unlock_shared();
  writer.join();
  reader.join();
}

WEFT_WORLD_TEST(E4_RWMutex, S2_PendingReadersGoBeforeTheNextWriter) {
  shared_mutex m;
  m.lock();
  chan<char> order(10);
  wait_group wg;
  wg.go([&, order] {
    m.lock();
    order.send('W');
    m.unlock();
  });
  ASSERT_TRUE(eventually_waiting(wait_reason::rwmutex_lock, 1));
  chan<int> leave(0);
  for (int i = 0; i < 3; ++i) {
    wg.go([&, order, leave] {
      m.lock_shared();
      order.send('R');
      leave.recv();
      m.unlock_shared();
    });
  }
  ASSERT_TRUE(eventually_waiting(wait_reason::rwmutex_rlock, 3));
  m.unlock();
  // All three hold it together, and the writer waits for them.
  ASSERT_TRUE(eventually_waiting(wait_reason::chan_receive, 3));
  ASSERT_TRUE(eventually_waiting(wait_reason::rwmutex_lock, 1));
  for (int i = 0; i < 3; ++i) leave.send(1);
  wg.wait();
  std::string seen;
  while (auto c = order.try_recv()) seen += *c;
  EXPECT_EQ(seen, "RRRW");
}

// Four tasks take it over and over, so that it is never free for long, until this one has had it
// ten times.
template <class TheirLock, class OwnLock>
void take_it_among_many() {
  shared_mutex m;
  std::atomic<bool> stop{false};
  wait_group wg;
  for (int i = 0; i < 4; ++i) {
    wg.go([&] {
      while (!stop) {
        TheirLock hold(m);
        this_task::yield();
      }
    });
  }
  for (int i = 0; i < 10; ++i) {
    OwnLock hold(m);
    this_task::yield();
  }
  stop = true;
  wg.wait();
}

WEFT_WORLD_TEST(E4_RWMutex, S2_ReadersDoNotStarveWriters) {
  take_it_among_many<std::shared_lock<shared_mutex>, std::unique_lock<shared_mutex>>();
}

WEFT_WORLD_TEST(E4_RWMutex, S2_WritersDoNotStarveReaders) {
  take_it_among_many<std::unique_lock<shared_mutex>, std::shared_lock<shared_mutex>>();
}

WEFT_WORLD_TEST(E4_RWMutex, S2_TryLock) {
  shared_mutex m;
  EXPECT_TRUE(m.try_lock());
  EXPECT_FALSE(m.try_lock());
  EXPECT_FALSE(m.try_lock_shared());
  m.unlock();
  EXPECT_TRUE(m.try_lock_shared());
  EXPECT_TRUE(m.try_lock_shared());
  EXPECT_FALSE(m.try_lock());
  m.unlock_shared();
  m.unlock_shared();
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

// A writer that gives up lets the readers in that it kept waiting.
WEFT_WORLD_TEST(E4_RWMutex, S2_TimedLocksGiveUpAndLeaveNoTrace) {
  shared_mutex m;
  m.lock_shared();
  EXPECT_FALSE(m.try_lock_for(0ns));
  EXPECT_FALSE(m.try_lock_for(-1s));
  EXPECT_FALSE(m.try_lock_until(clock::time_point::min()));
  auto writer = spawn([&] { return m.try_lock_for(3ms); });
  auto reader = spawn([&] { std::shared_lock hold(m); });
  EXPECT_FALSE(writer.join());
  reader.join();
  m.unlock_shared();
  m.lock();
  EXPECT_FALSE(m.try_lock_shared_for(1ms));
  EXPECT_FALSE(m.try_lock_shared_until(clock::time_point::min()));
  EXPECT_FALSE(spawn([&] { return m.try_lock_for(1ms); }).join());
  auto patient = spawn([&] {
    EXPECT_TRUE(m.try_lock_until(clock::time_point::max()));
    m.unlock();
  });
  ASSERT_TRUE(eventually_waiting(wait_reason::rwmutex_lock, 1));
  m.unlock();
  patient.join();
  EXPECT_TRUE(m.try_lock_shared_for(0ns));
  m.unlock_shared();
}

WEFT_WORLD_TEST(E4_RWMutex, S2_AnyTaskMayUnlock) {
  shared_mutex m;
  m.lock();
  spawn([&] { m.unlock(); }).join();
  m.lock_shared();
  spawn([&] { m.unlock_shared(); }).join();
  std::thread t([&] {
    std::unique_lock hold(m);
    EXPECT_FALSE(m.try_lock_shared());
  });
  blocking([&] { t.join(); });
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TEST(E4_RWMutex, S2_MisuseIsFatal) {
  EXPECT_EXIT({ run([] { shared_mutex().unlock(); }); }, testing::ExitedWithCode(2),
              "fatal error: sync: Unlock of unlocked RWMutex");
  EXPECT_EXIT({ run([] { shared_mutex().unlock_shared(); }); }, testing::ExitedWithCode(2),
              "fatal error: sync: RUnlock of unlocked RWMutex");
  EXPECT_EXIT(
      {
        run([] {
          shared_mutex m;
          m.lock_shared();
          m.unlock();
        });
      },
      testing::ExitedWithCode(2), "fatal error: sync: Unlock of unlocked RWMutex");
  EXPECT_EXIT(
      {
        run([] {
          shared_mutex m;
          m.lock();
          m.unlock_shared();
        });
      },
      testing::ExitedWithCode(2), "fatal error: sync: RUnlock of unlocked RWMutex");
}

}  // namespace
}  // namespace weft
