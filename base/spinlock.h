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

#include "base/lock_waits.h"

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
    // [ord spinlock] acquire here pairs with the release in release_lock().
    if (word_.exchange(lock_held, std::memory_order_acquire) == lock_free) return;
    lock_slow();
  }
  bool try_lock() noexcept {
    return word_.load(std::memory_order_relaxed) == lock_free &&
           word_.exchange(lock_held, std::memory_order_acquire) == lock_free;
  }
  void unlock() noexcept { release_lock(word_); }

 private:
  void lock_slow() noexcept {
    lock_wait wait(word_);
    for (int spins = 0;; ++spins) {
      while (word_.load(std::memory_order_relaxed) != lock_free) {
        wait.still_held();
        if (++spins % 128 == 0)
          ::sched_yield();
        else
          cpu_relax();
      }
      if (word_.exchange(lock_held, std::memory_order_acquire) == lock_free) break;
    }
    wait.over();
  }

  std::atomic<uint8_t> word_{lock_free};
};

}  // namespace weft::base
