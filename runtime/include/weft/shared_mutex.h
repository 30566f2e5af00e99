#pragma once
// shared_mutex: many readers or one writer. Go's sync.RWMutex with std::shared_timed_mutex's
// interface.
//
//   std::shared_lock reading(m);
//   std::unique_lock writing(m);
#include <weft/mutex.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace weft {
class shared_mutex;

namespace detail {
// Whoever owns it does not hold it yet.
bool writer_waits_for_readers(const shared_mutex& m) noexcept;
}  // namespace detail

// A writer that waits keeps new readers out, and when a writer unlocks, the readers that wait then
// go before the next writer: neither side can starve the other. Hence a task must not lock it for
// reading twice: with a writer in between both wait for ever. There is no way from a shared to an
// exclusive lock or back. Any task or thread may unlock. A task that waits is parked
// ("sync.RWMutex.RLock", "sync.RWMutex.Lock"), a thread blocks.
//
// Among writers it is as fair as weft::mutex. It must outlive every unlock() in progress; unlike
// that of weft::mutex, an exclusive unlock() may still touch it after others have locked it.
class shared_mutex {
 public:
  constexpr shared_mutex() noexcept = default;
  shared_mutex(const shared_mutex&) = delete;

  void lock();
  // False if anybody holds it or a writer waits. Never waits, never fails spuriously.
  [[nodiscard]] bool try_lock() noexcept;
  // Waits at most d, keeping new readers out meanwhile. False if it could not be had in time.
  [[nodiscard]] bool try_lock_for(std::chrono::nanoseconds d);
  [[nodiscard]] bool try_lock_until(std::chrono::steady_clock::time_point t);
  // Waits until the context is cancelled or its deadline passes. False without the lock then, and
  // also if it was cancelled before.
  [[nodiscard]] bool lock(const context& ctx);
  // When no writer holds it the process ends: "fatal error: sync: Unlock of unlocked RWMutex".
  void unlock();

  void lock_shared() {
    if (detail::must_take_long_way() || !enter_shared()) lock_shared_slow();
  }
  // False if a writer holds it or waits.
  [[nodiscard]] bool try_lock_shared() noexcept {
    if (!enter_shared()) return false;
    if (detail::must_take_long_way()) writers_.note_acquired();
    return true;
  }
  [[nodiscard]] bool try_lock_shared_for(std::chrono::nanoseconds d);
  [[nodiscard]] bool try_lock_shared_until(std::chrono::steady_clock::time_point t);
  [[nodiscard]] bool lock_shared(const context& ctx);
  // When no reader holds it the process ends: "fatal error: sync: RUnlock of unlocked RWMutex".
  void unlock_shared() {
    if (detail::must_take_long_way()) note_shared_released();
    lock_.lock();
    const bool easy = readers_ > 1 || (readers_ == 1 && writer_state() != writer::waiting);
    if (easy) --readers_;
    lock_.unlock();
    if (!easy) unlock_last_shared();
  }

 private:
  friend bool detail::writer_waits_for_readers(const shared_mutex& m) noexcept;

  enum class writer : uint8_t { none, waiting, holding };

  writer writer_state() const noexcept { return writer_.load(std::memory_order_relaxed); }
  void set_writer(writer w) noexcept { writer_.store(w, std::memory_order_relaxed); }
  bool enter_shared() noexcept {
    lock_.lock();
    const bool open = writer_state() == writer::none;
    if (open) ++readers_;
    lock_.unlock();
    return open;
  }
  void lock_shared_slow();
  void note_shared_released() noexcept;
  bool wait_shared_within(const detail::wait_limit& limit) noexcept;
  bool lock_shared_within(const detail::wait_limit& limit) noexcept;
  bool lock_within(const detail::wait_limit& limit);
  bool wait_for_readers(const detail::wait_limit& limit) noexcept;
  void unlock_last_shared();
  void admit_readers(detail::waiter_list& woken) noexcept;

  // Held by the writer that holds the lock or is next. First, as lock_owner.h asks for.
  mutex writers_;

  detail::small_lock lock_;  // guards the rest
  detail::waiter_list waiting_readers_;
  detail::waiter_list waiting_writer_;  // at most one: the others wait for writers_
  // Not in one word with lock_: compilers read neighbours together, which the thread sanitizer
  // takes for a race.
  uint32_t readers_ = 0;                      // that hold it
  std::atomic<writer> writer_{writer::none};  // read by find_deadlocks() without lock_
};

}  // namespace weft
