#pragma once
// The threadcreate profile: the threads of the process, by the stack that made the runtime start
// them.
#include "profiler/profile_registry.h"

namespace weft::prof {

// "threadcreate" in the registry. Go's has had no stacks since 2013; these are real.
profile_source& thread_profile();

// Begins to note who starts threads. Once, before the first worker starts; what was started before
// is shown by its name only.
void install_thread_profile();

}  // namespace weft::prof
