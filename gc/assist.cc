// What allocation pays while marking is on: a refill scans in proportion to what it takes, so that
// the heap cannot outgrow the marker. Bounded each time; what is not paid is carried as debt. A
// helper stops as soon as the world is to be stopped.
#include "gc/barrier.h"
#include "gc/mark.h"

namespace weft::gc {
namespace {

constexpr size_t most_bytes = size_t{64} << 10;

}  // namespace

void assist(mutator&) noexcept {
  if (!shared_work()) return;
  marker m(g_cage.marked);
  m.drain(most_bytes, true);
}

}  // namespace weft::gc
