#pragma once
#include <weft/detail/config.h>

#include <atomic>
#include <exception>

namespace weft::sched {
struct task;
}

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
  void rethrow_if_failed();
  bool done() const noexcept { return waiter_.load(std::memory_order_acquire) == finished(); }

 private:
  static sched::task* finished() noexcept;
  static bool commit_wait(sched::task* t, void* self);

  // null, the task that joins, or finished()
  std::atomic<sched::task*> waiter_{nullptr};
  std::exception_ptr error_;
};

}  // namespace weft::detail
