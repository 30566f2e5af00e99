#pragma once
// The stack profile: memory and address space of the tasks' stacks, by who spawned the tasks.
#include "profiler/profile_registry.h"

namespace weft::prof {

// "stack" in the registry.
profile_source& stack_profile();

}  // namespace weft::prof
