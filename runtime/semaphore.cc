#include <weft/semaphore.h>

#include <string>

#include "runtime/timed_wait.h"
#include "runtime/wake.h"
#include "scheduler/park.h"

namespace weft::detail {

void semaphore::acquire() { acquire_within({}); }

bool semaphore::acquire_within(const wait_limit& limit) noexcept {
  sched::critical in_runtime;
  lock_.lock();
  if (permits_ > 0) {
    --permits_;
    lock_.unlock();
    return true;
  }
  waiter w;
  w.task = sched::current_task();
  waiters_.push_back(&w);
  if (wait_until(w, limit, sched::wait_reason::semacquire, this, lock_)) return true;
  if (w.queued) waiters_.erase(&w);
  lock_.unlock();
  return false;
}

bool semaphore::acquire_for(std::chrono::nanoseconds d) {
  return try_acquire() || (d.count() > 0 && acquire_within(limit_after(d)));
}

bool semaphore::acquire_until(std::chrono::steady_clock::time_point t) {
  return try_acquire() || (still_ahead(t) && acquire_within(limit_at(t)));
}

bool semaphore::acquire(const context& ctx) {
  const wait_limit limit = limit_of(ctx);
  return !limit.cancelled() && acquire_within(limit);
}

void semaphore::release(std::ptrdiff_t n) {
  if (n < 0) throw panic_error("weft::counting_semaphore: release of a negative number of permits");
  sched::critical in_runtime;
  lock_.lock();
  if (n > most_ - permits_) {
    lock_.unlock();
    throw panic_error("weft::counting_semaphore: release beyond its maximum of " +
                      std::to_string(most_));
  }
  waiter_list woken;
  for (; n > 0; --n) {
    waiter* w = pop_claimable(waiters_);
    if (w == nullptr) break;
    woken.push_back(w);
  }
  permits_ += n;
  lock_.unlock();
  wake_all(woken);
}

}  // namespace weft::detail
