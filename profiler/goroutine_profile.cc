#include "profiler/goroutine_profile.h"

#include <chrono>

#include "profiler/capture.h"
#include "profiler/pprof_encoder.h"
#include "profiler/task_dump.h"
#include "profiler/text_format.h"

namespace weft::prof {

int64_t wall_clock_nanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::vector<sample> collect_tasks() {
  sample_set set(1);
  capture_tasks({}, [&](const task_snapshot& t) {
    set.add({{t.pcs, t.leaf_is_exact, t.truncated}, &t.labels, {}, {}}, 1);
  });
  return set.take();
}

bool write_goroutine_profile(const text_sink& sink, int debug) {
  if (debug >= 2) {
    bool open = true;
    write_task_dump([&](std::string_view piece) { return open = sink(piece); });
    return open;
  }
  std::vector<sample> samples = collect_tasks();
  if (debug == 1) return write_count_text(sink, "goroutine", samples);
  return sink(gzip(encode(count_profile("goroutine", std::move(samples), wall_clock_nanos()))));
}

size_t write_task_dump(const text_sink& sink, bool system_tasks) {
  task_dump_writer writer(sink, process_symbols(),
                          system_tasks ? leaf_frames::all : leaf_frames::hide_runtime);
  capture_options options;
  options.system_tasks = system_tasks;
  capture_tasks(options, [&](const task_snapshot& t) { writer.add(t); });
  writer.finish();
  return writer.tasks();
}

}  // namespace weft::prof
