#include <weft/once.h>

#include "runtime/timed_wait.h"
#include "runtime/wake.h"
#include "scheduler/park.h"

namespace weft {

bool once_flag::begin() noexcept {
  sched::critical in_runtime;
  for (bool waited = false;; waited = true) {
    lock_.lock();
    const uint8_t now = state_.load(std::memory_order_relaxed);
    if (now != under_way) {
      if (now == fresh) state_.store(under_way, std::memory_order_relaxed);
      lock_.unlock();
      return now == fresh;
    }
    detail::waiter w;
    w.task = sched::current_task();
    // Woken after a failure and overtaken by a newcomer that tries: the place in the queue is kept.
    if (waited)
      waiters_.push_front(&w);
    else
      waiters_.push_back(&w);
    detail::wait_until(w, {}, sched::wait_reason::once_wait, this, lock_);
  }
}

void once_flag::end(bool succeeded) noexcept {
  sched::critical in_runtime;
  detail::waiter_list woken;
  lock_.lock();
  // [ord once.done] release: who finds it done without the lock sees what f did
  state_.store(succeeded ? done : fresh, std::memory_order_release);
  if (succeeded)
    std::swap(woken, waiters_);
  else if (detail::waiter* next = waiters_.pop_front())
    woken.push_back(next);
  lock_.unlock();
  detail::wake_all(woken);
}

}  // namespace weft
