// Which allocations weft::malloc samples, and when: any time of the process's life, any thread.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weft/weft.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "base/alloc_sampling.h"
#include "tests/unit/malloc/recorder.h"
#include "weft/malloc/sampled_store.h"

namespace weft::heap {
namespace {

[[gnu::noinline]] void* allocate(size_t size) {
  void* p = malloc(size);
  asm volatile("" : "+r"(p) : : "memory");
  return p;
}

// Big enough to be sampled for certain at the default rate: one chance in e^128 to miss.
struct early_object {
  std::unique_ptr<char[]> block{new char[64 << 20]};
};
const early_object g_early;

TEST(Sampler, StaticConstructorsAreSampled) { EXPECT_TRUE(is_sampled(g_early.block.get())); }

TEST(Sampler, RateOneSamplesEverythingExactly) {
  recorder record(1);
  std::vector<void*> blocks;
  blocks.reserve(10'000);
  const int64_t objects = record.sampled_objects(), bytes = record.sampled_bytes();
  int64_t expected = 0;
  for (size_t i = 0; i < 10'000; ++i) {
    blocks.push_back(allocate(i % 500));
    expected += static_cast<int64_t>(i % 500);
  }
  EXPECT_EQ(record.sampled_objects() - objects, 10'000);
  EXPECT_EQ(record.sampled_bytes() - bytes, expected);
  for (void* p : blocks) {
    ASSERT_TRUE(is_sampled(p));
    free(p);
  }
  EXPECT_EQ(record.live_objects(), 1) << "the vector";
}

TEST(Sampler, RateZeroSamplesNothing) {
  recorder record(0);
  for (int i = 0; i < 100; ++i) free(allocate(1 << 20));
  EXPECT_EQ(record.sampled_objects(), 0);
}

TEST(Sampler, ObjectsAreSampledAsOftenAsTheyShould) {
  recorder record(4096);
  for (size_t size : {16, 100, 1000, 4096, 20'000}) {
    constexpr int n = 100'000;
    const int64_t before = record.sampled_objects();
    for (int i = 0; i < n; ++i) free(allocate(size));
    const double p = 1 - std::exp(-static_cast<double>(size) / 4096);
    const auto sampled = static_cast<double>(record.sampled_objects() - before);
    EXPECT_NEAR(sampled / n, p, 6 * std::sqrt(p * (1 - p) / n)) << size;
  }
}

TEST(Sampler, ReallocCountsAsAnAllocationOfTheNewSize) {
  recorder record(1);
  void* p = allocate(100);
  const int64_t objects = record.sampled_objects(), bytes = record.sampled_bytes();
  const int64_t live = record.live_objects();
  p = realloc(p, 90);  // stays where it is
  EXPECT_EQ(recorder::size_of(p), 90u);
  p = realloc(p, 50'000);
  EXPECT_EQ(recorder::size_of(p), 50'000u);
  p = realloc(p, 10);
  EXPECT_EQ(recorder::size_of(p), 10u);
  EXPECT_EQ(record.sampled_objects() - objects, 3);
  EXPECT_EQ(record.sampled_bytes() - bytes, 90 + 50'000 + 10);
  EXPECT_EQ(record.live_objects(), live);
  free(p);
  EXPECT_EQ(record.live_objects(), live - 1);
}

TEST(Sampler, BlocksMoveBetweenTheTwoKindsOfMemory) {
  recorder record(1);
  void* p = allocate(1000);
  EXPECT_TRUE(is_sampled(p));
  base::set_mem_profile_rate(0);
  p = realloc(p, 2000);
  EXPECT_FALSE(is_sampled(p));
  base::set_mem_profile_rate(1);
  p = realloc(p, 2001);
  EXPECT_TRUE(is_sampled(p));
  base::set_mem_profile_rate(0);
  free(p);
  EXPECT_EQ(record.live_objects(), 0);
}

TEST(Sampler, FreedByAnotherThread) {
  recorder record(1);
  std::vector<void*> blocks(1000);
  std::thread maker([&] {
    for (void*& p : blocks) p = allocate(64);
  });
  maker.join();
  const int64_t live = record.live_objects();
  std::thread([&] {
    for (void* p : blocks) free(p);
  }).join();
  EXPECT_LE(record.live_objects(), live - 1000);
}

TEST(Sampler, AChangedRateIsSeenByThreadsThatAreAtIt) {
  recorder record(0);
  std::atomic<bool> stop{false};
  std::atomic<int> busy{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      busy.fetch_add(1);
      while (!stop) {
        for (int n = 0; n < 100; ++n) free(allocate(16));
      }
    });
  }
  while (busy != 4) std::this_thread::yield();
  for (int round = 0; round < 200; ++round) {
    // A mean of a terabyte: a thread that still counts down that distance would sample no more.
    base::set_mem_profile_rate(int64_t{1} << 40);
    base::set_mem_profile_rate(1);
    const int64_t before = record.sampled_objects();
    void* p = allocate(8);
    EXPECT_TRUE(is_sampled(p));
    free(p);
    while (record.sampled_objects() < before + 1000) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& t : threads) t.join();
}

TEST(Sampler, WhatRanOutAtTheOldRateKeepsIt) {
  recorder record(1 << 20);
  const int64_t before = record.sampled_objects();
  while (record.sampled_objects() == before) free(allocate(1000));
  EXPECT_EQ(recorder::rate_of(before), 1 << 20);
  base::set_mem_profile_rate(512);
  const int64_t then = record.sampled_objects();
  while (record.sampled_objects() == then) free(allocate(1000));
  EXPECT_EQ(recorder::rate_of(then), 512);
}

TEST(Sampler, ThreadsComeAndGo) {
  recorder record(1000);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([] {
        for (int n = 0; n < 100; ++n) free(allocate(200));
      });
    }
    base::set_mem_profile_rate(1000 + round);
    for (std::thread& t : threads) t.join();
  }
  EXPECT_GT(record.sampled_objects(), 0);
}

pthread_key_t g_late_key;

TEST(Sampler, DestructorsOfEndingThreadsMayAllocate) {
  recorder record(1);
  // glibc runs destructors in four rounds; this one allocates in each.
  ASSERT_EQ(::pthread_key_create(&g_late_key,
                                 [](void* p) {
                                   free(p);
                                   ::pthread_setspecific(g_late_key, allocate(100));
                                 }),
            0);
  for (int i = 0; i < 100; ++i) {
    std::thread([] { ::pthread_setspecific(g_late_key, allocate(100)); }).join();
    base::set_mem_profile_rate(1 + i % 2);  // looks at every thread's state
  }
  ::pthread_key_delete(g_late_key);
}

TEST(Sampler, AForkedChildAllocatesWhateverItsParentsThreadsWereDoing) {
  recorder record(1);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      std::vector<void*> blocks(64, nullptr);
      for (size_t n = 0; !stop; ++n) {
        free(blocks[n % 64]);
        blocks[n % 64] = allocate(n % 3000);
      }
      for (void* p : blocks) free(p);
    });
  }
  void* parents = allocate(100);
  for (int i = 0; i < 100; ++i) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::alarm(20);
      free(parents);
      // Nothing is recorded: what the parent's threads held of the recorder cannot be known.
      for (int n = 0; n < 1000; ++n) {
        void* p = allocate(100);
        if (is_sampled(p)) ::_exit(1);
        free(realloc(p, 200));
      }
      base::set_mem_profile_rate(100);
      ::_exit(0);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  free(parents);
}

TEST(SamplerDeathTest, AChildOfAProcessWithoutThreadsIsSampled) {
  // A child that was started anew, so without the threads of other tests.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        recorder record(1);
        const pid_t child = ::fork();
        if (child == 0) {
          void* p = allocate(100);
          ::_exit(is_sampled(p) && record.live(p) ? 0 : 1);
        }
        int status = -1;
        ::waitpid(child, &status, 0);
        ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 100);
      },
      testing::ExitedWithCode(0), "");
}

TEST(Sampler, TheListenerMayAllocate) {
  // As when a part of the recorder that nobody thought of does.
  static std::atomic<int> calls;
  calls = 0;
  static constexpr base::alloc_port allocating{
      .allocated = [](size_t, base::heap_kind, int64_t) noexcept -> void* {
        calls.fetch_add(1);
        free(allocate(10'000));
        return &calls;
      },
      .freed = [](void*) noexcept { free(allocate(10'000)); }};
  recorder restores(1);
  base::set_alloc_port(allocating);
  for (int i = 0; i < 100; ++i) free(allocate(10));
  EXPECT_EQ(calls, 100);
  base::set_mem_profile_rate(0);
}

TEST(Sampler, TasksOnAllThreadsOfTheRuntime) {
  recorder record(1);
  const int status = weft::run([] {
    wait_group done;
    std::atomic<int> bad{0};
    for (int i = 0; i < 100; ++i) {
      done.go([&] {
        for (int n = 0; n < 50; ++n) {
          void* p = allocate(100);
          if (!is_sampled(p)) bad.fetch_add(1);
          this_task::yield();
          free(p);
        }
      });
    }
    done.wait();
    return bad.load();
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace weft::heap
