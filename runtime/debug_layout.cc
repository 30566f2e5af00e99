// What tools/gdb/weft.py knows of the objects that tasks wait for.
#include "scheduler/debug_layout.h"

#include <weft/detail/chan_core.h>
#include <weft/mutex.h>
#include <weft/wait_group.h>

#include <cstddef>

// Some have reference members; gcc and clang lay them out as any struct.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

namespace weft::detail {

// A friend of the classes whose private members are shown.
struct debug_offsets {
  static constexpr size_t chan_count = offsetof(chan_core, count_);
  static constexpr size_t chan_capacity = offsetof(chan_core, capacity_);
  static constexpr size_t chan_closed = offsetof(chan_core, closed_);
  static constexpr size_t chan_receivers = offsetof(chan_core, receivers_);
  static constexpr size_t chan_senders = offsetof(chan_core, senders_);
  static constexpr size_t mutex_state = offsetof(mutex, state_);
  static constexpr size_t mutex_locked = mutex::locked_bit;
  static constexpr size_t wait_group_count = offsetof(wait_group, count_);
};

extern "C"
    [[gnu::used, gnu::retain]] constexpr sched::debug_layout_entry weft_debug_layout_runtime[] = {
        {"waiter.task", offsetof(waiter, task)},
        {"waiter.next", offsetof(waiter, next)},
        {"waiter.select", offsetof(waiter, select)},
        {"chan.count", debug_offsets::chan_count},
        {"chan.capacity", debug_offsets::chan_capacity},
        {"chan.closed", debug_offsets::chan_closed},
        {"chan.receivers", debug_offsets::chan_receivers},
        {"chan.senders", debug_offsets::chan_senders},
        {"mutex.state", debug_offsets::mutex_state},
        {"mutex.locked_bit", debug_offsets::mutex_locked},
        {"wait_group.count", debug_offsets::wait_group_count},
        {},
};

}  // namespace weft::detail
