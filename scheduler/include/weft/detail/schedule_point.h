#pragma once
// Where inline fast paths that never enter the runtime let a deterministic test switch tasks.
#include <atomic>

namespace weft::detail {

// True while a world of weft::test runs, and after never_take_short_ways().
extern std::atomic<bool> g_directed_world;
void schedule_point_slow() noexcept;

// Whether an inline fast path must leave the work to the runtime.
inline bool must_take_long_way() noexcept {
  return g_directed_world.load(std::memory_order_relaxed);
}
// From now on, for the process's life.
void never_take_short_ways() noexcept;

inline void schedule_point() noexcept {
  if (g_directed_world.load(std::memory_order_relaxed)) [[unlikely]]
    schedule_point_slow();
}

}  // namespace weft::detail
