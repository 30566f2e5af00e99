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
  if (count_ == 0) std::swap(woken, waiters_);
  lock_.unlock();
  detail::wake_all(woken);
}

void wait_group::wait() {
  sched::critical in_runtime;
  lock_.lock();
  if (count_ == 0) {
    lock_.unlock();
    return;
  }
  detail::waiter w;
  w.task = sched::current_task();
  waiters_.push_back(&w);
  detail::wait_until(w, {}, sched::wait_reason::wait_group_wait, this, lock_);
}

}  // namespace weft
