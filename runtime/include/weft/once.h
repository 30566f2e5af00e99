#pragma once
// call_once and once: something that happens once, however many ask for it. They differ in what an
// exception means: for call_once, as in std, that it has not happened; for once, as in Go, that it
// has.
//
// The forms with a limit end the wait for somebody else's call, never f itself: false says that it
// was still under way then, so what it prepares may not be used yet. Nothing has happened.
#include <weft/detail/waiter.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

namespace weft {

class once_flag {
 public:
  constexpr once_flag() noexcept = default;
  once_flag(const once_flag&) = delete;

 private:
  enum state : uint8_t { fresh, under_way, done };
  // `mine`: the caller carries it out and says in end() whether it is done.
  enum class turn : uint8_t { mine, over, expired };

  template <class F, class... Args>
  friend void call_once(once_flag& flag, F&& f, Args&&... args);
  template <class F, class... Args>
  friend bool call_once_for(once_flag& flag, std::chrono::nanoseconds d, F&& f, Args&&... args);
  template <class F, class... Args>
  friend bool call_once_until(once_flag& flag, std::chrono::steady_clock::time_point t, F&& f,
                              Args&&... args);
  template <class F, class... Args>
  friend bool call_once(const context& ctx, once_flag& flag, F&& f, Args&&... args);
  friend class once;

  bool is_done() const noexcept { return state_.load(std::memory_order_acquire) == done; }
  // These wait for an attempt that is under way.
  turn begin() noexcept;
  turn begin_for(std::chrono::nanoseconds d) noexcept;
  turn begin_until(std::chrono::steady_clock::time_point t) noexcept;
  turn begin(const context& ctx);
  turn begin_within(const detail::wait_limit& limit) noexcept;
  void end(bool succeeded) noexcept;

  // The caller's part after a begin. False: expired.
  template <class F, class... Args>
  bool carry_out(turn t, bool failure_counts, F&& f, Args&&... args) {
    if (t != turn::mine) return t == turn::over;
    struct attempt {
      ~attempt() { flag.end(succeeded); }
      once_flag& flag;
      bool succeeded;
    } a{*this, failure_counts};
    std::invoke(std::forward<F>(f), std::forward<Args>(args)...);
    a.succeeded = true;
    return true;
  }

  std::atomic<uint8_t> state_{fresh};  // written under lock_
  detail::small_lock lock_;
  detail::waiter_list waiters_;
};

// Calls f(args...) unless a call with this flag has returned before, as std::call_once. Concurrent
// callers wait until it has ("once wait"; parks a task, blocks a thread). When f throws, the
// exception passes through and the first of the waiting callers, or the next to come, tries. A call
// with the same flag from inside f waits for ever.
template <class F, class... Args>
void call_once(once_flag& flag, F&& f, Args&&... args) {
  if (flag.is_done()) return;
  flag.carry_out(flag.begin(), false, std::forward<F>(f), std::forward<Args>(args)...);
}

// The same, waiting at most d, until t, or until the context is cancelled or its deadline passes.
// True once a call has returned. With a context that was cancelled before: false, and f is not
// called, even if nobody else waits or calls.
template <class F, class... Args>
[[nodiscard]] bool call_once_for(once_flag& flag, std::chrono::nanoseconds d, F&& f,
                                 Args&&... args) {
  return flag.is_done() ||
         flag.carry_out(flag.begin_for(d), false, std::forward<F>(f), std::forward<Args>(args)...);
}
template <class F, class... Args>
[[nodiscard]] bool call_once_until(once_flag& flag, std::chrono::steady_clock::time_point t, F&& f,
                                   Args&&... args) {
  return flag.is_done() || flag.carry_out(flag.begin_until(t), false, std::forward<F>(f),
                                          std::forward<Args>(args)...);
}
template <class F, class... Args>
[[nodiscard]] bool call_once(const context& ctx, once_flag& flag, F&& f, Args&&... args) {
  return flag.carry_out(flag.begin(ctx), false, std::forward<F>(f), std::forward<Args>(args)...);
}

// Go's sync.Once.
class once {
 public:
  constexpr once() noexcept = default;

  // Calls f() if this is the first call. All others wait until f is through and do nothing. When f
  // throws, the exception reaches the first caller only, and f is never called again. A call from
  // inside f waits for ever.
  template <class F>
  void call(F&& f) {
    if (!flag_.is_done()) flag_.carry_out(flag_.begin(), true, std::forward<F>(f));
  }

  // The same with a limit, as for call_once. True once f is through.
  template <class F>
  [[nodiscard]] bool call_for(std::chrono::nanoseconds d, F&& f) {
    return flag_.is_done() || flag_.carry_out(flag_.begin_for(d), true, std::forward<F>(f));
  }
  template <class F>
  [[nodiscard]] bool call_until(std::chrono::steady_clock::time_point t, F&& f) {
    return flag_.is_done() || flag_.carry_out(flag_.begin_until(t), true, std::forward<F>(f));
  }
  template <class F>
  [[nodiscard]] bool call(const context& ctx, F&& f) {
    return flag_.carry_out(flag_.begin(ctx), true, std::forward<F>(f));
  }

 private:
  once_flag flag_;
};

}  // namespace weft
