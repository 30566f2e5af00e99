#include <weft/once.h>

#include "runtime/timed_wait.h"
#include "runtime/wake.h"
#include "scheduler/park.h"

namespace weft {

once_flag::turn once_flag::begin() noexcept { return begin_within({}); }

once_flag::turn once_flag::begin_for(std::chrono::nanoseconds d) noexcept {
  return begin_within(detail::limit_after(d));
}

once_flag::turn once_flag::begin_until(std::chrono::steady_clock::time_point t) noexcept {
  return begin_within(detail::limit_at(t));
}

once_flag::turn once_flag::begin(const context& ctx) {
  const detail::wait_limit limit = detail::limit_of(ctx);
  return limit.cancelled() ? turn::expired : begin_within(limit);
}

once_flag::turn once_flag::begin_within(const detail::wait_limit& limit) noexcept {
  sched::critical in_runtime;
  for (bool waited = false;; waited = true) {
    lock_.lock();
    const uint8_t now = state_.load(std::memory_order_relaxed);
    if (now != under_way) {
      if (now == fresh) state_.store(under_way, std::memory_order_relaxed);
      lock_.unlock();
      return now == fresh ? turn::mine : turn::over;
    }
    detail::waiter w;
    w.task = sched::current_task();
    // Woken after a failure and overtaken by a newcomer that tries: the place in the queue is kept.
    if (waited)
      waiters_.push_front(&w);
    else
      waiters_.push_back(&w);
    // Whoever is woken tries or finds somebody trying: a wake-up that meets a limit is not lost.
    if (detail::wait_until(w, limit, sched::wait_reason::once_wait, this, lock_)) continue;
    if (w.queued) waiters_.erase(&w);
    lock_.unlock();
    return turn::expired;
  }
}

void once_flag::end(bool succeeded) noexcept {
  sched::critical in_runtime;
  detail::waiter_list woken;
  lock_.lock();
  // [ord once.done] release: who finds it done without the lock sees what f did
  state_.store(succeeded ? done : fresh, std::memory_order_release);
  while (detail::waiter* next = detail::pop_claimable(waiters_)) {
    woken.push_back(next);
    if (!succeeded) break;
  }
  lock_.unlock();
  detail::wake_all(woken);
}

}  // namespace weft
