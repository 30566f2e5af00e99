// Everything at once, with the books kept: each value that is sent is received or drained exactly
// once, each locked section is entered as often as it was left, each waiter of the condition gets
// its turn.
#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/condition_variable.h>
#include <weft/mutex.h>
#include <weft/select.h>
#include <weft/time.h>
#include <weft/wait_group.h>

#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"
#include "tests/stress/stress.h"

namespace weft {
namespace {

class factory {
 public:
  explicit factory(uint32_t seed, std::chrono::milliseconds d) : seed_(seed), time_(d) {
    for (size_t i = 0; i < belts_.size(); ++i) belts_[i] = chan<uint64_t>(i % 4 * 2);
  }

  void work() {
    wait_group makers;
    wait_group takers;
    wait_group others;
    for (uint32_t i = 0; i < 12; ++i) makers.go([this, i] { make(i); });
    for (uint32_t i = 0; i < 12; ++i) takers.go([this, i] { take(100 + i); });
    for (uint32_t i = 0; i < 6; ++i) others.go([this, i] { lock_things(200 + i); });
    for (uint32_t i = 0; i < 4; ++i) others.go([this, i] { wait_turns(300 + i); });
    others.go([this] { hog(); });
    others.go([this] { short_lived(400); });
    std::thread foreign([this] { make(500); });
    makers.wait();
    blocking([&] { foreign.join(); });
    stop_.close();
    takers.wait();
    others.wait();
    for (auto& b : belts_)
      while (auto v = b.try_recv()) note_received(*v);
    EXPECT_EQ(sent_.load(), received_.load());
    EXPECT_EQ(sent_sum_.load(), received_sum_.load());
    EXPECT_EQ(locked_, entered_.load());
    EXPECT_EQ(spawned_.load(), ended_.load());
    EXPECT_GT(sent_.load(), 0u);
    std::printf("%llu values, %lld locks, %lld turns, %llu short tasks\n",
                static_cast<unsigned long long>(sent_.load()), static_cast<long long>(locked_),
                static_cast<long long>(turns_), static_cast<unsigned long long>(spawned_.load()));
  }

 private:
  void note_received(uint64_t v) {
    received_.fetch_add(1, std::memory_order_relaxed);
    received_sum_.fetch_add(v, std::memory_order_relaxed);
  }
  void note_sent(uint64_t v) {
    sent_.fetch_add(1, std::memory_order_relaxed);
    sent_sum_.fetch_add(v, std::memory_order_relaxed);
  }

  void make(uint32_t who) {
    std::mt19937 random(seed_ + who);
    while (time_.running()) {
      uint64_t v = random();
      auto& a = belts_[random() % belts_.size()];
      auto& b = belts_[random() % belts_.size()];
      switch (random() % 5) {
        case 0:
          if (a.try_send(v)) note_sent(v);
          break;
        case 1:
          if (select(on_send(a, v), on_send(b, v), on_default()) != 2) note_sent(v);
          break;
        case 2:
          if (select(on_send(a, v), on_timeout(std::chrono::microseconds(random() % 100))) == 0)
            note_sent(v);
          break;
        case 3:
          // Sends and receives at once, even to and from the same belt.
          if (select(on_send(a, v),
                     on_recv(b, [&](std::optional<uint64_t> r) { note_received(*r); })) == 0)
            note_sent(v);
          break;
        default:
          if (random() % 8 == 0) this_task::sleep_for(std::chrono::microseconds(random() % 50));
          a.send(v);
          note_sent(v);
      }
    }
  }

  void take(uint32_t who) {
    std::mt19937 random(seed_ + who);
    auto get = [this](std::optional<uint64_t> v) { note_received(*v); };
    for (;;) {
      auto& a = belts_[random() % belts_.size()];
      auto& b = belts_[random() % belts_.size()];
      int chosen;
      if (random() % 2 == 0)
        // Not for ever: a maker may wait on a belt that no taker has drawn.
        chosen = select(on_recv(a, get), on_recv(b, get), on_recv(stop_),
                        on_timeout(std::chrono::milliseconds(5)));
      else
        chosen = select(on_recv(a, get), on_timeout(std::chrono::microseconds(random() % 200)),
                        on_recv(stop_), on_recv(after(std::chrono::microseconds(random() % 300))));
      if (chosen == 2) return;
    }
  }

  void lock_things(uint32_t who) {
    std::mt19937 random(seed_ + who);
    while (time_.running()) {
      if (random() % 3 != 0)
        mutex_.lock();
      else if (!mutex_.try_lock_for(std::chrono::microseconds(random() % 80)))
        continue;
      int64_t seen = locked_;
      if (random() % 16 == 0) this_task::yield();
      locked_ = seen + 1;
      entered_.fetch_add(1, std::memory_order_relaxed);
      mutex_.unlock();
      if (random() % 4 == 0) this_task::yield();
    }
  }

  void wait_turns(uint32_t who) {
    std::mt19937 random(seed_ + who);
    while (time_.running()) {
      std::unique_lock hold(turn_mutex_);
      int64_t before = turns_;
      static_cast<void>(cv_.wait_for(hold, std::chrono::microseconds(random() % 200),
                                     [&] { return turns_ != before; }));
      ++turns_;
      if (random() % 2 == 0)
        cv_.notify_one();
      else
        cv_.notify_all();
    }
  }

  void hog() {
    while (time_.running()) {
      auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(15);
      while (std::chrono::steady_clock::now() < until) {
      }
      blocking([] { ::usleep(500); });
    }
  }

  void short_lived(uint32_t who) {
    std::mt19937 random(seed_ + who);
    while (time_.running()) {
      wait_group wg;
      for (uint32_t i = random() % 20; i > 0; --i) {
        ++spawned_;
        wg.go([this, i] {
          if (i % 3 == 0) this_task::yield();
          ++ended_;
        });
      }
      wg.wait();
    }
  }

  uint32_t seed_;
  test::stress_clock time_;
  std::array<chan<uint64_t>, 7> belts_;
  chan<int> stop_{0};
  std::atomic<uint64_t> sent_{0}, sent_sum_{0}, received_{0}, received_sum_{0};
  mutex mutex_;
  int64_t locked_ = 0;
  std::atomic<int64_t> entered_{0};
  mutex turn_mutex_;
  condition_variable cv_;
  int64_t turns_ = 0;
  std::atomic<uint64_t> spawned_{0}, ended_{0};
};

TEST(Mixed, EverythingAtOnce) {
  uint32_t seed = test::stress_seed();
  for (int procs : {1, 2, 4, 8}) {
    test::in_world(procs, [&] {
      factory(seed + static_cast<uint32_t>(procs), test::stress_time() / 4).work();
    });
  }
}

}  // namespace
}  // namespace weft
