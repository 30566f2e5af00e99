// Stacks of tasks: whose they are, and what they cost.
//
// A sample is a spawn site, the labels of the tasks, and the class of the stack as the label
// "stack_class". Its values:
//   stacks    how many
//   reserved  bytes of address space, guards included; costs nothing by itself
//   used      bytes between the stack pointer and the stack's beginning, as the task last left it
//   resident  bytes of memory that the kernel has given it: what was ever used and not yet trimmed
// Stacks that wait for reuse are one sample, "[free stacks]", of which reserved is known.
//
// Residency is asked of the kernel, a system call for every stack, from its beginning down to the
// first page that is not there: a stack is used from one end. A task that has not run has no stack.
#include "profiler/stack_profile.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "profiler/capture.h"
#include "profiler/goroutine_profile.h"
#include "profiler/text_format.h"
#include "scheduler/stack.h"

namespace weft::prof {
namespace {

enum value : uint8_t { stacks, reserved, used, resident };
constexpr size_t values_per_stack = 4;

// Bytes in memory of [lo, hi), counted from `hi` down to the first page that is not.
int64_t resident_bytes(uintptr_t lo, uintptr_t hi) {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  constexpr uintptr_t pages_at_a_time = 64;
  unsigned char there[pages_at_a_time];
  uintptr_t end = (hi + page - 1) / page * page;
  lo = (lo + page - 1) / page * page;
  int64_t bytes = 0;
  while (end > lo) {
    const uintptr_t begin = std::max(lo, end - std::min(end, pages_at_a_time * page));
    const size_t pages = (end - begin) / page;
    // The task may have ended meanwhile and its stack be gone: then it costs nothing.
    if (::mincore(reinterpret_cast<void*>(begin), end - begin, there) != 0) return bytes;
    for (size_t i = pages; i-- > 0;) {
      if ((there[i] & 1) == 0) return bytes;
      bytes += static_cast<int64_t>(page);
    }
    end = begin;
  }
  return bytes;
}

class stack_source final : public profile_source {
 public:
  std::string_view name() const noexcept override { return "stack"; }
  std::string_view description() const noexcept override {
    return "Memory of task stacks, by who created the tasks";
  }
  int64_t count() const noexcept override {
    return static_cast<int64_t>(sched::stack_statistics().in_use);
  }

  profile_data collect(const collect_options& options) const override {
    profile_data data;
    data.sample_types = {
        {"stacks", "count"}, {"reserved", "bytes"}, {"used", "bytes"}, {"resident", "bytes"}};
    data.period_type = {"stacks", "count"};
    data.period = 1;
    data.time_nanos = wall_clock_nanos();
    data.leaf = leaf_frames::hide_runtime;
    data.samples = samples(options);
    return data;
  }

  // Bytes in memory, in the form of counts: a reader's total is the memory of all stacks.
  bool write_text(const text_sink& sink, int, const collect_options& options) const override {
    std::vector<sample> all = samples(options);
    int64_t sums[values_per_stack] = {};
    for (sample& s : all) {
      for (size_t i = 0; i < values_per_stack; ++i) sums[i] += s.values[i];
      s.values = {s.values[resident]};
    }
    std::erase_if(all, [](const sample& s) { return s.values[0] == 0; });
    if (!write_count_text(sink, "stack", all)) return false;
    return sink("# stacks: " + std::to_string(sums[stacks]) + ", bytes reserved: " +
                std::to_string(sums[reserved]) + ", used: " + std::to_string(sums[used]) +
                ", resident: " + std::to_string(sums[resident]) + "\n");
  }

 private:
  static std::vector<sample> samples(const collect_options& how) {
    sample_set set(values_per_stack);
    capture_options options;
    options.depth = 1;
    options.stop = how.abandoned;
    capture_tasks(options, [&](const task_snapshot& t) {
      const task_stack& s = t.stack;
      if (s.hi == 0) return;
      int64_t values[values_per_stack] = {};
      values[stacks] = 1;
      values[reserved] = static_cast<int64_t>(s.reserved);
      values[used] = s.sp > s.lo && s.sp <= s.hi ? static_cast<int64_t>(s.hi - s.sp) : 0;
      values[resident] = resident_bytes(s.lo, s.hi);
      label_list labels = t.labels;
      labels.emplace_back("stack_class", s.class_name);
      std::ranges::sort(labels);
      sample_key key{{{&t.created_by, t.created_by != 0 ? size_t{1} : size_t{0}}}, &labels, {}, {}};
      if (t.created_by == 0) key.pseudo_frame = "[main task]";
      set.add(key, values);
    });
    const sched::stack_stats all = sched::stack_statistics();
    if (all.free + all.cold > 0) {
      int64_t values[values_per_stack] = {};
      values[stacks] = static_cast<int64_t>(all.free + all.cold);
      values[reserved] = static_cast<int64_t>(all.reserved_bytes - all.in_use_bytes);
      set.add({{}, nullptr, {}, "[free stacks]"}, values);
    }
    return set.take();
  }
};

}  // namespace

profile_source& stack_profile() {
  static stack_source profile;
  return profile;
}

}  // namespace weft::prof
