#pragma once
// Waits with an optional deadline on a list that a small_lock guards.
#include <weft/detail/waiter.h>

#include "runtime/select_wait.h"
#include "scheduler/park.h"

namespace weft::detail {

// Parks the calling task, whose waiter `w` is queued on a list guarded by `lock`, which is held and
// gets released. True when a waker took w off the list; false when deadline_ns (CLOCK_MONOTONIC,
// never_ns for none) passed first: then the lock is held again, and the caller takes w off the list
// if it is still queued, before it unlocks. Inside a critical section.
bool wait_until(waiter& w, int64_t deadline_ns, sched::wait_reason reason, const void* waits_on,
                small_lock& lock) noexcept;

// The first waiter whose wait has not ended by its deadline; null if none.
inline waiter* pop_claimable(waiter_list& list) noexcept {
  while (waiter* w = list.pop_front()) {
    if (w->select == nullptr || w->select->claim(w)) return w;
  }
  return nullptr;
}

}  // namespace weft::detail
