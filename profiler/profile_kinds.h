#pragma once
// The profiles weft offers, as Go defines them: sample types, units, periods. One function per
// kind, so that this file is the only place that knows the table.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/sample_set.h"
#include "profiler/stack_resolver.h"

namespace weft::prof {

struct value_type {
  std::string type;
  std::string unit;
  bool operator==(const value_type&) const = default;
};

// A profile ready to be encoded.
struct profile_data {
  std::vector<value_type> sample_types;
  value_type period_type;
  int64_t period = 0;
  int64_t time_nanos = 0;           // since 1970; 0: unknown
  int64_t duration_nanos = 0;       // 0: a snapshot, not an interval
  std::string default_sample_type;  // "": the reader shows the last sample type
  leaf_frames leaf = leaf_frames::all;
  bool changes_only = false;    // a delta: samples that are zero in all values are left out
  std::vector<sample> samples;  // values in the order of sample_types
};

// When a CPU profile was taken.
struct profile_interval {
  int64_t start_nanos;  // since 1970
  int64_t duration_nanos;
};

// samples/count and cpu/nanoseconds. `counts` are samples whose first value says how many times the
// timer fired (overruns included); the second, the nanoseconds, is 1e9 / hz each where it is
// missing. hz is 1 to 1'000'000'000, else std::invalid_argument. Runtime frames at the leaf stay:
// they are where the time went.
profile_data cpu_profile(std::vector<sample> counts, int64_t hz, profile_interval interval);

// NAME/count: goroutine, threadcreate, and every profile the program registers. One value each.
profile_data count_profile(std::string_view name, std::vector<sample> counts, int64_t time_nanos);

// contentions/count and delay/nanoseconds: block and mutex. Two values, in that order.
profile_data contention_profile(std::vector<sample> samples, int64_t time_nanos);

// samples/count and WHAT/nanoseconds: wait ("delay") and wall ("wall"). Two values, in that order.
// `period` is the time from which on a wait counts as it is.
profile_data off_cpu_profile(std::string_view what, std::vector<sample> samples, int64_t period,
                             int64_t time_nanos);

// alloc_objects, alloc_space, inuse_objects, inuse_space: four values, already scaled by the
// sampling rate. `show_allocations` makes alloc_space the default type (the allocs profile).
profile_data heap_profile(std::vector<sample> samples, int64_t rate, bool show_allocations,
                          int64_t time_nanos);

// What happened between two snapshots of one profile: values of `second` minus those of `first`,
// samples whose values are all zero dropped, negative ones kept. Time is that of the second,
// duration the time between the two. Throws std::invalid_argument when their sample types differ.
profile_data delta_profile(const profile_data& first, const profile_data& second);

}  // namespace weft::prof
