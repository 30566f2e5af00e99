#pragma once
// The lock of the runtime's own short critical sections.
//
// Test-and-set with a plain store to release: 6 ns for the pair, half of a futex lock, which needs
// a second atomic exchange to learn of waiters. Holders never park, allocate rarely and hold it for
// tens of nanoseconds; a waiter that meets a holder descheduled by the kernel yields its own
// thread.
#include <sched.h>

#include <atomic>

namespace weft::base {

inline void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

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
    for (int spins = 0;; ++spins) {
      while (held_.load(std::memory_order_relaxed)) {
        if (++spins % 128 == 0)
          ::sched_yield();
        else
          cpu_relax();
      }
      if (!held_.exchange(true, std::memory_order_acquire)) return;
    }
  }

  std::atomic<bool> held_{false};
};

}  // namespace weft::base
