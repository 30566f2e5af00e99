#pragma once
// Stacks as roots.
#include <cstddef>
#include <cstdint>

#include "gc/mark.h"

namespace weft::gc {

// Tells the scheduler what to do before a task runs while stacks are being scanned. Once.
void install_scan_port() noexcept;

// World stopped: the stacks and registers of the threads that have stopped.
void mark_stopped_threads(marker& m) noexcept;

// Stacks of the tasks that do not run and of the threads that rest, as far as they have not been
// scanned in this epoch; `all`: regardless of that. While others run or while the world is stopped;
// returns when every stack that existed at the last stop has been scanned.
void mark_parked_tasks(marker& m, bool all) noexcept;

// Bytes of stack that the last cycle scanned.
size_t scanned_stack_bytes() noexcept;
void reset_scanned_stack_bytes() noexcept;

}  // namespace weft::gc
