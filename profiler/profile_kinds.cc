#include "profiler/profile_kinds.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace weft::prof {
namespace {

constexpr int64_t second_nanos = 1'000'000'000;

int64_t saturating_multiply(int64_t a, int64_t b) {
  int64_t product = 0;
  if (!__builtin_mul_overflow(a, b, &product)) return product;
  return (a < 0) == (b < 0) ? std::numeric_limits<int64_t>::max()
                            : std::numeric_limits<int64_t>::min();
}

}  // namespace

profile_data cpu_profile(std::vector<sample> counts, int64_t hz, profile_interval interval) {
  if (hz < 1 || hz > second_nanos) {
    throw std::invalid_argument("CPU profile rate " + std::to_string(hz) +
                                " Hz is outside 1 to 1000000000");
  }
  profile_data profile;
  profile.sample_types = {{"samples", "count"}, {"cpu", "nanoseconds"}};
  profile.period_type = {"cpu", "nanoseconds"};
  profile.period = second_nanos / hz;
  profile.time_nanos = interval.start_nanos;
  profile.duration_nanos = interval.duration_nanos;
  for (sample& s : counts) {
    if (s.values.size() == 1) s.values.push_back(saturating_multiply(s.values[0], profile.period));
  }
  profile.samples = std::move(counts);
  return profile;
}

profile_data count_profile(std::string_view name, std::vector<sample> counts, int64_t time_nanos) {
  profile_data profile;
  profile.sample_types = {{std::string(name), "count"}};
  profile.period_type = {std::string(name), "count"};
  profile.period = 1;
  profile.time_nanos = time_nanos;
  // Go's goroutine profile has runtime.gopark on top of every stack, which says nothing; here the
  // topmost frame is the public call that waits.
  profile.leaf = leaf_frames::hide_runtime;
  profile.samples = std::move(counts);
  return profile;
}

profile_data contention_profile(std::vector<sample> samples, int64_t time_nanos) {
  profile_data profile;
  profile.sample_types = {{"contentions", "count"}, {"delay", "nanoseconds"}};
  profile.period_type = {"contentions", "count"};
  profile.period = 1;
  profile.time_nanos = time_nanos;
  profile.leaf = leaf_frames::hide_runtime;
  profile.samples = std::move(samples);
  return profile;
}

profile_data off_cpu_profile(std::string_view what, std::vector<sample> samples, int64_t period,
                             int64_t time_nanos) {
  profile_data profile;
  profile.sample_types = {{"samples", "count"}, {std::string(what), "nanoseconds"}};
  profile.period_type = {std::string(what), "nanoseconds"};
  profile.period = period;
  profile.time_nanos = time_nanos;
  profile.leaf = leaf_frames::hide_runtime;
  profile.samples = std::move(samples);
  return profile;
}

profile_data heap_profile(std::vector<sample> samples, int64_t rate, bool show_allocations,
                          int64_t time_nanos) {
  profile_data profile;
  profile.sample_types = {{"alloc_objects", "count"},
                          {"alloc_space", "bytes"},
                          {"inuse_objects", "count"},
                          {"inuse_space", "bytes"}};
  profile.period_type = {"space", "bytes"};
  profile.period = rate;
  profile.time_nanos = time_nanos;
  if (show_allocations) profile.default_sample_type = "alloc_space";
  profile.leaf = leaf_frames::hide_allocation;
  profile.samples = std::move(samples);
  return profile;
}

profile_data delta_profile(const profile_data& first, const profile_data& second) {
  if (first.sample_types != second.sample_types) {
    throw std::invalid_argument("delta_profile: the two profiles have different sample types");
  }
  sample_set sums(second.sample_types.size());
  const auto add = [&](const sample& s, std::span<const int64_t> values) {
    sums.add({s.stack(), &s.labels, s.numbers, s.pseudo_frame}, values);
  };
  for (const sample& s : second.samples) add(s, s.values);
  for (const sample& s : first.samples) {
    std::vector<int64_t> negated = s.values;
    for (int64_t& value : negated) value = saturating_multiply(value, -1);
    add(s, negated);
  }
  profile_data delta = second;
  delta.changes_only = true;
  delta.duration_nanos = second.time_nanos - first.time_nanos;
  delta.samples = sums.take();
  std::erase_if(delta.samples, [](const sample& s) {
    return std::ranges::all_of(s.values, [](int64_t value) { return value == 0; });
  });
  return delta;
}

}  // namespace weft::prof
