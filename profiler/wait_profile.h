#pragma once
#include "profiler/profile_registry.h"

namespace weft::prof {

// "wait": where tasks and threads did not run, and why, since the process began; waits that are
// under way count as far as they have come.
profile_source& wait_profile();

// "wall": CPU time and "wait" over an interval; of a task that lived through it the sum is the
// interval.
profile_source& wall_profile();

}  // namespace weft::prof
