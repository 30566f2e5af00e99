#include "gc/cpu_limiter.h"

#include <algorithm>

#include "gc/pacer.h"

namespace weft::gc {

cpu_limiter::cpu_limiter(int64_t now, int processors) noexcept
    : processors_(processors), last_(now), capacity_(processors * capacity_per_processor) {}

void cpu_limiter::update(int64_t now) noexcept {
  if (now < last_) return;
  int64_t total = (now - last_) * processors_;
  last_ = now;
  int64_t collector = assist_;
  if (marking_) collector += static_cast<int64_t>(static_cast<double>(total) * background_share);
  // Idle time is nobody's: on a machine that has more processors than work, a collector that takes
  // all the program's time would look small. The background's share is of the whole, though.
  total -= idle_;
  assist_ = idle_ = 0;
  accumulate(total - collector, collector);
}

void cpu_limiter::pause_begins(bool marking_follows, int64_t now) noexcept {
  update(now);
  marking_ = marking_follows;
}

void cpu_limiter::pause_ends(int64_t now) noexcept {
  if (now < last_) return;
  accumulate(0, (now - last_) * processors_);
  last_ = now;
}

void cpu_limiter::set_processors(int n, int64_t now) noexcept {
  update(now);
  processors_ = n;
  capacity_ = n * capacity_per_processor;
  fill_ = std::min(fill_, capacity_);
  limiting_.store(fill_ == capacity_, std::memory_order_relaxed);
}

void cpu_limiter::restart(int64_t now, int processors) noexcept {
  last_ = now;
  processors_ = processors;
  capacity_ = processors * capacity_per_processor;
}

void cpu_limiter::accumulate(int64_t program, int64_t collector) noexcept {
  const int64_t change = collector - program;
  if (change > 0 && capacity_ - fill_ <= change) {
    overflow_ += change - (capacity_ - fill_);
    fill_ = capacity_;
  } else {
    fill_ = std::max<int64_t>(fill_ + change, 0);
  }
  if (change != 0) limiting_.store(fill_ == capacity_, std::memory_order_relaxed);
}

bool thrash_watch::cycle_ended(int64_t now, int64_t collector_ns, int64_t process_ns) noexcept {
  const int64_t before = last_;
  last_ = now;
  if (collector_ns * 2 < process_ns || process_ns <= 0) {
    since_ = -1;
    return false;
  }
  if (since_ < 0) since_ = before < 0 ? now : before;
  if (now - since_ < window_) return false;
  since_ = now;
  return true;
}

}  // namespace weft::gc
