#pragma once
// latch: waits until something has happened a number of times. std::latch. For a number that is not
// known beforehand see wait_group.
#include <weft/detail/waiter.h>
#include <weft/error.h>

#include <chrono>
#include <cstddef>

namespace weft {

// All members are thread-safe. The object may be destroyed as soon as every wait has returned, even
// while a count_down() has not.
class latch {
 public:
  // Throws panic_error for expected < 0.
  constexpr explicit latch(std::ptrdiff_t expected) : left_(expected) {
    if (expected < 0) throw panic_error("weft::latch: negative count");
  }
  latch(const latch&) = delete;

  static constexpr std::ptrdiff_t max() noexcept { return PTRDIFF_MAX; }

  // Lowers the count by n; at 0 all waiters go on, for good. Throws panic_error, and changes
  // nothing, if n is negative or larger than the count.
  void count_down(std::ptrdiff_t n = 1);

  // True once the count is 0. Never fails spuriously.
  [[nodiscard]] bool try_wait() const noexcept;

  // Waits until the count is 0. Parks a task ("latch wait"), blocks a thread.
  void wait() const;
  // Waits at most d. False if the count was not 0 in time.
  [[nodiscard]] bool wait_for(std::chrono::nanoseconds d) const;
  [[nodiscard]] bool wait_until(std::chrono::steady_clock::time_point t) const;
  // Waits until the context is cancelled or its deadline passes. False then, and also if it was
  // cancelled before, whatever the count is.
  [[nodiscard]] bool wait(const context& ctx) const;

  void arrive_and_wait(std::ptrdiff_t n = 1) {
    count_down(n);
    wait();
  }

 private:
  bool wait_within(const detail::wait_limit& limit) const noexcept;

  mutable detail::small_lock lock_;
  std::ptrdiff_t left_;
  mutable detail::waiter_list waiters_;
};

}  // namespace weft
