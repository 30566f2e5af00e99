#pragma once
// The goroutine profile: all tasks by stack and labels, or one by one.
#include <cstdint>

#include "profiler/profile_kinds.h"
#include "profiler/text_sink.h"

namespace weft::prof {

int64_t wall_clock_nanos();

// Counts by (stack, labels), as samples with one value.
std::vector<sample> collect_tasks();

// The three forms of Go's debug parameter. False if the sink refused.
bool write_goroutine_profile(const text_sink& sink, int debug);

// Every task's stack, "goroutine N [status]:" form; with `system_tasks` the runtime's own tasks and
// frames too. Returns the number of tasks.
size_t write_task_dump(const text_sink& sink, bool system_tasks = false);

}  // namespace weft::prof
