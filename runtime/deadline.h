#pragma once
// Durations and time points of public functions as limits of waits.
#include <chrono>

#include "base/clock.h"
#include "runtime/timed_wait.h"

namespace weft::detail {

// Whether a wait may begin at all, and until when: d <= 0 and times that have passed are over.
struct time_limit {
  explicit time_limit(std::chrono::nanoseconds d) noexcept
      : limit(d.count() > 0 ? sched::deadline_after(base::now_ns(), d.count()) : 0),
        over(d.count() <= 0) {}
  explicit time_limit(std::chrono::steady_clock::time_point t) noexcept
      : limit(t.time_since_epoch().count()), over(limit.deadline_ns <= base::now_ns()) {}

  wait_limit limit;
  bool over;
};

}  // namespace weft::detail
