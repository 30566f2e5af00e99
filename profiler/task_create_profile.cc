// Who spawns tasks.
//
// Two questions, answered by two means, because a spawn costs some 130 ns and may not cost much
// more:
//
//   live     from the records of the tasks themselves, each of which knows the address that spawned
//            it. Exact, always there, and free for who spawns; the stack is that one frame.
//   created  by sampling. The event of a spawn is wanted only while a rate is set: off is the one
//            branch that every event has. On, a thread counts down to its next sample, and a sample
//            is the whole stack of the spawner, its labels, and a weight of the rate that was drawn
//            with, so that sums are those of all spawns, without bias.
//
// Both lie under the same leaf, the function that spawned, so `-top` shows them side by side. Over
// an interval (?seconds=N) spawns are sampled even if the program set no rate.
//
// Rejected: exact counts by address (a table look-up in every spawn, 5 % of it); samples that
// follow their task to its end, to have whole stacks of the living (a hook in every end, for what
// goroutine profiles show already).
#include "profiler/task_create_profile.h"

#include <weft/detail/config.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/alloc_sampling.h"
#include "base/events.h"
#include "profiler/bucket_table.h"
#include "profiler/capture.h"
#include "profiler/goroutine_profile.h"
#include "profiler/stack_here.h"
#include "profiler/text_format.h"
#include "profiler/unwind.h"
#include "scheduler/task.h"
#include "scheduler/thread.h"

namespace weft::prof {
namespace {

// For an interval of a program that set no rate: a few nanoseconds per spawn.
constexpr int64_t interval_rate = 100;

constinit bucket_table g_created(1);
std::atomic<int64_t> g_rate{0};

// What is left until this thread's next sample, under which rate that was drawn, and its generator.
// Read inside the runtime's critical sections only, where nothing switches.
struct countdown {
  int64_t left = 0;
  int64_t rate = 0;
  uint64_t rng = 0;
};
WEFT_OPAQUE countdown& own_countdown() noexcept {
  thread_local countdown c;
  asm volatile("");
  return c;
}

void draw(countdown& c, int64_t rate) noexcept {
  if (c.rng == 0) c.rng = base::new_sample_rng();
  c.rate = rate;
  c.left = 1;
  if (rate == 1) return;
  // Geometric, from an exponential: each spawn has the chance 1 / rate, whatever the pattern in
  // which the program spawns.
  constexpr int64_t one = int64_t{1} << 30;
  const double e =
      static_cast<double>(base::next_sample_distance(c.rng, one)) / static_cast<double>(one);
  c.left += static_cast<int64_t>(e / -std::log1p(-1.0 / static_cast<double>(rate)));
}

void sample_spawn(int64_t weight) noexcept {
  uintptr_t pcs[probe_depth];
  const captured_stack stack = stack_here(pcs);
  const sched::thread* th = sched::self_or_null();
  const sched::task* spawner =
      th != nullptr ? th->current.load(std::memory_order_relaxed) : nullptr;
  bucket_key key;
  key.pcs = {pcs, stack.depth};
  key.truncated = stack.truncated;
  if (spawner != nullptr) {
    // Its own labels, which nobody else changes.
    key.labels = static_cast<const weft::detail::label_node*>(
        spawner->labels.load(std::memory_order_relaxed));
  }
  bucket* b = g_created.acquire(key);
  b->add(0, weight);
  // Never released: these counts only grow, and scrapers compare them.
}

void on_spawn(const base::event&, void*) noexcept {
  countdown& c = own_countdown();
  const int64_t rate = g_rate.load(std::memory_order_relaxed);
  if (rate <= 0) return;
  if (c.rate != rate) draw(c, rate);
  if (--c.left > 0) return;
  sample_spawn(rate);
  draw(c, rate);
}

constexpr uint32_t spawns = 1u << static_cast<int>(base::event_kind::task_create);

class task_create_source final : public profile_source {
 public:
  std::string_view name() const noexcept override { return "taskcreate"; }
  std::string_view description() const noexcept override {
    return "Stack traces that led to the creation of tasks (sampled), and live tasks by who "
           "created them";
  }
  int64_t count() const noexcept override { return g_created.stats().buckets; }
  void set_rate(int64_t n) const override { set_task_create_rate(n); }

  profile_data collect(const collect_options& options) const override {
    profile_data data;
    data.sample_types = {{"created", "count"}, {"live", "count"}};
    data.period_type = {"created", "count"};
    data.period = std::max<int64_t>(task_create_rate(), 1);
    data.time_nanos = wall_clock_nanos();
    data.leaf = leaf_frames::hide_runtime;
    data.samples = samples(options);
    return data;
  }

  // "LIVE: LIVE [CREATED: CREATED] @ ..." has no reader, so the form is that of counts, of the
  // tasks that live; what was created is in comments.
  bool write_text(const text_sink& sink, int, const collect_options& options) const override {
    std::vector<sample> all = samples(options);
    std::vector<sample> live, created;
    int64_t ever = 0;
    for (sample& s : all) {
      const bool lives = s.values[1] != 0;
      ever += s.values[0];
      s.values = {lives ? s.values[1] : s.values[0]};
      (lives ? live : created).push_back(std::move(s));
    }
    if (!write_count_text(sink, "taskcreate", live)) return false;
    std::string rest = "# created while recorded: " + std::to_string(ever) + ", one in " +
                       std::to_string(task_create_rate()) + " recorded now\n";
    bool open = sink(rest);
    // As comments, for people: a reader of the counts above must not add them.
    auto comment = [&](std::string_view piece) {
      std::string text;
      for (size_t at = 0; at < piece.size();) {
        const size_t end = std::min(piece.find('\n', at), piece.size());
        const std::string_view line = piece.substr(at, end - at);
        if (!line.starts_with("#") && !line.empty()) text += "# ";
        text += line;
        text += '\n';
        at = end + 1;
      }
      return sink(text);
    };
    if (open && !created.empty()) open = write_count_text(comment, "created", created);
    return open;
  }

  std::optional<profile_data> collect_over(const std::function<bool()>& pause,
                                           const collect_options& options) const override {
    const interval on;
    return profile_source::collect_over(pause, options);
  }

 private:
  // Sampling for as long as somebody asks about an interval.
  class interval {
   public:
    interval() {
      std::lock_guard hold(lock());
      if (running()++ == 0 && task_create_rate() == 0) {
        set_task_create_rate(interval_rate);
        ours() = true;
      }
    }
    ~interval() {
      std::lock_guard hold(lock());
      // A rate that the program has set meanwhile stays.
      if (--running() == 0 && std::exchange(ours(), false) && task_create_rate() == interval_rate)
        set_task_create_rate(0);
    }
    interval(const interval&) = delete;

   private:
    static std::mutex& lock() {
      static std::mutex m;
      return m;
    }
    static int& running() {
      static int n = 0;
      return n;
    }
    static bool& ours() {
      static bool b = false;
      return b;
    }
  };

  static std::vector<sample> samples(const collect_options& how) {
    sample_set set(2);
    g_created.for_each([&](bucket& b) {
      const int64_t values[2] = {b.get(0), 0};
      sample_key key{b.stack(), b.labels(), {}, {}};
      if (b.is_other()) key.pseudo_frame = "[other]";
      set.add(key, values);
    });
    capture_options options;
    options.depth = 1;
    options.stop = how.abandoned;
    capture_tasks(options, [&](const task_snapshot& t) {
      const int64_t values[2] = {0, 1};
      sample_key key{
          {{&t.created_by, t.created_by != 0 ? size_t{1} : size_t{0}}}, &t.labels, {}, {}};
      if (t.created_by == 0) key.pseudo_frame = "[main task]";
      set.add(key, values);
    });
    return set.take();
  }
};

}  // namespace

profile_source& task_create_profile() {
  static task_create_source profile;
  return profile;
}

void set_task_create_rate(int64_t n) {
  static std::mutex lock;
  std::lock_guard hold(lock);
  n = std::max<int64_t>(n, 0);
  if (n > 0) unwind_refresh();  // here, not in the first spawn
  const int64_t before = g_rate.exchange(n, std::memory_order_relaxed);
  if (before == 0 && n > 0) base::add_sink(spawns, on_spawn, nullptr);
  if (before > 0 && n == 0) base::remove_sink(on_spawn, nullptr);
}

int64_t task_create_rate() noexcept { return g_rate.load(std::memory_order_relaxed); }

}  // namespace weft::prof
