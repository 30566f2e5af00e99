#pragma once
// Which allocations are sampled. sampler.cc has the design.
#include <cstddef>
#include <cstdint>

#include "weft/malloc/sampled_store.h"

namespace weft::heap {

// Bytes that the calling thread allocates until its next sample, and one; 0: draw a distance at the
// next allocation. Initial-exec, because this library is never loaded late: one instruction.
extern thread_local constinit uint64_t t_left
    [[gnu::tls_model("initial-exec"), gnu::visibility("hidden")]];

// Counts an allocation of `size` bytes; true if it may be one to sample: then ask sample_*().
inline bool counts_out(size_t size) noexcept {
#if defined(__x86_64__)
  // The subtraction's own flags are the answer, and no signal or other processor's store to t_left
  // (a change of the rate) can come between its load and its store on this processor.
  bool out;
  asm volatile("subq %[size], %[left]" : [left] "+m"(t_left), "=@ccbe"(out) : [size] "re"(size));
  return out;
#else
  uint64_t left = t_left;
  t_left = left - size;
  return size >= left;
#endif
}

// For an allocation that was counted out: its memory, if it is sampled; null: allocate as usual
// (not sampled, or no memory here). Alignment is a power of two.
[[gnu::visibility("hidden")]] void* sample_allocation(size_t size, size_t alignment,
                                                      bool zero) noexcept;

// For a realloc of a sampled block that was counted as an allocation of `size` bytes, `out` as
// counts_out() said. Null: no memory, and the block is as before.
[[gnu::visibility("hidden")]] void* sampled_realloc(void* p, size_t size, bool out) noexcept;

// Of blocks that is_sampled() is true for.
[[gnu::visibility("hidden")]] void sampled_free(void* p) noexcept;
[[gnu::visibility("hidden")]] size_t sampled_usable_size(void* p) noexcept;

}  // namespace weft::heap
