#pragma once
// Aligned memory from mimalloc, aligned.
#include <mimalloc.h>

#include <cstddef>
#include <cstdint>

namespace weft::heap {

// mimalloc 2.0.9 (Debian 12) takes a block whose size is a power of two of at least the alignment
// for aligned by nature, though its pages do not begin at a multiple: memalign(256, 256) ends in
// 0x780. A size that is no power of two takes the other way. `allocate` is one of mimalloc's
// functions, called with a size.
template <class F>
void* really_aligned(size_t size, size_t alignment, F allocate) {
  void* p = allocate(size);
  if ((reinterpret_cast<uintptr_t>(p) & (alignment - 1)) == 0) [[likely]]
    return p;
  mi_free(p);
  return allocate(size + 8);
}

}  // namespace weft::heap
