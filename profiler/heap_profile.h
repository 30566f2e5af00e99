#pragma once
// The heap and allocs profiles: what was sampled of the ordinary heap (weft::malloc) and of the
// collected one. heap_profile.cc has the design.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/alloc_sampling.h"
#include "profiler/bucket_table.h"
#include "profiler/profile_registry.h"

namespace weft::prof {

profile_source& heap_profile_source();
profile_source& allocs_profile_source();

// Makes the heaps' samples come here (base/alloc_sampling.h). Any number of times, from any thread,
// in the middle of an allocation too: it allocates nothing.
void install_heap_profile() noexcept;

// Obeys WEFT_DEBUG=memprofilerate=N,memprofileseed=N at the first call; a bad value ends the
// process with a message. Not from inside an allocator.
void heap_profile_from_environment();

// The table of one heap; for metrics and tests.
bucket_table::statistics heap_profile_statistics(base::heap_kind kind) noexcept;

// Go's scaleHeapSample: from `count` sampled objects of `bytes` together, sampled at a mean of
// `rate` bytes, to what they stand for. Truncated toward zero, as Go does.
struct heap_amount {
  int64_t objects;
  int64_t bytes;
  bool operator==(const heap_amount&) const = default;
};
heap_amount scale_heap_sample(heap_amount sampled, int64_t rate) noexcept;

}  // namespace weft::prof
