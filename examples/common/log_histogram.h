#pragma once
// log_histogram: latencies in buckets whose width grows with the value, so that a few thousand
// counters cover a nanosecond to an hour with an error below 1.6 %.
//
//   example::log_histogram h;
//   h.record(elapsed);                       // any task or thread, wait-free
//   auto seen = h.snapshot();
//   seen.percentile(0.99);
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace example {

using std::chrono::nanoseconds;

// Counts at one moment. Differences of two moments of the same histogram are an interval.
class latency_counts {
 public:
  uint64_t count() const noexcept { return count_; }
  // 0 when nothing was recorded.
  nanoseconds mean() const noexcept;
  // The smallest recorded value v such that the share `p` (0 to 1) of all values is <= v, rounded
  // up to the end of its bucket; 0 when nothing was recorded. p = 1 is the largest value.
  nanoseconds percentile(double p) const noexcept;

  void add(const latency_counts& other);
  // What was recorded since `earlier`, an older snapshot of the same histogram(s).
  latency_counts since(const latency_counts& earlier) const;

 private:
  friend class log_histogram;
  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  uint64_t sum_ns_ = 0;
};

class log_histogram {
 public:
  // Values below 0 count as 0, values above an hour as an hour.
  void record(nanoseconds value) noexcept;

  // Not atomic as a whole: a value recorded meanwhile may be missing, and counted the next time.
  latency_counts snapshot() const;

  // Every power of two from 2^precision up is split into 2^precision buckets; smaller values have
  // one bucket each.
  static constexpr unsigned precision = 6;
  static constexpr uint64_t largest = 3'600'000'000'000;
  static size_t bucket_of(uint64_t ns) noexcept;
  // The largest value that falls into bucket i.
  static uint64_t upper_end(size_t i) noexcept;
  static constexpr size_t bucket_count = (41 - precision + 2)
                                         << precision;  // 2^41 ns < 1 h < 2^42 ns

 private:
  std::array<std::atomic<uint64_t>, bucket_count> buckets_{};
  std::atomic<uint64_t> sum_ns_{0};
};

}  // namespace example
