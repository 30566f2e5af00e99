#pragma once
// Waking lists of waiters.
#include <weft/detail/waiter.h>

#include "scheduler/park.h"

namespace weft::detail {

// Readies every waiter of a list that nobody else sees any more, first to last. Inside a critical
// section.
inline void wake_all(waiter_list& list) noexcept {
  while (waiter* w = list.pop_front()) sched::ready(w->task, false);
}

}  // namespace weft::detail
