#pragma once
#include <weft/detail/waiter.h>

#include <atomic>

namespace weft::detail {

// Shared by all cases (and the limits) of one waiting select or limited wait: whoever claims it
// first decides how the wait ends, and wakes the task.
struct select_wait {
  static inline waiter timed_out{};
  static inline waiter cancelled{};

  // True for exactly one caller.
  bool claim(waiter* by) noexcept {
    waiter* nobody = nullptr;
    return winner.compare_exchange_strong(nobody, by, std::memory_order_acq_rel);
  }

  std::atomic<waiter*> winner{nullptr};
};

}  // namespace weft::detail
