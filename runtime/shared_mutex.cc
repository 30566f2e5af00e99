// shared_mutex: a gate between readers and one writer, behind a mutex for which the writers
// compete.
//
// Invariants, under lock_:
//   [RW1] writer_ is `holding`            => readers_ is 0
//   [RW2] a reader waits                  => writer_ is not `none`
//   [RW3] writer_ is `waiting`            => readers_ > 0, or that writer has been refused by its
//   limit
//                                            and is about to say so
//   [RW4] writer_ is not `none`           => one task owns writers_, and it is that writer
// Whoever opens the gate admits the waiters under the lock and counts them in; they hold the lock
// when they wake. A waiter whose limit struck first is never counted in: pop_claimable() leaves it
// out, and it takes itself off the list under the lock.
//
// Barging and starvation among writers, spinning and timed waits are the mutex's business. Not
// done: direct hand-over from writer to writer, which costs a switch per lock, and a lock-free
// count of readers: a reader's two atomic operations are the two that small_lock costs.
#include <weft/shared_mutex.h>

#include "base/check.h"
#include "runtime/contention.h"
#include "runtime/lock_watch.h"
#include "runtime/timed_wait.h"
#include "runtime/wake.h"
#include "scheduler/park.h"

namespace weft {

using detail::wait_limit;
using sched::wait_reason;

bool detail::writer_waits_for_readers(const shared_mutex& m) noexcept {
  return m.writer_state() == shared_mutex::writer::waiting;
}

void shared_mutex::admit_readers(detail::waiter_list& woken) noexcept {
  while (detail::waiter* w = detail::pop_claimable(waiting_readers_)) {
    ++readers_;
    woken.push_back(w);
  }
}

void shared_mutex::lock_shared_slow() {
  writers_.note_wanted();
  lock_shared_within({});
}

void shared_mutex::note_shared_released() noexcept {
  if (const detail::lock_watch* watch = detail::watching_locks()) watch->released(&writers_);
}

bool shared_mutex::lock_shared_within(const wait_limit& limit) noexcept {
  if (!wait_shared_within(limit)) return false;
  if (detail::must_take_long_way()) writers_.note_acquired();
  return true;
}

bool shared_mutex::wait_shared_within(const wait_limit& limit) noexcept {
  sched::critical in_runtime;
  lock_.lock();
  if (writer_state() == writer::none) {
    ++readers_;
    lock_.unlock();
    return true;
  }
  detail::waiter w;
  w.task = sched::current_task();
  w.since_ns = detail::contention_since();
  waiting_readers_.push_back(&w);
  if (detail::wait_until(w, limit, wait_reason::rwmutex_rlock, this, lock_)) return true;
  if (w.queued) waiting_readers_.erase(&w);
  lock_.unlock();
  return false;
}

bool shared_mutex::try_lock_shared_for(std::chrono::nanoseconds d) {
  return try_lock_shared() || (d.count() > 0 && lock_shared_within(detail::limit_after(d)));
}

bool shared_mutex::try_lock_shared_until(std::chrono::steady_clock::time_point t) {
  return try_lock_shared() || (detail::still_ahead(t) && lock_shared_within(detail::limit_at(t)));
}

bool shared_mutex::lock_shared(const context& ctx) {
  const wait_limit limit = detail::limit_of(ctx);
  return !limit.cancelled() && lock_shared_within(limit);
}

void shared_mutex::unlock_last_shared() {
  bool held;
  {
    sched::critical in_runtime;
    lock_.lock();
    held = readers_ > 0;
    if (held) --readers_;
    detail::waiter* w = nullptr;
    if (held && readers_ == 0 && writer_state() == writer::waiting) {
      w = detail::pop_claimable(waiting_writer_);
      if (w != nullptr) set_writer(writer::holding);
    }
    lock_.unlock();
    if (w != nullptr) {
      detail::contention_charge charge;
      charge.add(*w);
      sched::ready(w->task);
      charge.tell();
    }
  }
  if (!held) base::fatal("sync: RUnlock of unlocked RWMutex");
}

void shared_mutex::lock() {
  if (detail::must_take_long_way()) writers_.note_wanted();
  lock_within({});
}

bool shared_mutex::lock_within(const wait_limit& limit) {
  if (!writers_.try_lock() &&
      !writers_.lock_within(limit, static_cast<uint8_t>(wait_reason::rwmutex_lock)))
    return false;
  if (wait_for_readers(limit)) return true;
  writers_.unlock();
  return false;
}

bool shared_mutex::wait_for_readers(const wait_limit& limit) noexcept {
  sched::critical in_runtime;
  lock_.lock();
  if (readers_ == 0) {
    set_writer(writer::holding);
    lock_.unlock();
    return true;
  }
  set_writer(writer::waiting);
  detail::waiter w;
  w.task = sched::current_task();
  w.since_ns = detail::contention_since();
  waiting_writer_.push_back(&w);
  if (detail::wait_until(w, limit, wait_reason::rwmutex_lock, this, lock_)) return true;
  if (w.queued) waiting_writer_.erase(&w);
  set_writer(writer::none);
  detail::waiter_list woken;
  admit_readers(woken);
  lock_.unlock();
  detail::wake_all(woken);
  return false;
}

bool shared_mutex::try_lock() noexcept {
  if (!writers_.try_lock()) return false;
  lock_.lock();
  const bool open = readers_ == 0;
  if (open) set_writer(writer::holding);
  lock_.unlock();
  if (!open) writers_.unlock();
  return open;
}

bool shared_mutex::try_lock_for(std::chrono::nanoseconds d) {
  return try_lock() || (d.count() > 0 && lock_within(detail::limit_after(d)));
}

bool shared_mutex::try_lock_until(std::chrono::steady_clock::time_point t) {
  return try_lock() || (detail::still_ahead(t) && lock_within(detail::limit_at(t)));
}

bool shared_mutex::lock(const context& ctx) {
  const wait_limit limit = detail::limit_of(ctx);
  return !limit.cancelled() && lock_within(limit);
}

void shared_mutex::unlock() {
  bool held;
  {
    sched::critical in_runtime;
    lock_.lock();
    held = writer_state() == writer::holding;
    detail::waiter_list woken;
    if (held) {
      set_writer(writer::none);
      admit_readers(woken);
    }
    lock_.unlock();
    detail::contention_charge charge;
    for (const detail::waiter* w = woken.front(); w != nullptr; w = w->next) charge.add(*w);
    detail::wake_all(woken);
    charge.tell();
  }
  if (!held) base::fatal("sync: Unlock of unlocked RWMutex");
  writers_.unlock();
}

}  // namespace weft
