#pragma once
// The runtime's clocks. All times are nanoseconds of CLOCK_MONOTONIC.
#include <time.h>

#include <atomic>
#include <cstdint>

namespace weft::base {

inline int64_t true_now_ns() noexcept {
  timespec ts;
  ::clock_gettime(CLOCK_MONOTONIC, &ts);
  return int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec;
}

// Not 0: what every clock of the runtime shows instead; set while a deterministic test runs.
extern std::atomic<int64_t> g_fake_ns;

inline int64_t now_ns() noexcept {
  if (int64_t fake = g_fake_ns.load(std::memory_order_relaxed); fake != 0) [[unlikely]]
    return fake;
  return true_now_ns();
}

// The last time somebody in the scheduler looked at the clock. While any task runs the monitor
// refreshes it at least every 10 ms; costs one load, so every park may be stamped with it.
extern std::atomic<int64_t> g_coarse_ns;
inline int64_t coarse_ns() noexcept { return g_coarse_ns.load(std::memory_order_relaxed); }

// Reads the clock and refreshes the coarse one.
inline int64_t now_refresh() noexcept {
  int64_t now = now_ns();
  g_coarse_ns.store(now, std::memory_order_relaxed);
  return now;
}

}  // namespace weft::base
