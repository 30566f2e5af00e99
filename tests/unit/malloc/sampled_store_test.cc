// The memory of sampled objects.
#include "weft/malloc/sampled_store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <thread>
#include <vector>

namespace weft::heap {
namespace {

size_t resident_bytes() {
  size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

TEST(SampledStore, BlocksAreInTheRangeAndOthersAreNot) {
  void* p = store_allocate(10, 16, false);
  ASSERT_NE(p, nullptr);
  EXPECT_TRUE(is_sampled(p));
  int local = 0;
  static int global = 0;
  EXPECT_FALSE(is_sampled(&local));
  EXPECT_FALSE(is_sampled(&global));
  EXPECT_FALSE(is_sampled(nullptr));
  EXPECT_EQ(store_token(p), nullptr);
  store_set_token(p, &local);
  EXPECT_EQ(store_token(p), &local);
  EXPECT_EQ(store_free(p), &local);
}

TEST(SampledStore, RandomBlocksKeepTheirBytesAndNeverOverlap) {
  std::mt19937 random(3);
  const size_t live_before = store_statistics().live;
  struct block {
    size_t size;
    unsigned char mark;
  };
  std::map<unsigned char*, block> live;
  for (int step = 0; step < 20'000; ++step) {
    if (live.size() < 300 && random() % 3 != 0) {
      // Every order of magnitude as often as any other.
      size_t size = random() % (size_t{1} << (random() % 21));
      size_t alignment = size_t{16} << (random() % 4 == 0 ? random() % 10 : 0);
      bool zero = random() % 2 == 0;
      auto* p = static_cast<unsigned char*>(store_allocate(size, alignment, zero));
      ASSERT_NE(p, nullptr);
      ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % alignment, 0u);
      ASSERT_GE(store_usable_size(p), size);
      if (zero) {
        ASSERT_TRUE(std::all_of(p, p + size, [](unsigned char b) { return b == 0; })) << size;
      }
      size = store_usable_size(p);
      auto next = live.lower_bound(p);
      if (next != live.end()) {
        ASSERT_LE(p + size, next->first - 16);
      }
      if (next != live.begin()) {
        auto prev = std::prev(next);
        ASSERT_LE(prev->first + prev->second.size, p - 16);
      }
      auto mark = static_cast<unsigned char>(step);
      std::memset(p, mark, size);
      live[p] = {size, mark};
    } else if (!live.empty()) {
      auto victim = std::next(live.begin(), static_cast<long>(random() % live.size()));
      unsigned char* p = victim->first;  // not a structured binding, which clang cannot capture
      const auto b = victim->second;
      ASSERT_TRUE(std::all_of(p, p + b.size, [&](unsigned char c) { return c == b.mark; }));
      store_free(p);
      live.erase(victim);
    }
  }
  for (auto& [p, b] : live) store_free(p);
  EXPECT_EQ(store_statistics().live, live_before);
}

TEST(SampledStore, LargeBlocksGiveTheirMemoryBack) {
  constexpr size_t size = 50 << 20;
  const size_t before = resident_bytes();
  for (int i = 0; i < 5; ++i) {
    void* blocks[4];
    for (void*& p : blocks) {
      p = store_allocate(size, 16, false);
      ASSERT_NE(p, nullptr);
      std::memset(p, 1, size);
    }
    EXPECT_GT(resident_bytes(), before + 2 * size);
    for (void* p : blocks) store_free(p);
  }
  // What stays idle is bounded.
  EXPECT_LT(resident_bytes(), before + (80 << 20));
  EXPECT_LE(store_statistics().idle, size_t{64} << 20);
}

TEST(SampledStore, AddressesAreUsedAgain) {
  const size_t before = store_statistics().committed;
  for (int i = 0; i < 1000; ++i) store_free(store_allocate(1 << 20, 16, false));
  std::vector<void*> small;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 10'000; ++i) small.push_back(store_allocate(100, 16, false));
    for (void* p : small) store_free(p);
    small.clear();
  }
  EXPECT_LT(store_statistics().committed, before + (70 << 20));
}

TEST(SampledStore, MoreThanTheRangeIsRefused) {
  EXPECT_EQ(store_allocate(size_t{1} << 45, 16, false), nullptr);
  EXPECT_EQ(store_allocate(SIZE_MAX, 16, false), nullptr);
  EXPECT_EQ(store_allocate(16, size_t{1} << 60, false), nullptr);
  void* p = store_allocate(16, 16, false);
  EXPECT_NE(p, nullptr);
  store_free(p);
}

TEST(SampledStore, ThreadsShareIt) {
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([seed] {
      std::mt19937 random(seed);
      std::vector<std::pair<unsigned char*, size_t>> mine;
      for (int i = 0; i < 20'000; ++i) {
        size_t size = 1 + random() % 2000;
        auto* p = static_cast<unsigned char*>(store_allocate(size, 16, false));
        std::memset(p, static_cast<int>(seed), size);
        mine.emplace_back(p, size);
        if (mine.size() < 64) continue;
        auto [q, n] = mine[random() % 64];
        ASSERT_TRUE(std::all_of(q, q + n, [&](unsigned char b) { return b == seed; }));
        for (auto& m : mine) {
          if (m.first == q) std::swap(m, mine.back());
        }
        store_free(q);
        mine.pop_back();
      }
      for (auto& m : mine) store_free(m.first);
    });
  }
  for (std::thread& t : threads) t.join();
}

using SampledStoreDeathTest = testing::Test;

TEST(SampledStoreDeathTest, MisuseIsNamed) {
  void* p = store_allocate(100, 16, false);
  EXPECT_DEATH(store_free(static_cast<char*>(p) + 16), "is not an allocated block");
  EXPECT_DEATH(
      {
        store_free(p);
        store_free(p);
      },
      "is not an allocated block: freed twice");
  EXPECT_DEATH(
      {
        static_cast<char*>(p)[-1] ^= 1;
        store_free(p);
      },
      "the bytes before it were overwritten");
  store_free(p);
}

}  // namespace
}  // namespace weft::heap
