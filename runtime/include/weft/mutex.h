#pragma once
// mutex: mutual exclusion among tasks and threads. Go's sync.Mutex with std::mutex's interface.
#include <weft/detail/lock_owner.h>
#include <weft/detail/schedule_point.h>
#include <weft/detail/waiter.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace weft {
class mutex;

namespace detail {

// Of the stack of whoever holds it; 0: nobody.
uintptr_t owner_page(const mutex& m) noexcept;

// A counting semaphore whose waiters queue in FIFO or LIFO order: the slow path of the locks.
class sleep_queue {
 public:
  enum class outcome : uint8_t { token, late_token, expired };

  // Takes a token or parks until one is handed over. When the limit is reached first,
  // give_up(owner) is asked under the queue's lock: true ends the wait, false means that a token is
  // on its way to this waiter, which then waits for it at the head of the queue.
  outcome acquire(bool lifo, uint8_t reason, void* owner, const wait_limit& limit,
                  bool (*give_up)(void* owner)) noexcept;
  // Hands a token to the first waiter, or keeps it. `handoff`: the waiter runs at once in our
  // place. `others`: how many more wait, as far as the caller knows.
  void release(bool handoff, uint64_t others) noexcept;

 private:
  int64_t charge_waiters(const waiter& first, uint64_t others) noexcept;

  small_lock lock_;
  uint32_t tokens_ = 0;
  waiter_list waiters_;
};

}  // namespace detail

// Not recursive. Any task or thread may unlock it. Meets Lockable and TimedLockable: use
// std::lock_guard, std::unique_lock, std::scoped_lock. A task that waits is parked
// ("sync.Mutex.Lock"), a thread blocks.
//
// Normal mode: waiters queue in FIFO order, but one that wakes competes with newcomers, which
// already run and usually win. Starvation mode, once a waiter has waited more than 1 ms: unlock
// hands the mutex to the first waiter and newcomers queue; it ends when the owner waited less than
// 1 ms or was the last.
//
// As std::mutex it may be destroyed as soon as nobody holds it or waits for it, also while the
// unlock() that made it so has not returned.
class mutex {
 public:
  constexpr mutex() noexcept = default;
  mutex(const mutex&) = delete;

  void lock() {
    uint64_t unlocked = 0;
    if (detail::must_take_long_way() ||
        !state_.compare_exchange_strong(unlocked, locked_bit | detail::lock_owner::self(),
                                        std::memory_order_acquire))
      lock_slow();
  }
  // False if it is locked or reserved for a starving waiter. Never waits, never fails spuriously.
  [[nodiscard]] bool try_lock() noexcept;
  // Waits at most d. False if it could not be had in time.
  [[nodiscard]] bool try_lock_for(std::chrono::nanoseconds d);
  [[nodiscard]] bool try_lock_until(std::chrono::steady_clock::time_point t);
  // Waits until the context is cancelled or its deadline passes. False without the lock then, and
  // also if it was cancelled before; ctx.err() says which.
  [[nodiscard]] bool lock(const context& ctx);
  // Unlocking an unlocked mutex ends the process: "fatal error: sync: unlock of unlocked mutex".
  void unlock() {
    // A guess: mostly whoever unlocks is on the page that locked. To read the word first would make
    // the two locked instructions wait for each other: 2 ns of 11.
    uint64_t held = locked_bit | detail::lock_owner::self();
    if (!state_.compare_exchange_strong(held, 0, std::memory_order_release,
                                        std::memory_order_relaxed))
      unlock_slow(held);
  }

 private:
  friend class shared_mutex;
  friend uintptr_t detail::owner_page(const mutex& m) noexcept;
  friend struct detail::debug_offsets;

  // state_: flags, the number of waiters, and the owner, who is known exactly while locked_bit is
  // set. watched_bit stays for the mutex's life; with it nothing takes the short way
  // (lock_watch.h).
  static constexpr uint64_t locked_bit = 1, woken_bit = 2, starving_bit = 4, watched_bit = 8;
  static constexpr uint64_t waiter_one = 16;
  static constexpr uint64_t waiter_bits = ~detail::lock_owner::bits & ~(waiter_one - 1);
  static constexpr uint64_t waiters_of(uint64_t word) { return (word & waiter_bits) / waiter_one; }

  void lock_slow();
  void note_wanted() noexcept;
  void note_acquired() noexcept;
  bool wait_within(const detail::wait_limit& limit, uint8_t reason);
  // `reason` is what a dump shows; 0 for "sync.Mutex.Lock".
  bool lock_within(const detail::wait_limit& limit, uint8_t reason = 0);
  static bool forget_waiter(void* self) noexcept;
  void unlock_slow(uint64_t old);

  std::atomic<uint64_t> state_{0};
  detail::sleep_queue queue_;
};

}  // namespace weft
