// The profiles "block" and "mutex", from the tables that wait_probe.cc and runtime_locks.cc fill.
#include "profiler/contention_profile.h"

#include <algorithm>

#include "profiler/goroutine_profile.h"
#include "profiler/leaf_trim.h"
#include "profiler/runtime_locks.h"
#include "profiler/text_format.h"
#include "profiler/unwind.h"
#include "profiler/wait_probe.h"

namespace weft::prof {
namespace {

// {count, nanoseconds} by stack and labels; a count is `unit` events.
sample_set samples_of(bucket_table& table, int64_t unit) {
  unwind_refresh();  // stacks in libraries loaded since the last time are quicker from now on
  sample_set set(2);
  leaf_trim trim;
  table.for_each([&](bucket& b) {
    const int64_t events = b.get(counted::events);
    if (events == 0) return;
    const int64_t values[] = {std::max<int64_t>(events / unit, 1), b.get(counted::delay_ns)};
    set.add({trim(b.stack()), b.labels(), {}, b.is_other() ? "[other]" : ""}, values);
  });
  return set;
}

class block_source final : public profile_source {
 public:
  std::string_view name() const noexcept override { return "block"; }
  std::string_view description() const noexcept override {
    return "Stack traces that led to blocking on synchronization primitives";
  }
  int64_t count() const noexcept override {
    return static_cast<int64_t>(block_table().stats().buckets + stacks_waiting_for_runtime_locks());
  }

  profile_data collect(const collect_options&) const override {
    return contention_profile(samples(), wall_clock_nanos());
  }

  bool write_text(const text_sink& sink, int, const collect_options&) const override {
    contention_text_options options{"contention"};
    return write_contention_text(sink, options, samples());
  }

 private:
  static std::vector<sample> samples() {
    sample_set set = samples_of(block_table(), counted::event_unit);
    add_waits_for_runtime_locks(set);
    return set.take();
  }
};

class mutex_source final : public profile_source {
 public:
  std::string_view name() const noexcept override { return "mutex"; }
  std::string_view description() const noexcept override {
    return "Stack traces of holders of contended mutexes";
  }
  int64_t count() const noexcept override {
    return static_cast<int64_t>(mutex_table().stats().buckets + stacks_holding_runtime_locks());
  }

  profile_data collect(const collect_options&) const override {
    return contention_profile(samples(), wall_clock_nanos());
  }

  bool write_text(const text_sink& sink, int, const collect_options&) const override {
    // Readers multiply by the period. With none, the values are as they are.
    const int64_t period = set_mutex_fraction(-1);
    std::vector<sample> all = samples();
    if (period > 1) {
      for (sample& s : all)
        for (int64_t& value : s.values) value = (value + period / 2) / period;
    }
    contention_text_options options{"mutex"};
    options.sampling_period = period;
    return write_contention_text(sink, options, all);
  }

 private:
  static std::vector<sample> samples() {
    sample_set set = samples_of(mutex_table(), 1);
    add_holders_of_runtime_locks(set);
    return set.take();
  }
};

}  // namespace

profile_source& block_profile() {
  static block_source profile;
  return profile;
}

profile_source& mutex_profile() {
  static mutex_source profile;
  return profile;
}

}  // namespace weft::prof
