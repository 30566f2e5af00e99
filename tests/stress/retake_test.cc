// Tasks that hold their processor without using the runtime, in every way, while others must go on.
#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/task.h>
#include <weft/wait_group.h>

#include <fcntl.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <vector>

#include "scheduler/runtime_control.h"
#include "tests/conformance/hogs.h"
#include "tests/conformance/world.h"
#include "tests/stress/stress.h"

namespace weft {
namespace {

// Work that no compiler removes and no runtime sees.
[[gnu::noinline]] uint64_t spin_for(std::chrono::microseconds d) {
  uint64_t n = 0;
  auto until = std::chrono::steady_clock::now() + d;
  while (std::chrono::steady_clock::now() < until) ++n;
  return n;
}

struct hog_counts {
  std::atomic<int> interrupted{0};
  std::atomic<int> rounds{0};
};

void hog(const test::stress_clock& time, int kind, hog_counts& counts) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  for (uint32_t round = 0; time.running(); ++round) {
    bool cut_short = false;
    switch (kind) {
      case 0:
        spin_for(std::chrono::milliseconds(12 + round % 10));
        break;
      case 1: {
        timespec pause{0, 15'000'000};
        cut_short = ::nanosleep(&pause, nullptr) != 0 && test::has_membarrier();
        break;
      }
      case 2: {
        pollfd p{fds[0], POLLIN, 0};
        cut_short = ::poll(&p, 1, 15) < 0 && errno == EINTR && test::has_membarrier();
        break;
      }
      case 3: {
        // A foreign writer ends the read; the read itself must not be disturbed.
        chan<int> go_on(1);
        go([&, go_on] {
          this_task::sleep_for(std::chrono::milliseconds(14));
          ssize_t n = ::write(fds[1], "x", 1);
          go_on.send(static_cast<int>(n));
        });
        char c = 0;
        cut_short = test::read_byte(fds[0], c) < 0 && errno == EINTR;
        go_on.recv();
        break;
      }
      default: {
        // malloc and the runtime in turns, at about the length of a slice.
        for (int i = 0; i < 20; ++i) {
          std::vector<char> block(static_cast<size_t>(1000 + i * 100));
          spin_for(std::chrono::microseconds(600));
          if (block[500] != 0 || i % 7 == 0) this_task::yield();
        }
      }
    }
    if (cut_short) ++counts.interrupted;
    ++counts.rounds;
  }
  ::close(fds[0]);
  ::close(fds[1]);
}

WEFT_WORLD_TEST(Retake, OthersGoOnBesideHogsOfEveryKind) {
  test::stress_clock time(test::stress_time() / 2);
  hog_counts counts;
  wait_group wg;
  for (int kind = 0; kind < 5; ++kind) wg.go([&, kind] { hog(time, kind, counts); });
  // The others keep exact books in per-task plain counters.
  std::array<int64_t, 6> plain{};
  std::atomic<int64_t> total{0};
  for (auto& mine : plain) {
    wg.go([&] {
      while (time.running()) {
        ++mine;
        total.fetch_add(1, std::memory_order_relaxed);
        if (mine % 8 == 0) {
          spawn([&] { ++mine; }).join();
          total.fetch_add(1, std::memory_order_relaxed);
        }
        this_task::yield();
      }
    });
  }
  wg.wait();
  int64_t sum = 0;
  for (int64_t n : plain) sum += n;
  EXPECT_EQ(sum, total.load());
  EXPECT_EQ(counts.interrupted.load(), 0);
  EXPECT_GT(counts.rounds.load(), 4);
  EXPECT_GT(sum, 100);
}

// Slices end while tasks enter and leave the runtime all the time: the protocol's own races.
WEFT_WORLD_TEST(Retake, AtEveryPointOfTheProtocol) {
  test::stress_clock time(test::stress_time() / 2);
  uint32_t seed = test::stress_seed();
  wait_group wg;
  std::atomic<int64_t> entered{0};
  std::vector<int64_t> mine(static_cast<size_t>(2 * test::world_procs() + 2));
  for (size_t i = 0; i < mine.size(); ++i) {
    wg.go([&, i] {
      std::mt19937 random(seed + static_cast<uint32_t>(i));
      while (time.running()) {
        switch (random() % 4) {
          case 0:
            spin_for(std::chrono::microseconds(9'900 + random() % 400));
            break;
          case 1:
            blocking([&] { spin_for(std::chrono::microseconds(random() % 50)); });
            break;
          case 2:
            this_task::yield();
            break;
          default:
            this_task::id();
        }
        ++mine[i];
        entered.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  wg.wait();
  int64_t sum = 0;
  for (int64_t n : mine) sum += n;
  EXPECT_EQ(sum, entered.load());
}

// Slices so short that a processor changes hands thousands of times a second, at every point of the
// protocol, among locked tasks, blocking calls and resizes. Afterwards the books of the tasks are
// exact, and so are those of the processors, whose plain counters only their holders may touch: the
// world's end compares tasks created with tasks finished.
WEFT_WORLD_TEST(Retake, ShortSlices) {
  test::stress_clock time(test::stress_time() / 2);
  const uint32_t seed = test::stress_seed();
  const int64_t slice = sched::slice();
  const uint64_t retakes = sched::retakes();
  sched::set_slice(60'000);
  wait_group wg;
  std::atomic<int64_t> total{0};
  std::vector<int64_t> mine(12);
  for (size_t i = 0; i < mine.size(); ++i) {
    wg.go([&, i] {
      std::mt19937 random(seed + static_cast<uint32_t>(i));
      while (time.running()) {
        switch (random() % 8) {
          case 0:
          case 1:
            spin_for(std::chrono::microseconds(random() % 300));
            break;
          case 2: {
            timespec pause{0, static_cast<long>(random() % 200'000)};
            ::nanosleep(&pause, nullptr);
            break;
          }
          case 3:
            blocking([&] { spin_for(std::chrono::microseconds(random() % 50)); });
            break;
          case 4:
            lock_os_thread();
            this_task::yield();
            spin_for(std::chrono::microseconds(random() % 200));
            this_task::yield();
            unlock_os_thread();
            break;
          case 5:
            spawn([&] {
              ++mine[i];
              total.fetch_add(1, std::memory_order_relaxed);
            }).join();
            break;
          case 6:
            for (int k = 0; k < 300; ++k) this_task::id();
            break;
          default:
            this_task::yield();
        }
        ++mine[i];
        total.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  wg.go([&] {
    std::mt19937 random(seed);
    while (time.running()) {
      if (random() % 16 == 0) set_max_procs(1 + static_cast<int>(random() % 4));
      this_task::sleep_for(std::chrono::microseconds(500));
    }
    set_max_procs(test::world_procs());
  });
  wg.wait();
  sched::set_slice(slice);
  int64_t sum = 0;
  for (int64_t n : mine) sum += n;
  EXPECT_EQ(sum, total.load());
  const uint64_t taken = sched::retakes() - retakes;
  std::printf("    %llu retakes in %lld rounds\n", static_cast<unsigned long long>(taken),
              static_cast<long long>(sum));
  EXPECT_GT(taken, 10u);
}

}  // namespace
}  // namespace weft
