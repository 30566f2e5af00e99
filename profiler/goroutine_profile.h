#pragma once
// The goroutine profile: all tasks by stack and labels, or one by one.
#include <cstdint>

#include "profiler/profile_registry.h"
#include "profiler/text_sink.h"

namespace weft::prof {

int64_t wall_clock_nanos();

// "goroutine" in the registry; debug=2 is write_task_dump().
profile_source& goroutine_profile();

// Every task's stack, "goroutine N [status]:" form. Returns the number of tasks.
struct dump_options {
  bool system_tasks = false;       // the runtime's own tasks and frames too
  bool give_up_processor = false;  // capture_options; not for the last words of a process
  bool waits = false;              // what each task waits on, and who holds it
};
size_t write_task_dump(const text_sink& sink, const dump_options& how = {});

}  // namespace weft::prof
