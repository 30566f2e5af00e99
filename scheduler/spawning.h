#pragma once
// What spawn() does at the moment, for a collector above that wants to know whose memory it sees.
#include "scheduler/world_stop.h"

namespace weft::sched {

// Where the calling thread moves a closure that does not fit in a task's record; empty otherwise.
WEFT_OPAQUE memory_range closure_being_made() noexcept;

}  // namespace weft::sched
