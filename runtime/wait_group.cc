#include <weft/error.h>
#include <weft/wait_group.h>

#include "runtime/timed_wait.h"
#include "runtime/wake.h"
#include "scheduler/park.h"

namespace weft {

// The counter is guarded by the lock, not atomic: releasing the lock is the last touch of whoever
// brings it to 0, and a waiter passes through the lock before it returns, so the object may die
// right after wait().

void wait_group::add(int64_t n) {
  sched::critical in_runtime;
  lock_.lock();
  count_ += n;
  if (count_ < 0) {
    count_ -= n;
    lock_.unlock();
    throw panic_error("sync: negative WaitGroup counter");
  }
  detail::waiter_list woken;
  if (count_ == 0) {
    while (detail::waiter* w = detail::pop_claimable(waiters_)) woken.push_back(w);
  }
  lock_.unlock();
  detail::wake_all(woken);
}

bool wait_group::wait_within(const detail::wait_limit& limit) noexcept {
  sched::critical in_runtime;
  lock_.lock();
  if (count_ == 0) {
    lock_.unlock();
    return true;
  }
  detail::waiter w;
  w.task = sched::current_task();
  waiters_.push_back(&w);
  if (detail::wait_until(w, limit, sched::wait_reason::wait_group_wait, this, lock_)) return true;
  if (w.queued) waiters_.erase(&w);
  lock_.unlock();
  return false;
}

void wait_group::wait() { wait_within({}); }

bool wait_group::wait_for(std::chrono::nanoseconds d) {
  return wait_within(detail::limit_after(d));
}

bool wait_group::wait_until(std::chrono::steady_clock::time_point t) {
  return wait_within(detail::limit_at(t));
}

bool wait_group::wait(const context& ctx) {
  const detail::wait_limit limit = detail::limit_of(ctx);
  return !limit.cancelled() && wait_within(limit);
}

}  // namespace weft
