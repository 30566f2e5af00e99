#pragma once
// Waits with optional limits, on a list that a small_lock guards.
#include <weft/detail/waiter.h>

#include <chrono>

#include "base/clock.h"
#include "runtime/cancel_source.h"
#include "runtime/select_wait.h"
#include "scheduler/park.h"

namespace weft::detail {

// What may end a wait besides a waker: a deadline, a cancelled context, or both.
struct wait_limit {
  wait_limit() noexcept = default;
  wait_limit(int64_t when_ns) noexcept : deadline_ns(when_ns) {}  // NOLINT: a deadline is a limit
  wait_limit(cancel_source* source) noexcept : cancellation(source) {}  // NOLINT: so is a source

  bool none() const noexcept { return deadline_ns == sched::never_ns && cancellation == nullptr; }
  bool cancelled() const noexcept { return cancellation != nullptr && cancellation->cancelled(); }

  int64_t deadline_ns = sched::never_ns;  // CLOCK_MONOTONIC
  cancel_source* cancellation = nullptr;  // null: cannot be cancelled
};

// The limit that a context sets, for the time that the caller keeps the context. A context with a
// deadline is cancelled when it passes, so there is none in the limit. Throws panic_error for a
// default-constructed context.
wait_limit limit_of(const context& ctx);

// Parks the calling task, whose waiter `w` is queued on a list guarded by `lock`, which is held and
// gets released. True when a waker took w off the list; false when the limit was reached first:
// then the lock is held again, and the caller takes w off the list if it is still queued, before it
// unlocks. A source that is cancelled already ends the wait at once; a caller that must not begin
// an operation then asks limit.cancelled() first. Inside a critical section.
inline bool wait_until(waiter& w, const wait_limit& limit, sched::wait_reason reason,
                       const void* waits_on, small_lock& lock) noexcept;

// The same, and which limit it was. For each but `woken` the lock is held.
enum class wait_end : uint8_t { woken, timed_out, cancelled };
wait_end wait_within(waiter& w, const wait_limit& limit, sched::wait_reason reason,
                     const void* waits_on, small_lock& lock) noexcept;

// A wait without a limit. Inline, with all that leads here, because the processor predicts the
// returns of the task that was left: each frame between the switch and the user's code costs a
// wrong guess, 5 ns.
[[gnu::always_inline]] inline void wait_unlimited(sched::wait_reason reason, const void* waits_on,
                                                  small_lock& lock) noexcept {
  sched::park(
      reason, waits_on,
      [](sched::task*, void* held) {
        static_cast<small_lock*>(held)->unlock();
        return true;
      },
      &lock);
}

inline bool wait_until(waiter& w, const wait_limit& limit, sched::wait_reason reason,
                       const void* waits_on, small_lock& lock) noexcept {
  if (limit.none()) {
    wait_unlimited(reason, waits_on, lock);
    return true;
  }
  return wait_within(w, limit, reason, waits_on, lock) == wait_end::woken;
}

// The limit of a time that ends d from now, and of a point in time.
inline wait_limit limit_after(std::chrono::nanoseconds d) noexcept {
  const int64_t now = base::now_refresh();
  return d.count() <= 0 ? now : sched::deadline_after(now, d.count());
}
inline wait_limit limit_at(std::chrono::steady_clock::time_point t) noexcept {
  return {t.time_since_epoch().count()};
}
inline bool still_ahead(std::chrono::steady_clock::time_point t) noexcept {
  return t.time_since_epoch().count() > base::now_ns();
}

// The first waiter whose wait has not ended by its limit; null if none.
inline waiter* pop_claimable(waiter_list& list) noexcept {
  while (waiter* w = list.pop_front()) {
    if (w->select == nullptr || w->select->claim(w)) return w;
  }
  return nullptr;
}

}  // namespace weft::detail
