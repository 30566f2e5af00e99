#pragma once
// Contention for the runtime's own locks, for the block and mutex profiles. runtime_locks.cc has
// the design.
#include <cstddef>
#include <cstdint>

#include "profiler/sample_set.h"

namespace weft::prof {

// Listens from now on, with the rates of the two profiles, or no longer when both are 0. Not
// concurrently.
void watch_runtime_locks(int64_t block_rate_ns, int64_t mutex_fraction) noexcept;

// Adds {waits, nanoseconds} by stack: of those who waited, and of those who were waited for. Any
// thread.
void add_waits_for_runtime_locks(sample_set& set);
void add_holders_of_runtime_locks(sample_set& set);

// Stacks there are of each.
size_t stacks_waiting_for_runtime_locks() noexcept;
size_t stacks_holding_runtime_locks() noexcept;

}  // namespace weft::prof
