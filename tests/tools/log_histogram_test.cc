// The buckets behind every latency that the examples report.
#include "examples/common/log_histogram.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace example {
namespace {

using namespace std::chrono_literals;

TEST(LogHistogram, BucketsFollowOneAnotherWithoutGaps) {
  size_t previous = 0;
  for (uint64_t ns = 0; ns < 3'000'000; ++ns) {
    size_t i = log_histogram::bucket_of(ns);
    ASSERT_TRUE(i == previous || i == previous + 1) << ns;
    ASSERT_LE(ns, log_histogram::upper_end(i)) << ns;
    if (i == 0) continue;
    ASSERT_GT(ns, log_histogram::upper_end(i - 1)) << ns;
    previous = i;
  }
}

TEST(LogHistogram, BucketsAreWithin1_6PercentUpToAnHour) {
  for (uint64_t ns = 1; ns <= log_histogram::largest; ns += ns / 7 + 1) {
    size_t i = log_histogram::bucket_of(ns);
    ASSERT_LT(i, log_histogram::bucket_count);
    ASSERT_GE(log_histogram::upper_end(i), ns);
    ASSERT_LE(static_cast<double>(log_histogram::upper_end(i)), static_cast<double>(ns) * 1.016);
  }
  ASSERT_LT(log_histogram::bucket_of(UINT64_MAX), log_histogram::bucket_count);
}

TEST(LogHistogram, PercentilesOfKnownValues) {
  log_histogram h;
  EXPECT_EQ(h.snapshot().percentile(0.5), 0ns);
  EXPECT_EQ(h.snapshot().mean(), 0ns);
  for (int i = 1; i <= 50; ++i) h.record(nanoseconds(i));  // below 64 ns the buckets are exact
  latency_counts seen = h.snapshot();
  EXPECT_EQ(seen.count(), 50u);
  EXPECT_EQ(seen.mean(), 25ns);
  EXPECT_EQ(seen.percentile(0), 1ns);
  EXPECT_EQ(seen.percentile(0.5), 25ns);
  EXPECT_EQ(seen.percentile(0.99), 50ns);
  EXPECT_EQ(seen.percentile(1), 50ns);
  h.record(-5ns);
  EXPECT_EQ(h.snapshot().percentile(0), 0ns);
}

TEST(LogHistogram, AnIntervalIsTheDifferenceOfTwoSnapshots) {
  log_histogram h;
  h.record(10ns);
  latency_counts before = h.snapshot();
  h.record(20ns);
  h.record(20ns);
  latency_counts interval = h.snapshot().since(before);
  EXPECT_EQ(interval.count(), 2u);
  EXPECT_EQ(interval.mean(), 20ns);
  EXPECT_EQ(interval.percentile(0), 20ns);

  latency_counts sum;
  sum.add(before);
  sum.add(interval);
  EXPECT_EQ(sum.count(), 3u);
  EXPECT_EQ(sum.percentile(1), 20ns);
}

TEST(LogHistogram, CountsEveryRecordOfManyThreads) {
  log_histogram h;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&h] {
      for (int i = 0; i < 10'000; ++i) h.record(nanoseconds(i));
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(h.snapshot().count(), 40'000u);
}

}  // namespace
}  // namespace example
