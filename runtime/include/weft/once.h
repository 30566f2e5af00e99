#pragma once
// call_once and once: something that happens once, however many ask for it. They differ in what an
// exception means: for call_once, as in std, that it has not happened; for once, as in Go, that it
// has. Neither has a form with a limit: who gave up waiting would go on without what the others
// were told is there. Limit what f does instead, and let it throw.
#include <weft/detail/waiter.h>

#include <atomic>
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

  template <class F, class... Args>
  friend void call_once(once_flag& flag, F&& f, Args&&... args);
  friend class once;

  bool is_done() const noexcept { return state_.load(std::memory_order_acquire) == done; }
  // True: the caller carries it out and says in end() whether it is done. False: it is done. Waits
  // for an attempt that is under way.
  bool begin() noexcept;
  void end(bool succeeded) noexcept;

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
  if (flag.is_done() || !flag.begin()) return;
  struct attempt {
    ~attempt() { flag.end(succeeded); }
    once_flag& flag;
    bool succeeded = false;
  } a{flag};
  std::invoke(std::forward<F>(f), std::forward<Args>(args)...);
  a.succeeded = true;
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
    if (flag_.is_done() || !flag_.begin()) return;
    struct attempt {
      ~attempt() { flag.end(true); }
      once_flag& flag;
    } a{flag_};
    std::invoke(std::forward<F>(f));
  }

 private:
  once_flag flag_;
};

}  // namespace weft
