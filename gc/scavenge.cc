// In steps, because the kernel holds the address space's lock while it takes pages away, and the
// next allocation may need what has just been given back. MADV_DONTNEED and nothing else: huge
// pages fill memory again that was returned, and stall under locks.
#include "gc/scavenge.h"

#include <algorithm>

#include "base/clock.h"
#include "gc/page_heap.h"

namespace weft::gc {
namespace {

constexpr uint64_t step_bytes = uint64_t{2} << 20;
constexpr int64_t share = 100;  // of the time that steps take
constexpr int64_t shortest_ns = 1'000'000;
constexpr int64_t longest_ns = 1'000'000'000;

}  // namespace

int64_t scavenge(uint64_t goal) noexcept {
  const page_statistics pages = page_counters();
  const uint64_t keep = goal > UINT64_MAX / 2 ? goal : goal + goal / 10;
  const uint64_t held = pages.in_use_bytes + pages.free_bytes;
  if (pages.free_bytes == 0 || held <= keep) return INT64_MAX;
  const int64_t began = base::true_now_ns();
  if (return_free_pages(std::min(held - keep, step_bytes)) == 0) return INT64_MAX;
  return std::clamp((base::true_now_ns() - began) * share, shortest_ns, longest_ns);
}

}  // namespace weft::gc
