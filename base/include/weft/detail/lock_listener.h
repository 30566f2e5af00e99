#pragma once
// How the runtime's own small locks (base::spinlock, detail::small_lock) tell that they were waited
// for. Nobody listening, a lock costs what it costs without; see base/lock_waits.h.
#include <atomic>
#include <cstdint>

namespace weft::base {

// What a small lock's word says.
inline constexpr uint8_t lock_free = 0;
inline constexpr uint8_t lock_held = 1;
inline constexpr uint8_t lock_waited_for = 2;  // held, and a wait for it is being timed

// Both are called in the middle of the runtime, with other locks of it held: they must not
// allocate, lock, park or wait. Any thread; also below a signal handler.
struct lock_listener {
  // By whoever waited, which holds the lock now. `unknown_ns` of it, at the end, was for a holder
  // that cannot be told.
  void (*waited)(int64_t ns, int64_t unknown_ns) noexcept;
  // By whoever held a lock, and has released it just now: `waiters` others waited for that together
  // `delay_ns`.
  void (*held_up)(int64_t delay_ns, int64_t waiters) noexcept;
};

// Null: nobody listens. A listener lives for ever.
extern constinit std::atomic<const lock_listener*> g_lock_listener;

}  // namespace weft::base

namespace weft {

// Releases a small lock while somebody listens. Not in weft::base: in profiles of contention it is
// the innermost frame that is shown, as runtime.unlock is in Go's.
void runtime_unlock(std::atomic<uint8_t>& word) noexcept;

}  // namespace weft

namespace weft::base {

inline void release_lock(std::atomic<uint8_t>& word) noexcept {
  if (g_lock_listener.load(std::memory_order_relaxed) == nullptr) [[likely]] {
    // [ord spinlock] release pairs with the acquire of whoever takes the lock.
    word.store(lock_free, std::memory_order_release);
    return;
  }
  runtime_unlock(word);
  asm volatile("");  // not a tail call, which would take the caller off the stack
}

}  // namespace weft::base
