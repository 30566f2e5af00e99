#pragma once
// counting_semaphore and binary_semaphore: a number of permits. std's interface; served in FIFO
// order.
//
//   weft::counting_semaphore<> slots(10);     // at most ten downloads at a time
//   slots.acquire();  download(url);  slots.release();
#include <weft/detail/waiter.h>
#include <weft/error.h>

#include <chrono>
#include <cstddef>

namespace weft {
namespace detail {

class semaphore {
 public:
  constexpr semaphore(std::ptrdiff_t permits, std::ptrdiff_t most)
      : permits_(permits), most_(most) {
    if (permits < 0 || permits > most)
      throw panic_error("weft::counting_semaphore: number of permits outside of 0 to its maximum");
  }
  semaphore(const semaphore&) = delete;

  bool try_acquire() noexcept {
    lock_.lock();
    const bool had = permits_ > 0;
    if (had) --permits_;
    lock_.unlock();
    return had;
  }
  void acquire();
  bool acquire_for(std::chrono::nanoseconds d);
  bool acquire_until(std::chrono::steady_clock::time_point t);
  bool acquire(const context& ctx);
  void release(std::ptrdiff_t n);

 private:
  bool acquire_within(const wait_limit& limit) noexcept;

  small_lock lock_;
  std::ptrdiff_t permits_;  // > 0 => nobody waits
  std::ptrdiff_t most_;
  waiter_list waiters_;
};

}  // namespace detail

// Any task or thread may take and give back permits. A permit that is given back goes to the one
// who has waited longest; newcomers do not overtake. A task that waits is parked ("semacquire"), a
// thread blocks. May be destroyed as soon as nobody waits, also by whom release() woke while that
// call has not returned.
template <std::ptrdiff_t Max = PTRDIFF_MAX>
class counting_semaphore {
  static_assert(Max >= 0, "weft::counting_semaphore: the maximum must not be negative");

 public:
  // Throws panic_error for permits < 0 or > Max.
  constexpr explicit counting_semaphore(std::ptrdiff_t permits) : core_(permits, Max) {}

  static constexpr std::ptrdiff_t max() noexcept { return Max; }

  // Takes a permit, waiting for one if there is none.
  void acquire() {
    if (!core_.try_acquire()) core_.acquire();
  }
  // False if there is none. Never waits, never fails spuriously.
  [[nodiscard]] bool try_acquire() noexcept { return core_.try_acquire(); }
  // Waits at most d. False if there was none in time.
  [[nodiscard]] bool try_acquire_for(std::chrono::nanoseconds d) { return core_.acquire_for(d); }
  [[nodiscard]] bool try_acquire_until(std::chrono::steady_clock::time_point t) {
    return core_.acquire_until(t);
  }
  // Waits until the context is cancelled or its deadline passes. False without a permit then, and
  // also if it was cancelled before.
  [[nodiscard]] bool acquire(const context& ctx) { return core_.acquire(ctx); }

  // Gives n permits back. Throws panic_error, and changes nothing, if n is negative or there would
  // be more than Max.
  void release(std::ptrdiff_t n = 1) { core_.release(n); }

 private:
  detail::semaphore core_;
};

using binary_semaphore = counting_semaphore<1>;

}  // namespace weft
