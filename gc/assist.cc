// What allocation pays while marking is on: a refill scans in proportion to what it takes, so that
// the heap cannot outgrow the marker. Bounded each time; what is not paid is carried as debt. A
// helper stops as soon as the world is to be stopped.
#include <algorithm>

#include "base/clock.h"
#include "gc/barrier.h"
#include "gc/mark.h"
#include "gc/pacing.h"
#include "scheduler/world_stop.h"

namespace weft::gc {
namespace {

// Enough to be worth the visit, little enough not to be noticed.
constexpr int64_t least_bytes = int64_t{16} << 10, most_bytes = int64_t{64} << 10;
constexpr int64_t most_ns = 100'000;
constexpr size_t step_bytes = size_t{8} << 10;  // between two looks at the clock

}  // namespace

void assist(mutator& m) noexcept {
  const int64_t owed = debt(m);
  if (owed <= 0 || !shared_work()) return;
  const int64_t began = base::true_now_ns();
  marker helper(g_cage.marked);
  const auto enough = static_cast<uint64_t>(std::clamp(owed, least_bytes, most_bytes));
  while (!helper.drain(step_bytes, true) && helper.scanned_bytes() < enough &&
         base::true_now_ns() - began < most_ns &&
         (sched::g_gate.load(std::memory_order_relaxed) & sched::gate_stop) == 0) {
  }
  pay(m, static_cast<int64_t>(helper.scanned_bytes()), base::true_now_ns() - began);
}

}  // namespace weft::gc
