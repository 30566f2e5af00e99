#pragma once
// The taskcreate profile: who spawns tasks, how many of them live, how many there ever were.
#include "profiler/profile_registry.h"

namespace weft::prof {

// "taskcreate" in the registry.
profile_source& task_create_profile();

// Records one in `n` spawns on average with its whole stack, from now on; 0 or less none, the
// default. What was recorded before keeps its weight.
void set_task_create_rate(int64_t n);
int64_t task_create_rate() noexcept;

}  // namespace weft::prof
