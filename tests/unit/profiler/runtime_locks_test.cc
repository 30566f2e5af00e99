// Contention for the runtime's own locks: who waits is in the block profile, who was waited for in
// the mutex profile, with stacks and with times that the test brackets by its own clock.
#include <gtest/gtest.h>
#include <weft/detail/waiter.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/spinlock.h"
#include "profiler/runtime_locks.h"
#include "profiler/wait_probe.h"
#include "tests/conformance/world.h"
#include "tests/unit/profiler/profile_check.h"
#include "tests/unit/profiler/profile_sums.h"

namespace runtime_lock_test {

// Functions by which samples are found again; `place` tells tests apart, since profiles never
// forget.
template <int place, class Lock>
[[gnu::noinline]] void wait_for(Lock& lock) {
  lock.lock();
  lock.unlock();
  asm volatile("" ::: "memory");
}

template <int place, class Lock, class F>
[[gnu::noinline]] void hold(Lock& lock, F meanwhile) {
  lock.lock();
  meanwhile();
  lock.unlock();
  asm volatile("" ::: "memory");
}

}  // namespace runtime_lock_test

namespace weft::prof {
namespace {

using runtime_lock_test::hold;
using runtime_lock_test::wait_for;
using test::decode_profile;
using test::goes_through;
using test::valid_profile;
using namespace std::chrono_literals;

int64_t now() { return base::true_now_ns(); }

std::string bytes_of(std::string_view name, int debug = 0) {
  std::ostringstream out;
  pprof::lookup(name)->write_to(out, debug);
  return std::move(out).str();
}

struct sum {
  int64_t count = 0, ns = 0;
};

// Of the samples that go through `function` and whose innermost frame is `leaf`.
sum sum_at(std::string_view bytes, const std::string& function, std::string_view leaf) {
  const pb::Profile p = decode_profile(bytes);
  sum s;
  for (const pb::Sample& one : p.sample()) {
    if (!goes_through(p, one, "runtime_lock_test::" + function)) continue;
    pb::Sample innermost;
    innermost.add_location_id(one.location_id(0));
    EXPECT_TRUE(goes_through(p, innermost, leaf)) << bytes_of("mutex", 1);
    s.count += one.value(0);
    s.ns += one.value(1);
  }
  return s;
}
template <int place>
sum holders() {
  return sum_at(bytes_of("mutex"), "hold<" + std::to_string(place) + ",", "weft::runtime_unlock");
}
template <int place>
sum waiters() {
  return sum_at(bytes_of("block"), "wait_for<" + std::to_string(place) + ",", "weft::runtime_lock");
}

class RuntimeLocks : public testing::Test {
 protected:
  RuntimeLocks() {
    install_wait_probes();
    set_block_profile_rate(1);
    set_mutex_profile_fraction(1);
  }
  ~RuntimeLocks() override {
    set_block_profile_rate(0);
    set_mutex_profile_fraction(0);
  }

  // `threads` wait for a lock that is held for some milliseconds; those that had not got so far are
  // waited for again, until one time all were seen by both profiles.
  template <int place, class Lock>
  void contend(int threads) {
    for (int attempt = 0; attempt < 200; ++attempt) {
      const sum held_before = holders<place>();
      const sum waited_before = waiters<place>();
      Lock lock;
      std::atomic<int> about_to_wait{0};
      std::vector<std::thread> others;
      const int64_t began = now();
      int64_t all_wait = 0;
      hold<place>(lock, [&] {
        for (int i = 0; i < threads; ++i) {
          others.emplace_back([&] {
            ++about_to_wait;
            wait_for<place>(lock);
          });
        }
        while (about_to_wait.load() != threads) std::this_thread::yield();
        std::this_thread::sleep_for(5ms);
        all_wait = now();
        std::this_thread::sleep_for(10ms);
      });
      for (std::thread& t : others) t.join();
      const int64_t took = now() - began;
      const sum held = holders<place>();
      const sum waited = waiters<place>();
      const int64_t count = waited.count - waited_before.count;
      ASSERT_LE(count, threads);
      ASSERT_LE(held.ns - held_before.ns, took * threads);
      ASSERT_LE(waited.ns - waited_before.ns, took * threads);
      if (count < threads || held.count - held_before.count < threads) continue;
      // All waited for this holder from all_wait on, at the latest; then perhaps for each other.
      EXPECT_GE(held.ns - held_before.ns, 10'000'000 * threads);
      EXPECT_GE(waited.ns - waited_before.ns, held.ns - held_before.ns);
      EXPECT_GT(all_wait, 0);
      return;
    }
    FAIL() << "never were " << threads << " waiters seen";
  }
};

TEST_F(RuntimeLocks, AWaitForASpinlockIsChargedToItsHolder) { contend<1, base::spinlock>(1); }
TEST_F(RuntimeLocks, AWaitForALockInsideAPrimitiveIsChargedToItsHolder) {
  contend<2, detail::small_lock>(1);
}
TEST_F(RuntimeLocks, EveryWaiterCounts) { contend<3, base::spinlock>(3); }

TEST_F(RuntimeLocks, TheNextHolderIsChargedForItsOwnTimeOnly) {
  for (int attempt = 0; attempt < 200; ++attempt) {
    base::spinlock lock;
    const sum first_before = holders<11>();
    const sum second_before = holders<12>();
    std::atomic<int> stage{0};
    int64_t released = 0;
    const int64_t began = now();
    std::thread second, third;
    hold<11>(lock, [&] {
      second = std::thread([&] {
        ++stage;
        hold<12>(lock, [&] { std::this_thread::sleep_for(5ms); });
      });
      third = std::thread([&] {
        ++stage;
        wait_for<13>(lock);
      });
      while (stage.load() != 2) std::this_thread::yield();
      std::this_thread::sleep_for(20ms);
      released = now();
    });
    second.join();
    third.join();
    const int64_t after_first = now() - released;
    const sum first{holders<11>().count - first_before.count, holders<11>().ns - first_before.ns};
    const sum then{holders<12>().count - second_before.count, holders<12>().ns - second_before.ns};
    // Not when the third came first, or one of them was late.
    if (first.count != 2 || then.count != 1) continue;
    EXPECT_LE(first.ns, 2 * (now() - began));
    EXPECT_LE(then.ns, after_first);
    return;
  }
  FAIL() << "never did the second thread get the lock before the third";
}

TEST_F(RuntimeLocks, AFractionOfTheReleasesCountsForAll) {
  set_mutex_profile_fraction(4);
  set_block_profile_rate(0);
  sum s;
  for (int i = 0; i < 1000 && s.count == 0; ++i) {
    base::spinlock lock;
    std::atomic<bool> there{false};
    std::thread other;
    hold<21>(lock, [&] {
      other = std::thread([&] {
        there = true;
        wait_for<21>(lock);
      });
      while (!there.load()) std::this_thread::yield();
      std::this_thread::sleep_for(1ms);
    });
    other.join();
    s = holders<21>();
  }
  EXPECT_GT(s.count, 0);
  EXPECT_EQ(s.count % 4, 0);
  EXPECT_EQ(waiters<21>().count, 0) << "the block profile is off";
}

TEST_F(RuntimeLocks, NobodyListensWhenBothProfilesAreOff) {
  EXPECT_NE(base::g_lock_listener.load(), nullptr);
  set_block_profile_rate(0);
  EXPECT_NE(base::g_lock_listener.load(), nullptr);
  set_mutex_profile_fraction(0);
  EXPECT_EQ(base::g_lock_listener.load(), nullptr);
}

// Marks and sums of waits that are under way must do no harm when listeners come and go; and what
// is charged is never more than there was.
TEST_F(RuntimeLocks, RatesChangeWhileLocksAreFoughtFor) {
  const sum before = holders<31>();
  base::spinlock lock;
  std::atomic<bool> stop{false};
  int64_t inside = 0;
  const int64_t began = now();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) hold<31>(lock, [&] { ++inside; });
    });
  }
  for (int i = 0; i < 100; ++i) {
    set_mutex_profile_fraction(i % 3);
    set_block_profile_rate(i % 2);
    EXPECT_TRUE(i % 10 != 0 || valid_profile(bytes_of("mutex")));
    std::this_thread::sleep_for(1ms);
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  EXPECT_GT(inside, 0);
  // Fractions of 2 draw: twice is the most that they can be off.
  EXPECT_LE(holders<31>().ns - before.ns, 2 * 4 * (now() - began));
}

// The locks of the scheduler and of channels themselves, by tasks that hammer one channel.
TEST_F(RuntimeLocks, ContentionInsideTheRuntimeShowsTheCallThatLedToIt) {
  weft::test::in_world(2, [] {
    for (int attempt = 0; attempt < 300; ++attempt) {
      chan<int> c(64);
      std::vector<join_handle<void>> tasks;
      for (int i = 0; i < 4; ++i) {
        tasks.push_back(spawn([&, i] {
          for (int n = 0; n < 20'000; ++n) {
            if (i % 2 == 0)
              c.send(n);
            else
              c.recv();
          }
        }));
      }
      for (auto& t : tasks) t.join();
      const std::string text = bytes_of("mutex", 1);
      if (text.find("weft::runtime_unlock") == std::string::npos) continue;
      EXPECT_TRUE(valid_profile(bytes_of("mutex")));
      return;
    }
    GTEST_SKIP() << "one core: nobody met";
  });
}

}  // namespace
}  // namespace weft::prof
