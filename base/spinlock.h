#pragma once
// The lock of the runtime's own short critical sections.
//
// Test-and-set with a plain store to release: 6 ns for the pair, half of a futex lock, which needs
// a second atomic exchange to learn of waiters. Holders never park, allocate rarely and hold it for
// tens of nanoseconds; a waiter that meets a holder descheduled by the kernel yields its own
// thread.
#include <sched.h>

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace weft::base {

inline void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Whether waits for the runtime's own locks are timed; off costs a load where a lock was found
// held.
inline constinit std::atomic<bool> g_spins_timed{false};

// What contention for the runtime's own locks costs, summed per family of locks, for reports on
// contention. Nobody can say whose stack it should be charged to: unlocking is a plain store, which
// does not learn who waits.
class spin_waits {
 public:
  // When a wait begins: for end(); 0 if they are not timed.
  static int64_t begin() noexcept {
    return g_spins_timed.load(std::memory_order_relaxed) ? true_now_ns() : 0;
  }
  void end(int64_t since_ns) noexcept {
    count_.fetch_add(1, std::memory_order_relaxed);
    total_ns_.fetch_add(true_now_ns() - since_ns, std::memory_order_relaxed);
  }

  int64_t count() const noexcept { return count_.load(std::memory_order_relaxed); }
  int64_t total_ns() const noexcept { return total_ns_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> count_{0};
  std::atomic<int64_t> total_ns_{0};
};

inline constinit spin_waits g_runtime_lock_waits;  // of every spinlock: queues, timers, registries

class spinlock {
 public:
  void lock() noexcept {
    // [ord spinlock] acquire here pairs with the release in unlock().
    if (!held_.exchange(true, std::memory_order_acquire)) return;
    lock_slow();
  }
  bool try_lock() noexcept {
    return !held_.load(std::memory_order_relaxed) &&
           !held_.exchange(true, std::memory_order_acquire);
  }
  void unlock() noexcept { held_.store(false, std::memory_order_release); }

 private:
  void lock_slow() noexcept {
    const int64_t since = spin_waits::begin();
    for (int spins = 0;; ++spins) {
      while (held_.load(std::memory_order_relaxed)) {
        if (++spins % 128 == 0)
          ::sched_yield();
        else
          cpu_relax();
      }
      if (!held_.exchange(true, std::memory_order_acquire)) break;
    }
    if (since != 0) [[unlikely]]
      g_runtime_lock_waits.end(since);
  }

  std::atomic<bool> held_{false};
};

}  // namespace weft::base
