#pragma once
// Log histogram of durations in nanoseconds: 64 buckets per power of two, so a percentile is at
// most 1/64 (1.6 %) above the true value; 30 KB, no allocation while recording.

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace bench {

class histogram {
 public:
  void add(std::uint64_t ns) {
    ++buckets_[index_of(ns)];
    ++count_;
    max_ = std::max(max_, ns);
  }

  std::uint64_t count() const { return count_; }
  std::uint64_t max() const { return max_; }

  // Upper edge of the bucket that holds the q-quantile (0 < q <= 1); 0 when empty.
  std::uint64_t quantile(double q) const {
    if (count_ == 0) return 0;
    const auto rank =
        std::max<std::uint64_t>(1, static_cast<std::uint64_t>(q * static_cast<double>(count_)));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (seen >= rank) return std::min(upper_edge(i), max_);
    }
    return max_;
  }

 private:
  static constexpr int sub_bits = 6;
  static constexpr std::size_t sub_count = std::size_t{1} << sub_bits;

  // Values below 64 have a bucket each; above, the top 7 bits select it.
  static std::size_t index_of(std::uint64_t v) {
    if (v < sub_count) return static_cast<std::size_t>(v);
    const int shift = std::bit_width(v) - 1 - sub_bits;
    return static_cast<std::size_t>(shift + 1) * sub_count +
           static_cast<std::size_t>((v >> shift) - sub_count);
  }

  static std::uint64_t upper_edge(std::size_t index) {
    if (index < sub_count) return index;
    const auto shift = index / sub_count - 1;
    const auto top = index % sub_count + sub_count;
    return ((static_cast<std::uint64_t>(top) + 1) << shift) - 1;
  }

  std::array<std::uint64_t, (64 - sub_bits + 1) * sub_count> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace bench
