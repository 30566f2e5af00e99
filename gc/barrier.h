#pragma once
// What stores tell the marker, and how tasks help it.
#include <weft/gc/detail/heap.h>

#include "gc/heap.h"

namespace weft::gc {

// Moves what stores have greyed to the shared queue; true if there was any. Any thread.
bool take_greys() noexcept;

// The calling thread allocates while marking is on: does a bounded part of the marking. In a
// critical section.
void assist(mutator& m) noexcept;

}  // namespace weft::gc
