#pragma once
// The goroutine profile: all tasks by stack and labels, or one by one.
#include <cstdint>

#include "profiler/profile_registry.h"
#include "profiler/text_sink.h"

namespace weft::prof {

int64_t wall_clock_nanos();

// "goroutine" in the registry; debug=2 is write_task_dump().
profile_source& goroutine_profile();

// Every task's stack, "goroutine N [status]:" form; with `system_tasks` the runtime's own tasks and
// frames too. Returns the number of tasks.
size_t write_task_dump(const text_sink& sink, bool system_tasks = false);

}  // namespace weft::prof
