// The distances between heap samples: their distribution is what makes a profile true.
#include "base/alloc_sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace weft::base {
namespace {

// Sampled share of `n` objects of `size` bytes, counted down as the header says.
double sampled_share(int64_t size, int64_t rate, int n, uint64_t seed) {
  uint64_t rng = seed;
  int sampled = 0;
  int64_t left = next_sample_distance(rng, rate);
  for (int i = 0; i < n; ++i) {
    left -= size;
    if (left >= 0) continue;
    ++sampled;
    left = next_sample_distance(rng, rate);
  }
  return static_cast<double>(sampled) / n;
}

TEST(SampleDistance, AnObjectIsSampledWithTheProbabilityThatTheProfileDividesBy) {
  constexpr int n = 400'000;
  for (int64_t rate : {2, 3, 100, 4096, 524'288}) {
    for (int64_t size : {1, 2, 16, 1000, 4096, 524'288, 3'000'000}) {
      double p = 1 - std::exp(-static_cast<double>(size) / static_cast<double>(rate));
      // Five standard deviations of a binomial share: 1 in 3 million for a correct generator, and
      // the seed is fixed.
      double bound = 5 * std::sqrt(p * (1 - p) / n) + 1e-9;
      EXPECT_NEAR(sampled_share(size, rate, n, 20), p, bound)
          << "size " << size << " rate " << rate;
    }
  }
}

TEST(SampleDistance, HasNoMemory) {
  // The distances have the exponential's mean and variance, and neighbours are uncorrelated.
  constexpr int n = 200'000;
  constexpr int64_t rate = 1'000'000;
  uint64_t rng = 7;
  double sum = 0, squares = 0, products = 0, before = 0;
  for (int i = 0; i < n; ++i) {
    double d = static_cast<double>(next_sample_distance(rng, rate)) / rate;
    sum += d;
    squares += d * d;
    products += (d - 1) * (before - 1);
    before = d;
  }
  EXPECT_NEAR(sum / n, 1, 5 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 2, 5 * std::sqrt(20.0 / n));
  EXPECT_NEAR(products / n, 0, 5 / std::sqrt(n));
}

TEST(SampleDistance, RateOneTakesEveryAllocationEvenOfSizeZero) {
  uint64_t rng = 1;
  int64_t left = next_sample_distance(rng, 1);
  EXPECT_LT(left - 0, 0);
  EXPECT_EQ(sampled_share(1, 1, 100, 1), 1);
}

TEST(SampleDistance, OffAsksToBeLookedAtAgain) {
  uint64_t rng = 1;
  EXPECT_GT(next_sample_distance(rng, 0), 0);
  EXPECT_LT(next_sample_distance(rng, 0), int64_t{1} << 32);
}

TEST(SampleDistance, HugeRatesDoNotOverflow) {
  uint64_t rng = 3;
  for (int i = 0; i < 1000; ++i)
    EXPECT_GE(next_sample_distance(rng, std::numeric_limits<int64_t>::max()), 0);
}

TEST(SampleRng, SeededProcessesDrawTheSameStreams) {
  seed_sample_rngs(42);
  std::vector<uint64_t> first{new_sample_rng(), new_sample_rng(), new_sample_rng()};
  seed_sample_rngs(42);
  std::vector<uint64_t> again{new_sample_rng(), new_sample_rng(), new_sample_rng()};
  EXPECT_EQ(first, again);
  seed_sample_rngs(43);
  EXPECT_NE(new_sample_rng(), first[0]);
  EXPECT_NE(first[0], first[1]);
}

int g_changes = 0;
int64_t g_seen = 0;

TEST(MemProfileRate, ListenersSeeTheNewRate) {
  on_mem_profile_rate([]() noexcept {
    ++g_changes;
    g_seen = mem_profile_rate();
  });
  EXPECT_EQ(mem_profile_rate(), 512 * 1024);
  set_mem_profile_rate(1);
  EXPECT_EQ(g_seen, 1);
  set_mem_profile_rate(-5);
  EXPECT_EQ(g_seen, 0);
  EXPECT_EQ(g_changes, 2);
  set_mem_profile_rate(512 * 1024);
}

TEST(AllocPort, NobodyListensUntilOneIsSet) {
  EXPECT_EQ(current_alloc_port().allocated, nullptr);
  static constexpr alloc_port port{.freed = [](void*) noexcept {}};
  set_alloc_port(port);
  EXPECT_EQ(&current_alloc_port(), &port);
  static constexpr alloc_port none;
  set_alloc_port(none);
}

}  // namespace
}  // namespace weft::base
