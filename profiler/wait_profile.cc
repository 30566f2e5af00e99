// The profiles "wait" and "wall".
//
// Wait is what wait_probe.cc has counted of times that are over, and a capture of the tasks that do
// not run now. One that is captured counts no more than it will when it is over, so that the
// difference of two profiles is what happened between them: what is captured at its beginning is
// subtracted again. A task that is woken between the two readings of one profile may be missing or
// twice.
#include "profiler/wait_profile.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <unordered_map>

#include "base/clock.h"
#include "profiler/capture.h"
#include "profiler/cpu_sampler.h"
#include "profiler/goroutine_profile.h"
#include "profiler/leaf_trim.h"
#include "profiler/stack_here.h"
#include "profiler/text_format.h"
#include "profiler/unwind.h"
#include "profiler/wait_probe.h"
#include "scheduler/thread.h"
#include "scheduler/wait_watch.h"

namespace weft::prof {
namespace {

constexpr std::string_view reason_key = "reason";

void add_with_reason(sample_set& set, const stack_view& stack, const label_list* labels,
                     std::string_view reason, std::string_view pseudo_frame,
                     std::span<const int64_t> values) {
  label_list all;
  if (labels != nullptr) all = *labels;
  all.insert(std::ranges::upper_bound(all, reason_key, {}, &label_list::value_type::first),
             {std::string(reason_key), std::string(reason)});
  set.add({stack, &all, {}, pseudo_frame}, values);
}

// CPU time, since it was called so, of the tasks that execute without a processor: a call that
// computes does not wait. By task id.
std::unordered_map<uint64_t, int64_t> cpu_of_blocking_calls() {
  struct entry {
    uint64_t id;
    int64_t cpu_ns;
  };
  // No allocation while the registry of threads is locked.
  std::vector<entry> found;
  found.reserve(static_cast<size_t>(sched::thread_count()) + 64);
  sched::for_each_thread(
      [](sched::thread* th, void* arg) {
        auto& all = *static_cast<std::vector<entry>*>(arg);
        const int64_t before = th->blocked_cpu_ns.load(std::memory_order_relaxed);
        const sched::task* t = th->current.load(std::memory_order_relaxed);
        if (before < 0 || t == nullptr || all.size() == all.capacity()) return;
        all.push_back({t->id, sched::thread_cpu_ns(th->tid) - before});
      },
      &found);
  std::unordered_map<uint64_t, int64_t> by_id;
  for (const entry& e : found) by_id.emplace(e.id, e.cpu_ns);
  return by_id;
}

void add_waits_under_way(sample_set& set, leaf_trim& trim) {
  const wait_sampling sampling = current_wait_sampling();
  if (!sampling.on) return;
  const auto cpu = cpu_of_blocking_calls();
  capture_options options;
  options.depth = probe_depth;
  options.foreign_threads = true;
  capture_tasks(options, [&](const task_snapshot& t) {
    if (t.status == "running") return;
    const bool calls = t.status == "syscall";
    // The grid's times are those of the coarse clock, and never ahead of it.
    const bool coarse = sampling.grid && !t.foreign;
    const int64_t now = coarse ? base::coarse_ns() : base::now_ns();
    int64_t weight = weight_so_far(sampling, t.since_ns, now);
    if (calls) {
      const auto used = cpu.find(t.id);
      if (used == cpu.end()) return;  // nobody watched when it began
      weight = std::min(weight, now - t.since_ns - used->second);
    }
    if (weight <= 0) return;
    stack_view stack{t.pcs, t.leaf_is_exact, t.truncated};
    stack = t.foreign ? trim.interrupted(stack) : trim(stack);
    std::vector<uintptr_t> first;
    if (stack.leaf_is_exact && t.status == "runnable" && stack.pcs.size() == 1) {
      // Not started; what is recorded at its start has the form of a return address.
      first = {stack.return_address(0)};
      stack = {first, false, false};
    }
    const int64_t values[] = {1, weight};
    add_with_reason(set, stack, &t.labels, calls ? tag_name(blocking_tag) : t.status, "", values);
  });
}

sample_set collect_waits() {
  unwind_refresh();  // stacks in libraries loaded since the last time are quicker from now on
  sample_set set(2);
  leaf_trim trim;
  wait_table().for_each([&](bucket& b) {
    const int64_t values[] = {b.get(counted::events), b.get(counted::delay_ns)};
    if (values[0] == 0) return;
    add_with_reason(set, trim(b.stack()), b.labels(), tag_name(b.tag()),
                    b.is_other() ? "[other]" : "", values);
  });
  add_waits_under_way(set, trim);
  return set;
}

class wait_source final : public profile_source {
 public:
  std::string_view name() const noexcept override { return "wait"; }
  std::string_view description() const noexcept override {
    return "Stack traces of tasks that did not run, by reason, with those that wait now";
  }
  int64_t count() const noexcept override { return wait_table().stats().buckets; }

  profile_data collect(const collect_options&) const override {
    return off_cpu_profile("delay", collect_waits().take(), wait_rate(), wall_clock_nanos());
  }

  bool write_text(const text_sink& sink, int, const collect_options&) const override {
    contention_text_options options{"contention"};
    return write_contention_text(sink, options, collect_waits().take());
  }
};

class wall_source final : public profile_source {
 public:
  std::string_view name() const noexcept override { return "wall"; }
  std::string_view description() const noexcept override {
    return "CPU time and waits of all tasks. You can specify the duration in the seconds GET "
           "parameter; without it, one second.";
  }
  int64_t count() const noexcept override { return wait_table().stats().buckets; }

  profile_data collect(const collect_options& options) const override {
    const auto pause = [&] {
      for (int i = 0; i < 10; ++i) {
        if (options.abandoned && options.abandoned()) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      }
      return true;
    };
    std::optional<profile_data> p = collect_over(pause, options);
    return p ? std::move(*p) : off_cpu_profile("wall", {}, 0, wall_clock_nanos());
  }

  bool write_text(const text_sink& sink, int, const collect_options& options) const override {
    return write_contention_text(sink, {"contention"}, collect(options).samples);
  }

  std::optional<profile_data> collect_over(const std::function<bool()>& pause,
                                           const collect_options&) const override {
    const auto waits = [] {
      return off_cpu_profile("wall", collect_waits().take(), wait_rate(), wall_clock_nanos());
    };
    const profile_data before = waits();
    cpu_consumer cpu;
    if (!pause()) return std::nullopt;
    cpu_result r = cpu.stop();
    const profile_data ran =
        cpu_profile(std::move(r.samples), r.hz, {r.start_nanos, r.duration_nanos});
    profile_data all = delta_profile(before, waits());
    sample_set set(2);
    for (const sample& s : all.samples)
      set.add({s.stack(), &s.labels, s.numbers, s.pseudo_frame}, s.values);
    for (const sample& s : ran.samples)
      add_with_reason(set, s.stack(), &s.labels, "running", s.pseudo_frame, s.values);
    all.samples = set.take();
    all.leaf = leaf_frames::all;  // where CPU time went is no business of hiding
    return all;
  }
};

}  // namespace

profile_source& wait_profile() {
  static wait_source profile;
  return profile;
}

profile_source& wall_profile() {
  static wall_source profile;
  return profile;
}

}  // namespace weft::prof
