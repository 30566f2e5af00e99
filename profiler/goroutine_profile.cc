#include "profiler/goroutine_profile.h"

#include <weft/task.h>

#include <chrono>

#include "profiler/capture.h"
#include "profiler/task_dump.h"
#include "profiler/text_format.h"

namespace weft::prof {

int64_t wall_clock_nanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

namespace {

class goroutine_source final : public profile_source {
 public:
  std::string_view name() const noexcept override { return "goroutine"; }
  std::string_view description() const noexcept override {
    return "Stack traces of all current goroutines";
  }
  int64_t count() const noexcept override { return num_tasks(); }

  profile_data collect(const collect_options& options) const override {
    return count_profile("goroutine", collect_tasks(options), wall_clock_nanos());
  }

  bool write_text(const text_sink& sink, int debug, const collect_options& options) const override {
    if (debug == 1) return write_count_text(sink, "goroutine", collect_tasks(options));
    bool open = true;
    write_task_dump([&](std::string_view piece) { return open = open && sink(piece); });
    return open;
  }

 private:
  // Counts by (stack, labels).
  static std::vector<sample> collect_tasks(const collect_options& how) {
    sample_set set(1);
    capture_options options;
    options.stop = how.abandoned;
    capture_tasks(options, [&](const task_snapshot& t) {
      set.add({{t.pcs, t.leaf_is_exact, t.truncated}, &t.labels, {}, {}}, 1);
    });
    return set.take();
  }
};

}  // namespace

profile_source& goroutine_profile() {
  static goroutine_source profile;
  return profile;
}

size_t write_task_dump(const text_sink& sink, bool system_tasks) {
  task_dump_writer writer(sink, process_symbols(),
                          system_tasks ? leaf_frames::all : leaf_frames::hide_runtime);
  capture_options options;
  options.system_tasks = system_tasks;
  bool open = true;  // who reads may have gone
  options.stop = [&] { return !open; };
  capture_tasks(options, [&](const task_snapshot& t) { open = writer.add(t) && open; });
  writer.finish();
  return writer.tasks();
}

}  // namespace weft::prof
