#pragma once
// recursive_mutex: a mutex that its owner may lock again. Go has none.
#include <weft/mutex.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace weft {

// Belongs to the task (or thread) that locked it, and is free again after as many unlock() as there
// were locks. Meets Lockable and TimedLockable. Waits, wakes and is fair as weft::mutex, which it
// stands on: a task that waits is parked ("sync.Mutex.Lock").
class recursive_mutex {
 public:
  constexpr recursive_mutex() noexcept = default;
  recursive_mutex(const recursive_mutex&) = delete;

  void lock();
  // False if somebody else has it. Never waits.
  [[nodiscard]] bool try_lock() noexcept;
  // Waits at most d. False if it could not be had in time.
  [[nodiscard]] bool try_lock_for(std::chrono::nanoseconds d);
  [[nodiscard]] bool try_lock_until(std::chrono::steady_clock::time_point t);
  // Waits until the context is cancelled or its deadline passes. False without the lock then, and
  // also if it was cancelled before, unless the caller has it already.
  [[nodiscard]] bool lock(const context& ctx);
  // By anybody but its owner it ends the process with a report that names both.
  void unlock();

 private:
  bool take_again(uint64_t me) noexcept;
  void take(uint64_t me) noexcept;

  mutex mutex_;  // first, as lock_owner.h asks for
  // The owner's id, 0 for none. Written by the owner only, so a task finds its own id here exactly
  // if it holds the mutex.
  std::atomic<uint64_t> owner_{0};
  uint64_t depth_ = 0;  // the owner's
};

}  // namespace weft
