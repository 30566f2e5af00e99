// latch and barrier. As in wait_group, releasing the lock is the last touch of whoever brings the
// count to 0 or begins the barrier's next phase, and a waiter passes through the lock or is woken
// afterwards, so the object may die right after the wait.
#include <weft/barrier.h>
#include <weft/latch.h>

#include "runtime/timed_wait.h"
#include "runtime/wake.h"
#include "scheduler/park.h"

namespace weft {

using sched::wait_reason;

void latch::count_down(std::ptrdiff_t n) {
  sched::critical in_runtime;
  lock_.lock();
  if (n < 0 || n > left_) {
    lock_.unlock();
    throw panic_error(n < 0 ? "weft::latch: count_down by a negative number"
                            : "weft::latch: count_down below 0");
  }
  left_ -= n;
  detail::waiter_list woken;
  if (left_ == 0) {
    while (detail::waiter* w = detail::pop_claimable(waiters_)) woken.push_back(w);
  }
  lock_.unlock();
  detail::wake_all(woken);
}

bool latch::try_wait() const noexcept {
  lock_.lock();
  const bool open = left_ == 0;
  lock_.unlock();
  return open;
}

bool latch::wait_within(const detail::wait_limit& limit) const noexcept {
  sched::critical in_runtime;
  lock_.lock();
  if (left_ == 0) {
    lock_.unlock();
    return true;
  }
  detail::waiter w;
  w.task = sched::current_task();
  waiters_.push_back(&w);
  if (detail::wait_until(w, limit, wait_reason::latch_wait, this, lock_)) return true;
  if (w.queued) waiters_.erase(&w);
  lock_.unlock();
  return false;
}

void latch::wait() const { wait_within({}); }

bool latch::wait_for(std::chrono::nanoseconds d) const {
  return d.count() > 0 ? wait_within(detail::limit_after(d)) : try_wait();
}

bool latch::wait_until(std::chrono::steady_clock::time_point t) const {
  return detail::still_ahead(t) ? wait_within(detail::limit_at(t)) : try_wait();
}

bool latch::wait(const context& ctx) const {
  const detail::wait_limit limit = detail::limit_of(ctx);
  return !limit.cancelled() && wait_within(limit);
}

namespace detail {

bool barrier_core::arrive(std::ptrdiff_t n, std::ptrdiff_t dropped, uint64_t& phase) {
  lock_.lock();
  if (n <= 0 || n > left_) {
    lock_.unlock();
    throw panic_error(n <= 0 ? "weft::barrier: arrive needs a positive number"
                             : "weft::barrier: more arrivals than the phase expects");
  }
  left_ -= n;
  expected_ -= dropped;
  phase = phase_;
  const bool last = left_ == 0;
  lock_.unlock();
  return last;
}

void barrier_core::begin_phase() noexcept {
  sched::critical in_runtime;
  lock_.lock();
  ++phase_;
  left_ = expected_;
  waiter_list woken;
  while (waiter* w = pop_claimable(waiters_)) woken.push_back(w);
  lock_.unlock();
  wake_all(woken);
}

void barrier_core::wait(uint64_t phase) noexcept { wait_within(phase, {}); }

bool barrier_core::is_over(uint64_t phase) noexcept {
  lock_.lock();
  const bool over = phase_ != phase;
  lock_.unlock();
  return over;
}

bool barrier_core::wait(uint64_t phase, std::chrono::nanoseconds d) noexcept {
  return d.count() > 0 ? wait_within(phase, limit_after(d)) : is_over(phase);
}

bool barrier_core::wait(uint64_t phase, std::chrono::steady_clock::time_point t) noexcept {
  return still_ahead(t) ? wait_within(phase, limit_at(t)) : is_over(phase);
}

bool barrier_core::wait(uint64_t phase, const context& ctx) {
  const wait_limit limit = limit_of(ctx);
  return !limit.cancelled() && wait_within(phase, limit);
}

bool barrier_core::wait_within(uint64_t phase, const wait_limit& limit) noexcept {
  sched::critical in_runtime;
  lock_.lock();
  if (phase_ != phase) {
    lock_.unlock();
    return true;
  }
  waiter w;
  w.task = sched::current_task();
  waiters_.push_back(&w);
  if (wait_until(w, limit, wait_reason::barrier_wait, this, lock_)) return true;
  if (w.queued) waiters_.erase(&w);
  lock_.unlock();
  return false;
}

}  // namespace detail
}  // namespace weft
