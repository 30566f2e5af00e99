#include <weft/error.h>
#include <weft/wait_group.h>

#include "runtime/task_locals.h"
#include "runtime/timed_wait.h"
#include "runtime/wake.h"
#include "scheduler/park.h"

namespace weft {

// The counter is guarded by the lock, not atomic: releasing the lock is the last touch of whoever
// brings it to 0, and a waiter passes through the lock before it returns, so the object may die
// right after wait().

void wait_group::add(int64_t n) {
  sched::thread* th = sched::enter();
  lock_.lock();
  const char* misuse = nullptr;
  if (count_ + n < 0)
    misuse = "sync: negative WaitGroup counter";
  else if (n > 0 && count_ == 0 && returning_ > 0)
    misuse = "sync: WaitGroup is reused before previous Wait has returned";
  if (misuse != nullptr) {
    lock_.unlock();
    sched::leave(th);
    throw panic_error(misuse);
  }
  count_ += n;
  detail::waiter_list woken;
  if (count_ == 0) {
    while (detail::waiter* w = detail::pop_claimable(waiters_)) {
      ++returning_;
      woken.push_back(w);
    }
  }
  lock_.unlock();
  detail::wake_all(woken);
  sched::leave(th);
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
  const bool released =
      detail::wait_until(w, limit, sched::wait_reason::wait_group_wait, this, lock_);
  if (released) {
    lock_.lock();
    --returning_;
  } else if (w.queued) {
    waiters_.erase(&w);
  }
  lock_.unlock();
  return released;
}

void wait_group::task_ended() {
  detail::destroy_task_locals();
  done();
}

// wait_within() without a limit; see wait_unlimited().
void wait_group::wait() {
  sched::thread* th = sched::enter();
  lock_.lock();
  if (count_ == 0) {
    lock_.unlock();
    sched::leave(th);
    return;
  }
  detail::waiter w;
  w.task = sched::current_task(th);
  waiters_.push_back(&w);
  detail::wait_unlimited(sched::wait_reason::wait_group_wait, this, lock_);
  lock_.lock();
  --returning_;
  lock_.unlock();
  sched::leave();
}

bool wait_group::is_zero() noexcept {
  lock_.lock();
  const bool zero = count_ == 0;
  lock_.unlock();
  return zero;
}

bool wait_group::wait_for(std::chrono::nanoseconds d) {
  return d.count() > 0 ? wait_within(detail::limit_after(d)) : is_zero();
}

bool wait_group::wait_until(std::chrono::steady_clock::time_point t) {
  return detail::still_ahead(t) ? wait_within(detail::limit_at(t)) : is_zero();
}

bool wait_group::wait(const context& ctx) {
  const detail::wait_limit limit = detail::limit_of(ctx);
  return !limit.cancelled() && wait_within(limit);
}

}  // namespace weft
