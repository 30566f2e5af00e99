#pragma once
// How the locks tell whose unlocking ended whose wait, for reports on contention. Off, a wait costs
// one load more than without, and no way that finds the lock free is concerned.
#include <weft/detail/waiter.h>

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace weft::detail {

// Called on the task that unlocked, in its call, in a critical section, after the waiters were
// readied: they waited delay_ns together, and `count` of them were woken. Must not park, allocate
// from a profiled heap or take a lock that user code can hold.
using contention_sink = void (*)(int64_t delay_ns, int64_t count) noexcept;
extern std::atomic<contention_sink> g_contention_sink;  // null: nobody asks

// For waiter::since_ns, when a wait for a lock begins.
inline int64_t contention_since() noexcept {
  return g_contention_sink.load(std::memory_order_relaxed) != nullptr ? base::now_ns() : 0;
}

inline void tell_contention(int64_t delay_ns, int64_t count) noexcept {
  // [ord contention.sink] acquire: what the sink reads was written before it was set
  if (contention_sink sink = g_contention_sink.load(std::memory_order_acquire))
    sink(delay_ns, count);
}

// Sums the waits that one unlocking ends. add() before the waiter is readied, for its record is
// gone then; tell() after.
class contention_charge {
 public:
  void add(const waiter& w) noexcept {
    if (w.since_ns == 0) return;
    if (now_ == 0) now_ = base::now_ns();
    delay_ns_ += now_ - w.since_ns;
    ++count_;
  }
  void tell() const noexcept {
    if (count_ != 0) tell_contention(delay_ns_, count_);
  }

 private:
  int64_t now_ = 0;
  int64_t delay_ns_ = 0;
  int64_t count_ = 0;
};

}  // namespace weft::detail
