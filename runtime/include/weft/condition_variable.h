#pragma once
// condition_variable: Go's sync.Cond with std::condition_variable_any's interface.
#include <weft/detail/now.h>
#include <weft/detail/waiter.h>

#include <chrono>
#include <concepts>
#include <condition_variable>

namespace weft {

// Works with any lock that has lock() and unlock(): std::unique_lock<weft::mutex>, weft::mutex
// itself. Waiters are woken in the order in which they began to wait; there are no spurious
// wake-ups; a notification without waiters is lost. Any thread.
class condition_variable {
 public:
  condition_variable() = default;
  condition_variable(const condition_variable&) = delete;

  void notify_one() noexcept;
  void notify_all() noexcept;

  // Unlocks, parks ("sync.Cond.Wait") until notified, locks again.
  template <class Lock>
  void wait(Lock& lock) {
    wait_at(lock, INT64_MAX);
  }
  template <class Lock, std::predicate Predicate>
  void wait(Lock& lock, Predicate done) {
    while (!done()) wait(lock);
  }
  // As wait, until the context is cancelled at the latest: false then, and also if it was cancelled
  // before. A notification that this waiter has taken is never reported as a cancellation, so none
  // is lost. The lock is held again in either case. With a predicate: what that says at the end.
  template <class Lock>
  [[nodiscard]] bool wait(Lock& lock, const context& ctx) {
    detail::waiter w;
    enqueue(w, ctx);
    unlock(lock, w);
    bool notified = sleep(w, ctx);
    lock.lock();
    return notified;
  }
  template <class Lock, std::predicate Predicate>
  [[nodiscard]] bool wait(Lock& lock, const context& ctx, Predicate done) {
    while (!done()) {
      if (!wait(lock, ctx)) return done();
    }
    return true;
  }
  // As wait, at most until t; the lock is held again in either case.
  template <class Lock>
  std::cv_status wait_until(Lock& lock, std::chrono::steady_clock::time_point t) {
    return wait_at(lock, t.time_since_epoch().count()) ? std::cv_status::no_timeout
                                                       : std::cv_status::timeout;
  }
  template <class Lock, class Predicate>
  [[nodiscard]] bool wait_until(Lock& lock, std::chrono::steady_clock::time_point t,
                                Predicate done) {
    while (!done()) {
      if (wait_until(lock, t) == std::cv_status::timeout) return done();
    }
    return true;
  }
  template <class Lock>
  std::cv_status wait_for(Lock& lock, std::chrono::nanoseconds d) {
    return wait_until(lock, after(d));
  }
  template <class Lock, class Predicate>
  [[nodiscard]] bool wait_for(Lock& lock, std::chrono::nanoseconds d, Predicate done) {
    return wait_until(lock, after(d), std::move(done));
  }

 private:
  // Too far to represent is never, not the past.
  static std::chrono::steady_clock::time_point after(std::chrono::nanoseconds d) {
    auto now = weft::now();
    auto never = std::chrono::steady_clock::time_point::max();
    return d > never - now ? never : now + d;
  }

  template <class Lock>
  bool wait_at(Lock& lock, int64_t deadline_ns) {
    detail::waiter w;
    // The place in the queue is taken before the lock is released, so no notification can be
    // missed.
    enqueue(w);
    unlock(lock, w);
    bool notified = sleep(w, deadline_ns);
    lock.lock();
    return notified;
  }
  // The waiter must not stay in the queue when its frame goes.
  template <class Lock>
  void unlock(Lock& lock, detail::waiter& w) {
    try {
      lock.unlock();
    } catch (...) {
      withdraw(w);
      throw;
    }
  }
  void enqueue(detail::waiter& w) noexcept;
  void enqueue(detail::waiter& w, const context& ctx);  // throws before it does anything
  void withdraw(detail::waiter& w) noexcept;
  bool sleep(detail::waiter& w, int64_t deadline_ns) noexcept;
  bool sleep(detail::waiter& w, const context& ctx);
  bool sleep_within(detail::waiter& w, const detail::wait_limit& limit) noexcept;

  detail::small_lock lock_;
  detail::waiter_list waiters_;
};

}  // namespace weft
