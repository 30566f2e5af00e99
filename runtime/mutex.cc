// mutex and the queue its waiters sleep in; the algorithm of Go's sync.Mutex.
#include <weft/mutex.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/spinlock.h"
#include "runtime/contention.h"
#include "runtime/lock_watch.h"
#include "runtime/timed_wait.h"
#include "scheduler/park.h"

namespace weft {

using sched::wait_reason;

namespace detail {

// Waits in growing steps without looking: the holder's core can then do a burst of operations with
// the lock and the data in its own cache, where a waiter that keeps looking would take the line
// away after each. Between two cores that hammer one channel this is worth a factor of two and
// more.
void small_lock::lock_slow() noexcept {
  base::lock_wait wait(word_);
  constexpr int first_pauses = 32;
  constexpr int most_pauses = 512;
  for (int pauses = first_pauses;; pauses = pauses < most_pauses ? pauses * 2 : pauses) {
    for (int i = 0; i < pauses; ++i) base::cpu_relax();
    if (word_.load(std::memory_order_relaxed) == base::lock_free &&
        word_.exchange(base::lock_held, std::memory_order_acquire) == base::lock_free)
      break;
    wait.still_held();
    if (pauses == most_pauses) ::sched_yield();
  }
  wait.over();
}

sleep_queue::outcome sleep_queue::acquire(bool lifo, uint8_t reason, void* owner,
                                          const wait_limit& limit,
                                          bool (*give_up)(void*)) noexcept {
  sched::critical in_runtime;
  lock_.lock();
  if (tokens_ > 0) {
    --tokens_;
    lock_.unlock();
    return outcome::token;
  }
  waiter w;
  w.task = sched::current_task();
  w.since_ns = contention_since();
  if (lifo) {
    // The first waiter's time is that of the whole queue (charge_waiters).
    if (waiters_.front() != nullptr && w.since_ns != 0) w.since_ns = waiters_.front()->since_ns;
    waiters_.push_front(&w);
  } else {
    waiters_.push_back(&w);
  }
  if (wait_until(w, limit, static_cast<wait_reason>(reason), owner, lock_)) return outcome::token;
  if (w.queued) waiters_.erase(&w);
  if (tokens_ > 0) {
    --tokens_;
    lock_.unlock();
    return outcome::token;
  }
  if (give_up(owner)) {
    lock_.unlock();
    return outcome::expired;
  }
  // All under one hold of the lock, so the token that is on its way finds this waiter first.
  waiters_.push_front(&w);
  wait_until(w, {}, static_cast<wait_reason>(reason), owner, lock_);
  return outcome::late_token;
}

void sleep_queue::release(bool handoff, uint64_t others) noexcept {
  sched::critical in_runtime;
  lock_.lock();
  waiter* w = pop_claimable(waiters_);
  if (w == nullptr) ++tokens_;
  const int64_t delay = w != nullptr && w->since_ns != 0 ? charge_waiters(*w, others) : 0;
  lock_.unlock();
  if (w == nullptr) return;
  sched::ready(w->task);
  if (delay != 0) [[unlikely]]
    tell_contention(delay, 1);
  if (handoff) sched::yield_to_next();
}

// What the lock's waiters have waited for the holder that unlocks now: `first`, which is off the
// queue, and `others` behind it. As in Go, these count with the mean of the longest and the
// shortest wait, and the clocks of both ends begin anew, so that the next holder is charged for its
// own time.
int64_t sleep_queue::charge_waiters(const waiter& first, uint64_t others) noexcept {
  const int64_t now = base::now_ns();
  const int64_t longest = now - first.since_ns;
  if (others == 0 || waiters_.front() == nullptr) return longest;
  waiter& head = *waiters_.front();
  waiter& tail = *waiters_.back();
  const int64_t shortest = tail.since_ns != 0 ? now - tail.since_ns : longest;
  head.since_ns = tail.since_ns = now;
  return longest + (longest + shortest) / 2 * static_cast<int64_t>(others);
}

std::atomic<const lock_watch*> g_lock_watch{nullptr};
std::atomic<contention_sink> g_contention_sink{nullptr};

}  // namespace detail

namespace {
constexpr int64_t starvation_threshold_ns = 1'000'000;

void spin_briefly() noexcept {
  for (int i = 0; i < 30; ++i) base::cpu_relax();
}
}  // namespace

bool mutex::try_lock() noexcept {
  uint64_t old = state_.load(std::memory_order_relaxed);
  if ((old & (locked_bit | starving_bit)) != 0 ||
      !state_.compare_exchange_strong(old, old | locked_bit | detail::lock_owner::self(),
                                      std::memory_order_acquire))
    return false;
  if (detail::must_take_long_way()) note_acquired();
  return true;
}

void mutex::lock_slow() {
  detail::schedule_point();
  note_wanted();
  lock_within({});
}

void mutex::note_wanted() noexcept {
  const detail::lock_watch* watch = detail::watching_locks();
  if (watch == nullptr) return;
  if ((state_.fetch_or(watched_bit, std::memory_order_relaxed) & watched_bit) == 0)
    watch->found(this);
  watch->wanted(this);
}

void mutex::note_acquired() noexcept {
  const detail::lock_watch* watch = detail::watching_locks();
  if (watch == nullptr) return;
  if ((state_.fetch_or(watched_bit, std::memory_order_relaxed) & watched_bit) == 0)
    watch->found(this);
  watch->acquired(this);
}

bool mutex::lock_within(const detail::wait_limit& limit, uint8_t reason) {
  if (!wait_within(limit, reason)) return false;
  if (detail::must_take_long_way()) note_acquired();
  return true;
}

bool mutex::wait_within(const detail::wait_limit& limit, uint8_t reason) {
  if (reason == 0) reason = static_cast<uint8_t>(wait_reason::mutex_lock);
  int64_t waiting_since = 0;
  bool starving = false;
  bool woken = false;
  bool expired = false;
  int round = 0;
  uint64_t old = state_.load(std::memory_order_relaxed);
  for (;;) {
    if ((old & (locked_bit | starving_bit)) == locked_bit && sched::can_spin(round)) {
      // Tell unlock that somebody is about to take it, so that it wakes nobody.
      if (!woken && (old & woken_bit) == 0 && (old & waiter_bits) != 0 &&
          state_.compare_exchange_weak(old, old | woken_bit))
        woken = true;
      spin_briefly();
      ++round;
      old = state_.load(std::memory_order_relaxed);
      continue;
    }
    const bool free = (old & (locked_bit | starving_bit)) == 0;
    uint64_t want = woken ? old & ~woken_bit : old;
    if (expired && !free) {
      if (!state_.compare_exchange_weak(old, old & ~woken_bit, std::memory_order_acq_rel)) continue;
      return false;
    }
    if (free) {
      want |= locked_bit | detail::lock_owner::self();
    } else {
      if ((old & waiter_bits) == waiter_bits)
        base::fatal("sync: more than 33554430 tasks wait for one mutex");
      want += waiter_one;
    }
    if (starving && (old & locked_bit) != 0) want |= starving_bit;
    if (!state_.compare_exchange_weak(old, want, std::memory_order_acq_rel)) continue;
    if (free) return true;

    bool again = waiting_since != 0;
    if (!again) waiting_since = base::now_ns();
    auto end =
        queue_.acquire(again, reason, this, expired ? detail::wait_limit() : limit, forget_waiter);
    if (end == detail::sleep_queue::outcome::expired) return false;
    if (end == detail::sleep_queue::outcome::late_token) expired = true;
    starving = starving || base::now_ns() - waiting_since > starvation_threshold_ns;
    old = state_.load(std::memory_order_relaxed);
    if ((old & starving_bit) != 0) {
      // Handed over: the mutex is ours although it does not look locked, and we still count as
      // waiting. A loop, not an addition: the number of waiters shrinks when one of them gives up.
      do {
        want = (old - waiter_one) | locked_bit | detail::lock_owner::self();
        if (!starving || waiters_of(old) == 1) want &= ~starving_bit;
      } while (!state_.compare_exchange_weak(old, want, std::memory_order_acq_rel));
      return true;
    }
    woken = true;
    round = 0;
  }
}

// A waiter whose limit was reached is no longer queued; it takes itself out of the count. False if
// an unlock already did so, or already handed the mutex over to it: then a token is on its way that
// it must accept, late as it is, because nobody else will. Under the queue's lock, so that nobody
// else gets that token. tests/model/mutex_model.cc explores the interleavings.
bool mutex::forget_waiter(void* self) noexcept {
  std::atomic<uint64_t>& state = static_cast<mutex*>(self)->state_;
  uint64_t old = state.load(std::memory_order_relaxed);
  for (;;) {
    const uint64_t waiters = waiters_of(old);
    if (waiters == 0 || (waiters == 1 && (old & (locked_bit | starving_bit)) == starving_bit))
      return false;
    uint64_t want = old - waiter_one;
    if (waiters == 1) want &= ~starving_bit;  // nobody is left to end it
    if (state.compare_exchange_weak(old, want, std::memory_order_acq_rel)) return true;
  }
}

bool mutex::try_lock_for(std::chrono::nanoseconds d) {
  return try_lock() ||
         (d.count() > 0 && lock_within(sched::deadline_after(base::now_ns(), d.count())));
}

bool mutex::try_lock_until(std::chrono::steady_clock::time_point t) {
  if (try_lock()) return true;
  const int64_t when = t.time_since_epoch().count();
  return when > base::now_ns() && lock_within(when);
}

bool mutex::lock(const context& ctx) {
  const detail::wait_limit limit = detail::limit_of(ctx);
  return !limit.cancelled() && (try_lock() || lock_within(limit));
}

// Giving the mutex up and saying who is to be woken is one step, so that with nobody to wake it is
// the last touch. When there is, somebody waits for the token that follows and cannot leave lock()
// before release() has let go of the queue: one who gives up while only the token's receiver is
// left finds the count at 0 and stays (forget_waiter). So the mutex may be destroyed by whoever
// comes last, like std::mutex.
void mutex::unlock_slow(uint64_t old) {
  if ((state_.load(std::memory_order_relaxed) & (watched_bit | locked_bit)) ==
      (watched_bit | locked_bit)) {
    if (const detail::lock_watch* watch = detail::watching_locks()) watch->released(this);
  }
  bool starving;
  bool wake;
  uint64_t want;
  do {
    if ((old & locked_bit) == 0) base::fatal("sync: unlock of unlocked mutex");
    starving = (old & starving_bit) != 0;
    wake = starving || ((old & waiter_bits) != 0 && (old & woken_bit) == 0);
    want = old & ~(locked_bit | detail::lock_owner::bits);
    if (wake && !starving) want = (want - waiter_one) | woken_bit;
  } while (!state_.compare_exchange_weak(old, want, std::memory_order_acq_rel,
                                         std::memory_order_relaxed));
  // The one that wakes is still counted in starvation mode.
  if (wake) queue_.release(starving, waiters_of(want) - (starving && waiters_of(want) != 0));
}

}  // namespace weft
