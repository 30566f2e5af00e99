#include "examples/common/log_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace example {

size_t log_histogram::bucket_of(uint64_t ns) noexcept {
  ns = std::min(ns, largest);
  unsigned log2 = static_cast<unsigned>(std::bit_width(ns | 1)) - 1;
  if (log2 < precision) return ns;
  unsigned shift = log2 - precision;
  // The leading bit of ns >> shift is bit `precision`: it adds one block, hence shift and not shift
  // + 1.
  return (size_t{shift} << precision) + (ns >> shift);
}

uint64_t log_histogram::upper_end(size_t i) noexcept {
  size_t block = i >> precision;
  if (block <= 1) return i;
  size_t shift = block - 1;
  uint64_t leading = (i & ((1u << precision) - 1)) + (1u << precision);
  return ((leading + 1) << shift) - 1;
}

void log_histogram::record(nanoseconds value) noexcept {
  uint64_t ns = std::min(static_cast<uint64_t>(std::max<int64_t>(value.count(), 0)), largest);
  buckets_[bucket_of(ns)].fetch_add(1, std::memory_order_relaxed);
  sum_ns_.fetch_add(ns, std::memory_order_relaxed);
}

latency_counts log_histogram::snapshot() const {
  latency_counts seen;
  seen.sum_ns_ = sum_ns_.load(std::memory_order_relaxed);
  seen.buckets_.reserve(bucket_count);
  for (const auto& bucket : buckets_) {
    seen.buckets_.push_back(bucket.load(std::memory_order_relaxed));
    seen.count_ += seen.buckets_.back();
  }
  return seen;
}

nanoseconds latency_counts::mean() const noexcept {
  return nanoseconds(count_ == 0 ? 0 : static_cast<int64_t>(sum_ns_ / count_));
}

nanoseconds latency_counts::percentile(double p) const noexcept {
  if (count_ == 0) return nanoseconds(0);
  auto rank = static_cast<uint64_t>(std::ceil(p * static_cast<double>(count_)));
  rank = std::clamp<uint64_t>(rank, 1, count_);
  uint64_t below = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    below += buckets_[i];
    if (below >= rank) return nanoseconds(log_histogram::upper_end(i));
  }
  return nanoseconds(log_histogram::largest);
}

void latency_counts::add(const latency_counts& other) {
  buckets_.resize(std::max(buckets_.size(), other.buckets_.size()));
  for (size_t i = 0; i < other.buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  sum_ns_ += other.sum_ns_;
}

latency_counts latency_counts::since(const latency_counts& earlier) const {
  latency_counts interval = *this;
  for (size_t i = 0; i < earlier.buckets_.size(); ++i) interval.buckets_[i] -= earlier.buckets_[i];
  interval.count_ -= earlier.count_;
  interval.sum_ns_ -= earlier.sum_ns_;
  return interval;
}

}  // namespace example
