#include <weft/recursive_mutex.h>
#include <weft/task.h>

#include "base/check.h"

namespace weft {

bool recursive_mutex::take_again(uint64_t me) noexcept {
  if (owner_.load(std::memory_order_relaxed) != me) return false;
  ++depth_;
  return true;
}

void recursive_mutex::take(uint64_t me) noexcept {
  owner_.store(me, std::memory_order_relaxed);
  depth_ = 1;
}

void recursive_mutex::lock() {
  const uint64_t me = this_task::id();
  if (take_again(me)) return;
  mutex_.lock();
  take(me);
}

bool recursive_mutex::try_lock() noexcept {
  const uint64_t me = this_task::id();
  if (take_again(me)) return true;
  if (!mutex_.try_lock()) return false;
  take(me);
  return true;
}

bool recursive_mutex::try_lock_for(std::chrono::nanoseconds d) {
  const uint64_t me = this_task::id();
  if (take_again(me)) return true;
  if (!mutex_.try_lock_for(d)) return false;
  take(me);
  return true;
}

bool recursive_mutex::try_lock_until(std::chrono::steady_clock::time_point t) {
  const uint64_t me = this_task::id();
  if (take_again(me)) return true;
  if (!mutex_.try_lock_until(t)) return false;
  take(me);
  return true;
}

bool recursive_mutex::lock(const context& ctx) {
  const uint64_t me = this_task::id();
  if (take_again(me)) return true;
  if (!mutex_.lock(ctx)) return false;
  take(me);
  return true;
}

void recursive_mutex::unlock() {
  const uint64_t me = this_task::id();
  const uint64_t owner = owner_.load(std::memory_order_relaxed);
  if (owner != me) {
    auto id = [](uint64_t n) { return static_cast<unsigned long long>(n); };
    if (owner == 0)
      base::fatalf("weft::recursive_mutex: unlock by task %llu, but nobody holds it", id(me));
    base::fatalf("weft::recursive_mutex: unlock by task %llu, but task %llu holds it", id(me),
                 id(owner));
  }
  if (--depth_ > 0) return;
  owner_.store(0, std::memory_order_relaxed);
  mutex_.unlock();
}

}  // namespace weft
