// E.4 sync: the locks that std has and Go has not.
#include <gtest/gtest.h>
#include <weft/barrier.h>
#include <weft/blocking.h>
#include <weft/context.h>
#include <weft/latch.h>
#include <weft/recursive_mutex.h>
#include <weft/run.h>
#include <weft/semaphore.h>
#include <weft/shared_mutex.h>
#include <weft/wait_group.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using sched::wait_reason;
using test::count_waiting;
using test::eventually_waiting;
using test::let_others_run;
using test::panic_of;

// --- recursive_mutex

WEFT_WORLD_TEST(RecursiveMutex, OwnerMayLockAgain) {
  recursive_mutex m;
  std::unique_lock first(m);
  std::unique_lock second(m);
  EXPECT_TRUE(m.try_lock());
  EXPECT_TRUE(m.try_lock_for(0ns));
  EXPECT_TRUE(m.try_lock_until(clock::time_point::min()));
  auto other = spawn([&] { return m.try_lock() || m.try_lock_for(1ms); });
  EXPECT_FALSE(other.join());
  m.unlock();
  m.unlock();
  m.unlock();
  second.unlock();
  EXPECT_FALSE(spawn([&] { return m.try_lock(); }).join());
  first.unlock();
  spawn([&] {
    EXPECT_TRUE(m.try_lock_for(1h));
    m.unlock();
  }).join();
  std::thread t([&] {
    std::lock_guard once(m);
    std::lock_guard twice(m);
  });
  blocking([&] { t.join(); });
}

WEFT_WORLD_TEST(RecursiveMutex, Excludes) {
  recursive_mutex m;
  int64_t total = 0;
  const int n = test::sized(1000, 100);
  wait_group wg;
  for (int i = 0; i < 8; ++i) {
    wg.go([&] {
      for (int k = 0; k < n; ++k) {
        std::lock_guard outer(m);
        int64_t seen = total;
        if (k % 30 == 0) this_task::yield();
        std::lock_guard inner(m);
        total = seen + 1;
      }
    });
  }
  wg.wait();
  EXPECT_EQ(total, 8 * n);
}

TEST(RecursiveMutex, UnlockByAnotherIsFatalAndNamesBoth) {
  EXPECT_EXIT({ run([] { recursive_mutex().unlock(); }); }, testing::ExitedWithCode(2),
              "fatal error: weft::recursive_mutex: unlock by task 1, but nobody holds it");
  EXPECT_EXIT(
      {
        run([] {
          recursive_mutex m;
          m.lock();
          spawn([&] { m.unlock(); }).join();
        });
      },
      testing::ExitedWithCode(2),
      "fatal error: weft::recursive_mutex: unlock by task [0-9]+, but task 1 holds it");
}

// --- semaphores

WEFT_WORLD_TEST(Semaphore, LimitsHowManyAreInside) {
  counting_semaphore<> slots(3);
  std::atomic<int> inside{0};
  wait_group wg;
  const int n = test::sized(300, 50);
  for (int i = 0; i < 10; ++i) {
    wg.go([&] {
      for (int k = 0; k < n; ++k) {
        slots.acquire();
        EXPECT_LE(++inside, 3);
        if (k % 5 == 0) this_task::yield();
        --inside;
        slots.release();
      }
    });
  }
  wg.wait();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(slots.try_acquire());
  EXPECT_FALSE(slots.try_acquire());
}

WEFT_WORLD_TEST(Semaphore, ServesInOrder) {
  counting_semaphore<> s(0);
  std::vector<int> order;
  mutex guard;
  wait_group wg;
  for (int i = 0; i < 6; ++i) {
    wg.go([&, i] {
      s.acquire();
      std::lock_guard hold(guard);
      order.push_back(i);
    });
    ASSERT_TRUE(eventually_waiting(wait_reason::semacquire, i + 1));
  }
  for (size_t i = 1; i <= 4; ++i) {
    s.release();
    EXPECT_FALSE(s.try_acquire()) << "a newcomer overtook";
    EXPECT_TRUE(test::eventually([&] {
      std::lock_guard hold(guard);
      return order.size() == i;
    }));
  }
  s.release(3);  // two to those who wait
  wg.wait();
  order.resize(4);
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3}));
  EXPECT_TRUE(s.try_acquire());
  EXPECT_FALSE(s.try_acquire());
}

WEFT_WORLD_TEST(Semaphore, TimedAcquireAndLimits) {
  binary_semaphore s(1);
  EXPECT_EQ(s.max(), 1);
  EXPECT_EQ(panic_of([&] { s.release(); }),
            "weft::counting_semaphore: release beyond its maximum of 1");
  EXPECT_NE(panic_of([&] { s.release(-1); }), "nothing was thrown");
  EXPECT_NE(panic_of([&] { counting_semaphore<3>(4); }), "nothing was thrown");
  EXPECT_NE(panic_of([&] { counting_semaphore<3>(-1); }), "nothing was thrown");
  EXPECT_TRUE(s.try_acquire_for(0ns));
  EXPECT_FALSE(s.try_acquire_for(1ms));
  EXPECT_FALSE(s.try_acquire_for(-1h));
  EXPECT_FALSE(s.try_acquire_until(clock::now() + 1ms));
  auto waits = spawn([&] { return s.try_acquire_for(std::chrono::nanoseconds::max()); });
  ASSERT_TRUE(eventually_waiting(wait_reason::semacquire, 1));
  std::thread t([&] { s.release(0), s.release(); });
  EXPECT_TRUE(waits.join());
  blocking([&] { t.join(); });
}

// The acquirer may destroy it while release() is on its way out.
WEFT_WORLD_TEST(Semaphore, MayDieAfterAcquire) {
  for (int i = 0; i < test::sized(2000, 200); ++i) {
    auto s = std::make_unique<binary_semaphore>(0);
    auto l = std::make_unique<latch>(2);
    auto h = spawn([&s = *s, &l = *l] {
      s.release();
      l.count_down();
    });
    s->acquire();
    s.reset();
    l->arrive_and_wait();
    l.reset();
    h.join();
  }
}

// --- latch, barrier

WEFT_WORLD_TEST(Latch, OpensAtZeroForGood) {
  latch l(3);
  EXPECT_FALSE(l.try_wait());
  EXPECT_FALSE(l.wait_for(1ms));
  EXPECT_FALSE(l.wait_until(clock::time_point::min()));
  wait_group wg;
  std::atomic<int> through{0};
  for (int i = 0; i < 5; ++i) {
    wg.go([&] {
      l.wait();
      ++through;
    });
  }
  ASSERT_TRUE(eventually_waiting(wait_reason::latch_wait, 5));
  EXPECT_EQ(panic_of([&] { l.count_down(4); }), "weft::latch: count_down below 0");
  l.count_down(2);
  let_others_run();
  EXPECT_EQ(through.load(), 0);
  l.arrive_and_wait();
  wg.wait();
  EXPECT_TRUE(l.try_wait() && l.wait_for(0ns));
  l.wait();
  l.count_down(0);
  EXPECT_NE(panic_of([&] { l.count_down(); }), "nothing was thrown");
  EXPECT_NE(panic_of([] { latch(-1); }), "nothing was thrown");
  latch(0).wait();
}

WEFT_WORLD_TEST(Barrier, PhasesEndTogether) {
  constexpr int tasks = 6;
  const int phases = test::sized(200, 40);
  std::vector<int> arrived(static_cast<size_t>(phases), 0);
  std::atomic<int> phase{0};
  int completions = 0;
  mutex guard;
  barrier sync(tasks, [&]() noexcept {
    EXPECT_EQ(arrived[static_cast<size_t>(phase)], tasks);
    this_task::yield();  // it may wait
    ++completions;
    ++phase;
  });
  wait_group wg;
  for (int i = 0; i < tasks; ++i) {
    wg.go([&] {
      for (int k = 0; k < phases; ++k) {
        EXPECT_EQ(phase.load(), k);
        {
          std::lock_guard hold(guard);
          ++arrived[static_cast<size_t>(k)];
        }
        sync.arrive_and_wait();
        EXPECT_EQ(phase.load() > k, true);
      }
    });
  }
  wg.wait();
  EXPECT_EQ(completions, phases);
}

WEFT_WORLD_TEST(Barrier, DropsAndTokens) {
  barrier<> b(3);
  auto first = b.arrive();
  auto waits = spawn([&, token = std::move(first)]() mutable { b.wait(std::move(token)); });
  ASSERT_TRUE(eventually_waiting(wait_reason::barrier_wait, 1));
  b.arrive_and_drop();
  EXPECT_EQ(panic_of([&] { static_cast<void>(b.arrive(2)); }),
            "weft::barrier: more arrivals than the phase expects");
  let_others_run();
  EXPECT_EQ(count_waiting(wait_reason::barrier_wait), 1);
  auto old = b.arrive();
  waits.join();
  b.wait(std::move(old));  // that phase is over
  auto both = b.arrive(2);
  b.wait(std::move(both));
  EXPECT_NE(panic_of([&] { static_cast<void>(b.arrive(0)); }), "nothing was thrown");
  EXPECT_NE(panic_of([] { barrier<>(-1); }), "nothing was thrown");
}

// --- cancellation

// Every wait ends when its context is cancelled, and leaves no trace.
WEFT_WORLD_TEST(Locks, CancelledContextsEndWaits) {
  recursive_mutex recursive;
  shared_mutex shared;
  counting_semaphore<> permits(0);
  latch closed(1);
  barrier<> lonely(2);
  recursive.lock();
  shared.lock_shared();
  auto made = with_cancel(background());
  const context& ctx = made.first;
  const cancel_function& cancel = made.second;
  std::vector<join_handle<bool>> waits;
  auto start = [&](auto wait, wait_reason reason, int n) {
    waits.push_back(spawn([&ctx, wait] { return wait(ctx); }));
    EXPECT_TRUE(eventually_waiting(reason, n));
  };
  start([&](const context& c) { return recursive.lock(c); }, wait_reason::mutex_lock, 1);
  start([&](const context& c) { return shared.lock(c); }, wait_reason::rwmutex_lock, 1);
  start([&](const context& c) { return shared.lock(c); }, wait_reason::rwmutex_lock, 2);
  start([&](const context& c) { return shared.lock_shared(c); }, wait_reason::rwmutex_rlock, 1);
  start([&](const context& c) { return permits.acquire(c); }, wait_reason::semacquire, 1);
  start([&](const context& c) { return closed.wait(c); }, wait_reason::latch_wait, 1);
  start([&](const context& c) { return lonely.wait(lonely.arrive(), c); },
        wait_reason::barrier_wait, 1);
  cancel();
  // The reader may have got in when the first writer left, before its own wait was ended.
  for (size_t i = 0; i < waits.size(); ++i) {
    const bool got = waits[i].join();
    if (i == 3 && got)
      shared.unlock_shared();
    else
      EXPECT_FALSE(got) << i;
  }
  EXPECT_TRUE(shared.try_lock_shared());
  EXPECT_FALSE(shared.lock_shared(ctx));
  EXPECT_FALSE(shared.lock(ctx));
  EXPECT_TRUE(recursive.lock(ctx)) << "it is held already";
  shared.unlock_shared();
  shared.unlock_shared();
  EXPECT_TRUE(shared.try_lock());
  permits.release();
  EXPECT_FALSE(permits.acquire(ctx));
  EXPECT_TRUE(permits.acquire(background()));
  static_cast<void>(lonely.arrive());
}

}  // namespace
}  // namespace weft
