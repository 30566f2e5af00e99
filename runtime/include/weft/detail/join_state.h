#pragma once
#include <weft/detail/waiter.h>
#include <weft/result.h>

#include <atomic>
#include <chrono>
#include <exception>

namespace weft::detail {

[[noreturn]] void throw_empty_join();

// The meeting point of a spawned task and its join_handle.
class join_state {
 public:
  join_state() = default;
  join_state(const join_state&) = delete;
  ~join_state();

  void fail() noexcept { error_ = std::current_exception(); }
  void finish() noexcept;  // last call of the task
  void wait() noexcept;
  // No error, or errc::timed_out, or the context's.
  error_code wait(std::chrono::nanoseconds d) noexcept;
  error_code wait(std::chrono::steady_clock::time_point t) noexcept;
  error_code wait(const context& ctx);
  void rethrow_if_failed();
  bool done() const noexcept { return done_.load(std::memory_order_acquire); }

 private:
  bool wait_within(const wait_limit& limit) noexcept;

  small_lock lock_;
  std::atomic<bool> done_{false};  // written under lock_
  waiter* joiner_ = nullptr;       // likewise
  std::exception_ptr error_;
};

}  // namespace weft::detail
