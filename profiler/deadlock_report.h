#pragma once
// find_deadlocks() as text.
#include <cstddef>

#include "profiler/text_sink.h"

namespace weft::prof {

// Every deadlock: a line per wait that says who holds what, then the stacks of its tasks. Returns
// the number of deadlocks; "no deadlocks\n" if there are none.
size_t write_deadlocks(const text_sink& sink);

}  // namespace weft::prof
