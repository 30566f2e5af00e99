#pragma once
// Waits for the runtime's own locks, timed while somebody listens (weft/detail/lock_listener.h).
// lock_waits.cc has the design.
#include <weft/detail/lock_listener.h>

#include <atomic>
#include <cstdint>

namespace weft {

// Tells the listener of a wait that is over. Not in weft::base for the reason of runtime_unlock().
void runtime_lock(const base::lock_listener& listener, int64_t ns, int64_t unknown_ns) noexcept;

}  // namespace weft

namespace weft::base {

// One wait for the lock with this word, from here until over(). On the waiter's stack.
class lock_wait {
 public:
  explicit lock_wait(std::atomic<uint8_t>& word) noexcept
      : listener_(g_lock_listener.load(std::memory_order_acquire)) {  // [ord lock.listener]
    if (listener_ != nullptr) [[unlikely]]
      begin(word);
  }

  // The lock was found held, once more.
  void still_held() noexcept {
    if (listener_ != nullptr) [[unlikely]]
      announce();
  }

  // The caller holds the lock.
  void over() noexcept {
    if (listener_ != nullptr) [[unlikely]]
      end();
  }

 private:
  void begin(std::atomic<uint8_t>& word) noexcept;
  void announce() noexcept;
  void end() noexcept;

  const lock_listener* const listener_;
  std::atomic<uint8_t>* word_;
  int64_t began_;
  uint64_t since_;   // in the sums: when the holder's share began
  uint64_t period_;  // of the sums, in which `since_` is part of them; none: no room
};

}  // namespace weft::base
