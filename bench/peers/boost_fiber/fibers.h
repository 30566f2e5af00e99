#pragma once
// What the rows need and Boost.Fiber has no name for: starting a detached fiber with the row's
// stack size, and a wait group.

#include <boost/fiber/condition_variable.hpp>
#include <boost/fiber/fiber.hpp>
#include <boost/fiber/fixedsize_stack.hpp>
#include <boost/fiber/mutex.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>

namespace bench {

// Set by main before the row starts.
inline std::size_t fiber_stack_bytes = 0;

template <class F>
boost::fibers::fiber start(F&& f) {
  return boost::fibers::fiber(boost::fibers::launch::post, std::allocator_arg,
                              boost::fibers::fixedsize_stack(fiber_stack_bytes),
                              std::forward<F>(f));
}

template <class F>
void go(F&& f) {
  start(std::forward<F>(f)).detach();
}

// Only the last done() touches the mutex, so that the counter's cost is that of weft's and Go's.
class wait_group {
 public:
  explicit wait_group(long count) : count_(count) {}

  void done() {
    if (count_.fetch_sub(1) != 1) return;
    // Notified under the lock: wait() returns, and its caller may destroy this, only after unlock.
    const std::lock_guard lock(mutex_);
    finished_ = true;
    all_done_.notify_all();
  }

  void wait() {
    std::unique_lock lock(mutex_);
    all_done_.wait(lock, [this] { return finished_; });
  }

 private:
  std::atomic<long> count_;
  boost::fibers::mutex mutex_;
  boost::fibers::condition_variable all_done_;
  bool finished_ = false;
};

}  // namespace bench
