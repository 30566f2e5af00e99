// What allocation pays while marking is on: a refill scans in proportion to what it takes, so that
// the heap cannot outgrow the marker. Bounded each time; what is not paid is carried as debt. A
// helper stops as soon as the world is to be stopped.
#include <algorithm>

#include "base/clock.h"
#include "gc/barrier.h"
#include "gc/mark.h"
#include "gc/pacing.h"

namespace weft::gc {
namespace {

// Enough to be worth the visit, little enough not to be noticed.
constexpr int64_t least_bytes = int64_t{16} << 10, most_bytes = int64_t{64} << 10;

}  // namespace

void assist(mutator& m) noexcept {
  const int64_t owed = debt(m);
  if (owed <= 0 || !shared_work()) return;
  const int64_t began = base::true_now_ns();
  marker helper(g_cage.marked);
  helper.drain(static_cast<size_t>(std::clamp(owed, least_bytes, most_bytes)), true);
  pay(m, static_cast<int64_t>(helper.scanned_bytes()), base::true_now_ns() - began);
}

}  // namespace weft::gc
