// The profiles block and mutex against waits of known length, and Go's rules for their rates.
#include <gtest/gtest.h>
#include <weft/weft.h>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "scheduler/park.h"
#include "tests/unit/profiler/wait_world.h"

namespace weft::prof {
namespace {

using namespace weft::prof::test;
using sched::time_away;

TEST_F(WaitProfiles, BlockCountsEveryPrimitiveAtItsStack) {
  set_block_profile_rate(1);
  in_world(2, [] {
    bracket received, sent, locked, read, waited, grouped, acquired, latched;
    for (int i = 0; i < 5; ++i) {
      chan<int> c(0), d(0);
      one_wait<1>(
          received, wait_reason::chan_receive, [&] { c.recv(); }, [&] { c.send(1); });
      one_wait<2>(
          sent, wait_reason::chan_send, [&] { d.send(1); }, [&] { d.recv(); });
      mutex m;
      m.lock();
      one_wait<3>(
          locked, wait_reason::mutex_lock, [&] { std::lock_guard hold(m); }, [&] { m.unlock(); });
      shared_mutex s;
      s.lock();
      one_wait<4>(
          read, wait_reason::rwmutex_rlock, [&] { std::shared_lock hold(s); }, [&] { s.unlock(); });
      condition_variable cv;
      one_wait<5>(
          waited, wait_reason::cond_wait,
          [&] {
            std::unique_lock hold(m);
            cv.wait(hold);
          },
          [&] { cv.notify_one(); });
      wait_group g;
      g.add(1);
      one_wait<6>(
          grouped, wait_reason::wait_group_wait, [&] { g.wait(); }, [&] { g.done(); });
      counting_semaphore<> sem(0);
      one_wait<7>(
          acquired, wait_reason::semacquire, [&] { sem.acquire(); }, [&] { sem.release(); });
      latch l(1);
      one_wait<8>(
          latched, wait_reason::latch_wait, [&] { l.wait(); }, [&] { l.count_down(); });
    }
    const std::string bytes = bytes_of("block");
    EXPECT_TRUE(valid_profile(bytes));
    const bracket* truths[] = {&received, &sent,    &locked,   &read,
                               &waited,   &grouped, &acquired, &latched};
    for (int place = 1; place <= 8; ++place) {
      const sum s = sum_at(bytes, place);
      EXPECT_EQ(s.count, 5) << place;
      EXPECT_THAT(s.ns, within(*truths[place - 1])) << place;
    }
  });
}

TEST_F(WaitProfiles, BlockLeavesSleepOutAndTakesSelectWithItsTimeout) {
  set_block_profile_rate(1);
  in_world(1, [] {
    at<10>([] { this_task::sleep_for(5ms); });
    const int64_t before = now();
    at<11>([] {
      chan<int> never(0);
      select(on_recv(never, [](std::optional<int>) {}), on_timeout(20ms, [] {}));
    });
    const int64_t after = now();
    const std::string bytes = bytes_of("block");
    EXPECT_EQ(sum_at(bytes, 10).count, 0);
    const sum s = sum_at(bytes, 11);
    EXPECT_EQ(s.count, 1);
    EXPECT_GE(s.ns, 19'000'000);
    EXPECT_LE(s.ns, after - before);
  });
}

TEST_F(WaitProfiles, BlockIsOffByDefaultAndOffAgain) {
  EXPECT_EQ(block_profile_rate(), 0);
  in_world(1, [] {
    bracket truth;
    chan<int> c(0);
    one_wait<12>(
        truth, wait_reason::chan_receive, [&] { c.recv(); }, [&] { c.send(1); }, 1ms);
  });
  EXPECT_EQ(sum_at(bytes_of("block"), 12).count, 0);
  set_block_profile_rate(-5);
  EXPECT_EQ(block_profile_rate(), 0);
}

// As Go's TestBlockProfileBias: the same total in short and in long waits weighs the same.
TEST_F(WaitProfiles, BlockIsUnbiased) {
  constexpr int64_t rate = 1'000'000;
  constexpr int shorts = 200'000;
  set_block_profile_rate(rate);
  in_world(1, [] {
    const auto wait = [](int64_t d) {
      sched::critical in_runtime;
      note_back(*sched::current_task(), {time_away::cause::parked, wait_reason::chan_receive, true,
                                         1'000, 1'000 + d, 1'000 + d});
    };
    at<14>([&] {
      for (int i = 0; i < shorts; ++i) wait(rate / 20);
    });
    at<15>([&] {
      for (int i = 0; i < shorts / 20; ++i) wait(rate);
    });
    const std::string bytes = bytes_of("block");
    const sum brief = sum_at(bytes, 14), lengthy = sum_at(bytes, 15);
    EXPECT_EQ(lengthy.ns, shorts / 20 * rate);
    EXPECT_EQ(lengthy.count, shorts / 20);
    EXPECT_THAT(brief.ns, within_percent(lengthy.ns, 5));
    EXPECT_THAT(brief.count, within_percent(shorts, 5));
  });
}

TEST_F(WaitProfiles, MutexFractionIsGos) {
  EXPECT_EQ(set_mutex_profile_fraction(-1), 0);
  EXPECT_EQ(set_mutex_profile_fraction(5), 0);
  EXPECT_EQ(set_mutex_profile_fraction(-7), 5);
  EXPECT_EQ(set_mutex_profile_fraction(0), 5);
  EXPECT_EQ(set_mutex_profile_fraction(-1), 0);
}

// Holds a lock while `waiters` tasks are seen to wait for it, and lets go at<place>().
template <int place, class Lock, class Unlock, class Wait>
void hold_while(int waiters, wait_reason reason, bracket& truth, Lock lock, Unlock unlock,
                Wait wait) {
  lock();
  std::vector<join_handle<void>> tasks;
  const int64_t began = now();
  for (int i = 0; i < waiters; ++i) tasks.push_back(spawn(wait));
  EXPECT_TRUE(eventually_waiting(reason, waiters));
  const int64_t seen = now();
  this_task::sleep_for(20ms);
  const int64_t before = now();
  at<place>(unlock);
  const int64_t after = now();
  for (auto& t : tasks) t.join();
  for (int i = 0; i < waiters; ++i) truth.add(seen, before, began, after);
}

TEST_F(WaitProfiles, MutexChargesTheUnlockerForAllWaiters) {
  set_mutex_profile_fraction(1);
  in_world(2, [] {
    bracket one, four, readers, writer, recursive;
    for (int i = 0; i < 5; ++i) {
      mutex m;
      hold_while<20>(
          1, wait_reason::mutex_lock, one, [&] { m.lock(); }, [&] { m.unlock(); },
          [&] { std::lock_guard hold(m); });
      hold_while<21>(
          4, wait_reason::mutex_lock, four, [&] { m.lock(); }, [&] { m.unlock(); },
          [&] { std::lock_guard hold(m); });
      shared_mutex s;
      hold_while<22>(
          3, wait_reason::rwmutex_rlock, readers, [&] { s.lock(); }, [&] { s.unlock(); },
          [&] { std::shared_lock hold(s); });
      hold_while<23>(
          1, wait_reason::rwmutex_lock, writer, [&] { s.lock_shared(); },
          [&] { s.unlock_shared(); }, [&] { std::lock_guard hold(s); });
      recursive_mutex r;
      hold_while<24>(
          1, wait_reason::mutex_lock, recursive, [&] { r.lock(); }, [&] { r.unlock(); },
          [&] { std::lock_guard hold(r); });
    }
    const std::string bytes = bytes_of("mutex");
    EXPECT_TRUE(valid_profile(bytes));
    EXPECT_THAT(sum_at(bytes, 20).ns, within(one));
    EXPECT_THAT(sum_at(bytes, 21).ns, within(four));
    EXPECT_THAT(sum_at(bytes, 22).ns, within(readers));
    EXPECT_THAT(sum_at(bytes, 23).ns, within(writer));
    EXPECT_THAT(sum_at(bytes, 24).ns, within(recursive));
    EXPECT_EQ(sum_at(bytes, 20).count, 5);
    EXPECT_EQ(sum_at(bytes, 22).count, 15);
  });
}

TEST_F(WaitProfiles, MutexFractionIsUnbiasedAndItsTextUnscaled) {
  set_mutex_profile_fraction(10);
  in_world(1, [] {
    at<25>([] {
      for (int i = 0; i < 100'000; ++i) {
        sched::critical in_runtime;
        note_contention(1'000, 1);
      }
    });
  });
  const sum s = sum_at(bytes_of("mutex"), 25);
  EXPECT_THAT(s.count, within_percent(100'000, 5));
  EXPECT_THAT(s.ns, within_percent(100'000'000, 5));
  const std::string text = text_of("mutex");
  EXPECT_TRUE(text.starts_with("--- mutex:\ncycles/second=1000000000\nsampling period=10\n"));
  EXPECT_NE(text.find(std::to_string(s.ns / 10) + " " + std::to_string(s.count / 10) + " @ 0x"),
            std::string::npos)
      << text;
}

}  // namespace
}  // namespace weft::prof
