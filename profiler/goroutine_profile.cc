#include "profiler/goroutine_profile.h"

#include <weft/blocking.h>
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
    bool open = true;
    if (debug == 1) {
      // Naming the frames takes long too; the text is one record per distinct stack.
      const std::string text = blocking([&] {
        std::string all;
        write_count_text(
            [&](std::string_view piece) {
              all += piece;
              return true;
            },
            "goroutine", collect_tasks(options));
        return all;
      });
      return sink(text);
    }
    write_task_dump([&](std::string_view piece) { return open = open && sink(piece); },
                    {.give_up_processor = true, .waits = true});
    return open;
  }

 private:
  // Counts by (stack, labels).
  static std::vector<sample> collect_tasks(const collect_options& how) {
    sample_set set(1);
    capture_options options;
    options.instant = true;
    options.stop = how.abandoned;
    options.between_stops = 65'536;
    options.give_up_processor = true;
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

// Text is handed over between captures, with the processor that the capture may have given up: a
// sink is the caller's code.
size_t write_task_dump(const text_sink& sink, const dump_options& how) {
  std::string pending;
  bool open = true;  // who reads may have gone
  const auto flush = [&] {
    open = open && (pending.empty() || sink(pending));
    pending.clear();
    return !open;
  };
  task_dump_writer writer(
      [&](std::string_view piece) {
        pending += piece;
        return true;
      },
      process_symbols(), how.system_tasks ? leaf_frames::all : leaf_frames::hide_runtime);
  capture_options options;
  options.instant = how.give_up_processor;
  options.system_tasks = how.system_tasks;
  options.give_up_processor = how.give_up_processor;
  options.owners = how.waits;
  // With a processor to be asked for each time, less often.
  options.between_stops = how.give_up_processor ? 8192 : 1024;
  options.stop = flush;
  capture_tasks(options, [&](const task_snapshot& t) { writer.add(t); });
  writer.finish();
  flush();
  return writer.tasks();
}

}  // namespace weft::prof
