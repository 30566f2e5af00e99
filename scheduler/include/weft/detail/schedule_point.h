#pragma once
// Where inline fast paths that never enter the runtime let a deterministic test switch tasks.
#include <atomic>

namespace weft::detail {

// True while a world of weft::test runs.
extern std::atomic<bool> g_directed_world;
void schedule_point_slow() noexcept;

inline void schedule_point() noexcept {
  if (g_directed_world.load(std::memory_order_relaxed)) [[unlikely]]
    schedule_point_slow();
}

}  // namespace weft::detail
