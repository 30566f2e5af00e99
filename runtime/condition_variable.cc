#include <weft/condition_variable.h>

#include "runtime/timed_wait.h"
#include "runtime/wake.h"
#include "scheduler/park.h"

namespace weft {

using sched::wait_reason;

// A waiter is queued before its task sleeps. `success` says that it was notified; `parked` that its
// task is off its stack and must be readied. Both under lock_.

void condition_variable::enqueue(detail::waiter& w) noexcept {
  sched::enter();
  w.task = sched::current_task();
  sched::leave();
  lock_.lock();
  waiters_.push_back(&w);
  lock_.unlock();
}

void condition_variable::enqueue(detail::waiter& w, const context& ctx) {
  static_cast<void>(detail::limit_of(ctx));
  enqueue(w);
}

void condition_variable::withdraw(detail::waiter& w) noexcept {
  lock_.lock();
  const bool notified = w.success;
  if (w.queued) waiters_.erase(&w);
  lock_.unlock();
  if (notified) notify_one();  // it was meant for somebody who waits
}

bool condition_variable::sleep(detail::waiter& w, int64_t deadline_ns) noexcept {
  return sleep_within(w, deadline_ns);
}

bool condition_variable::sleep(detail::waiter& w, const context& ctx) {
  return sleep_within(w, detail::limit_of(ctx));
}

bool condition_variable::sleep_within(detail::waiter& w, const detail::wait_limit& limit) noexcept {
  sched::critical in_runtime;
  lock_.lock();
  if (w.success) {
    lock_.unlock();
    return true;
  }
  w.parked = true;
  if (detail::wait_until(w, limit, wait_reason::cond_wait, this, lock_)) return true;
  if (w.queued) waiters_.erase(&w);
  lock_.unlock();
  return false;
}

void condition_variable::notify_one() noexcept {
  sched::critical in_runtime;
  lock_.lock();
  detail::waiter* w = detail::pop_claimable(waiters_);
  bool parked = w != nullptr && w->parked;
  if (w != nullptr) w->success = true;
  sched::task* t = parked ? w->task : nullptr;
  lock_.unlock();
  if (parked) sched::ready(t, false);
}

void condition_variable::notify_all() noexcept {
  sched::critical in_runtime;
  lock_.lock();
  detail::waiter_list parked;
  while (detail::waiter* w = detail::pop_claimable(waiters_)) {
    w->success = true;
    if (w->parked) parked.push_back(w);
  }
  lock_.unlock();
  detail::wake_all(parked);
}

}  // namespace weft
