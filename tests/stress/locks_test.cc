// The locks and timers with the books kept: what is inside at any moment, and that every event that
// was asked for has either happened or was prevented by somebody who was told so.
#include <gtest/gtest.h>
#include <weft/barrier.h>
#include <weft/blocking.h>
#include <weft/context.h>
#include <weft/latch.h>
#include <weft/semaphore.h>
#include <weft/shared_mutex.h>
#include <weft/task_local.h>
#include <weft/time.h>
#include <weft/wait_group.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"
#include "tests/stress/stress.h"

namespace weft {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

// A share of the time of a whole test program; every world gets its part.
std::chrono::milliseconds part() { return test::stress_time() / 6; }

class readers_and_writers {
 public:
  void work(uint32_t seed) {
    wait_group wg;
    for (uint32_t i = 0; i < 8; ++i) wg.go([=, this] { use(seed + i); });
    std::thread foreign([=, this] { use(seed + 100); });
    wg.wait();
    blocking([&] { foreign.join(); });
    EXPECT_EQ(value_, writes_.load());
    EXPECT_TRUE(m_.try_lock()) << "left reserved";
    std::printf("%lld writes, %lld reads, %lld given up\n", static_cast<long long>(value_),
                static_cast<long long>(reads_.load()), static_cast<long long>(gave_up_.load()));
    m_.unlock();
  }

 private:
  void use(uint32_t seed) {
    std::mt19937 random(seed);
    while (time_.running()) {
      std::chrono::microseconds patience(random() % 60);
      switch (random() % 8) {
        case 0:
          m_.lock();
          write(random());
          break;
        case 1:
          m_.try_lock_for(patience) ? write(random()) : give_up();
          break;
        case 2: {
          auto [ctx, cancel] = with_timeout(background(), patience);
          m_.lock(ctx) ? write(random()) : give_up();
          break;
        }
        case 3: {
          auto [ctx, cancel] = with_timeout(background(), patience);
          m_.lock_shared(ctx) ? read(random()) : give_up();
          break;
        }
        case 4:
          m_.try_lock_shared_for(patience) ? read(random()) : give_up();
          break;
        default:
          m_.lock_shared();
          read(random());
      }
    }
  }
  void write(uint32_t dice) {
    EXPECT_EQ(writers_.fetch_add(1), 0);
    EXPECT_EQ(readers_.load(), 0);
    int64_t seen = value_;
    if (dice % 4 == 0) this_task::yield();
    value_ = seen + 1;
    ++writes_;
    --writers_;
    m_.unlock();
  }
  void read(uint32_t dice) {
    ++readers_;
    EXPECT_EQ(writers_.load(), 0);
    int64_t seen = value_;
    if (dice % 4 == 0) this_task::yield();
    EXPECT_EQ(value_, seen);
    ++reads_;
    --readers_;
    m_.unlock_shared();
  }
  void give_up() { ++gave_up_; }

  test::stress_clock time_{part()};
  shared_mutex m_;
  int64_t value_ = 0;  // guarded by m_
  std::atomic<int> readers_{0}, writers_{0};
  std::atomic<int64_t> writes_{0}, reads_{0}, gave_up_{0};
};

WEFT_WORLD_TEST(LocksStress, SharedMutex) { readers_and_writers().work(test::stress_seed()); }

WEFT_WORLD_TEST(LocksStress, SemaphorePermitsAreConserved) {
  constexpr int permits = 3;
  const uint32_t seed = test::stress_seed();
  test::stress_clock time(part());
  counting_semaphore<permits> s(permits);
  std::atomic<int> inside{0};
  wait_group wg;
  for (uint32_t i = 0; i < 8; ++i) {
    wg.go([&, i] {
      std::mt19937 random(seed + i);
      while (time.running()) {
        std::chrono::microseconds patience(random() % 50);
        bool got = false;
        switch (random() % 3) {
          case 0:
            s.acquire();
            got = true;
            break;
          case 1:
            got = s.try_acquire_for(patience);
            break;
          default: {
            auto [ctx, cancel] = with_timeout(background(), patience);
            got = s.acquire(ctx);
          }
        }
        if (!got) continue;
        EXPECT_LE(++inside, permits);
        if (random() % 4 == 0) this_task::yield();
        --inside;
        s.release();
      }
    });
  }
  wg.wait();
  for (int i = 0; i < permits; ++i) EXPECT_TRUE(s.try_acquire());
  EXPECT_FALSE(s.try_acquire());
}

// Everybody counts its own phases; nobody may be more than one ahead, whoever leaves in between.
WEFT_WORLD_TEST(LocksStress, Barrier) {
  constexpr uint32_t tasks = 6;
  const uint32_t seed = test::stress_seed();
  test::stress_clock time(part());
  std::atomic<int64_t> phase{0};
  bool over = false;  // written by the completion, read by all after it
  barrier b(tasks, [&]() noexcept {
    ++phase;
    over = !time.running();
  });
  latch ended(tasks);
  for (uint32_t i = 0; i < tasks; ++i) {
    go([&, i] {
      std::mt19937 random(seed + i);
      for (int64_t mine = 0;; ++mine) {
        if (over) break;
        EXPECT_EQ(phase.load(), mine);
        if (random() % 4 == 0) this_task::yield();
        auto token = b.arrive();
        if (random() % 4 == 0) this_task::yield();
        b.wait(std::move(token));
      }
      b.arrive_and_drop();
      ended.count_down();
    });
  }
  ended.wait();
  EXPECT_GT(phase.load(), 0);
}

// Of each event that stop() or reset() did not prevent, exactly one value is received, and never
// one of before the last change.
WEFT_WORLD_TEST(LocksStress, TimerEventsAreReceivedOrPrevented) {
  const uint32_t seed = test::stress_seed();
  test::stress_clock time(part());
  timer t(1h);
  std::atomic<int64_t> asked{1}, prevented{0}, received{0};
  std::atomic<bool> stop{false};
  auto receiver = spawn([&] {
    while (!stop) {
      auto v = t.channel().try_recv();
      if (v) ++received;
      this_task::yield();
    }
  });
  wait_group wg;
  for (uint32_t i = 0; i < 4; ++i) {
    wg.go([&, i] {
      std::mt19937 random(seed + i);
      while (time.running()) {
        if (random() % 3 == 0) {
          if (t.stop()) ++prevented;
        } else {
          if (t.reset(std::chrono::microseconds(random() % 30))) ++prevented;
          ++asked;
        }
        if (random() % 2 == 0) this_task::yield();
      }
    });
  }
  wg.wait();
  if (t.stop()) ++prevented;
  stop = true;
  receiver.join();
  EXPECT_EQ(asked.load(), prevented.load() + received.load());
  EXPECT_EQ(t.channel().try_recv(), std::nullopt);
}

WEFT_WORLD_TEST(LocksStress, AfterFuncRunsOrIsPrevented) {
  const uint32_t seed = test::stress_seed();
  test::stress_clock time(part());
  auto ran = std::make_shared<std::atomic<int64_t>>(0);
  std::atomic<int64_t> asked{0}, prevented{0};
  wait_group wg;
  for (uint32_t i = 0; i < 4; ++i) {
    wg.go([&, i, ran] {
      std::mt19937 random(seed + i);
      while (time.running()) {
        timer t = after_func(std::chrono::microseconds(random() % 30), [ran] { ++*ran; });
        ++asked;
        wait_group both;
        for (uint32_t k = 0; k < 2; ++k) {
          both.go([&, t, s = random()] {
            std::mt19937 dice(s);
            if (dice() % 2 == 0) this_task::yield();
            if (dice() % 2 == 0) {
              if (t.reset(std::chrono::microseconds(dice() % 20))) ++prevented;
              ++asked;
            } else if (t.stop()) {
              ++prevented;
            }
          });
        }
        both.wait();
      }
    });
  }
  wg.wait();
  // The functions hold the rest of the references until they have run.
  EXPECT_TRUE(test::eventually([&] { return ran.use_count() == 1; }));
  EXPECT_EQ(asked.load(), prevented.load() + ran->load());
}

// Channels of time are dropped, received from and selected on while they fire.
WEFT_WORLD_TEST(LocksStress, DroppedTimersAndTickers) {
  const uint32_t seed = test::stress_seed();
  test::stress_clock time(part());
  const size_t before = test::queued_timers();
  std::atomic<int64_t> ticks{0};
  wait_group wg;
  for (uint32_t i = 0; i < 6; ++i) {
    wg.go([&, i] {
      std::mt19937 random(seed + i);
      while (time.running()) {
        std::chrono::microseconds d(1 + random() % 20);
        ticker k(d);
        auto c = random() % 2 == 0 ? k.channel() : after(d);
        wait_group both;
        both.go([&, c] {
          if (c.recv()) ++ticks;
        });
        if (random() % 3 == 0) k.reset(d * 2);
        if (random() % 3 == 0) k = ticker(d);
        both.wait();
      }
    });
  }
  wg.wait();
  // The functions of the tasks hold handles a little longer than their wait groups wait.
  EXPECT_TRUE(test::eventually([&] { return test::queued_timers() == before; }));
  EXPECT_GT(ticks.load(), 0);
}

// Keys come and go while tasks that have values for them end.
WEFT_WORLD_TEST(LocksStress, TaskLocalKeysAndTasks) {
  const uint32_t seed = test::stress_seed();
  test::stress_clock time(part());
  struct counted {
    explicit counted(std::atomic<int64_t>* n) : alive(n) { ++*alive; }
    counted(const counted&) = delete;
    ~counted() { --*alive; }
    std::atomic<int64_t>* alive;
  };
  std::atomic<int64_t> alive{0};
  wait_group wg;
  for (uint32_t i = 0; i < 4; ++i) {
    wg.go([&, i] {
      std::mt19937 random(seed + i);
      while (time.running()) {
        std::vector<std::unique_ptr<task_local<std::shared_ptr<counted>>>> keys(1 + random() % 20);
        for (auto& k : keys) k = std::make_unique<task_local<std::shared_ptr<counted>>>();
        wait_group inner;
        for (int n = 0; n < 4; ++n) {
          inner.go([&] {
            for (auto& k : keys) {
              EXPECT_EQ(k->get_if(), nullptr);
              k->get() = std::make_shared<counted>(&alive);
              if (alive % 3 == 0) this_task::yield();
            }
          });
        }
        inner.wait();
        for (auto& k : keys) EXPECT_EQ(k->get_if(), nullptr);
      }
    });
  }
  wg.wait();
  EXPECT_TRUE(test::eventually([&] { return alive.load() == 0; }));
}

}  // namespace
}  // namespace weft
