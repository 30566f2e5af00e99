#pragma once
#include <cstdint>

namespace weft::base {

// Asks the kernel to give the calling thread the processor in pieces of about `ns` (0.1 to 100 ms):
// its share stays the same, but a thread with short pieces waits less when it wakes on a processor
// that others use. Linux since 6.12 listens to it, from threads of the ordinary scheduling classes;
// elsewhere nothing happens.
void ask_for_slices_of(uint64_t ns) noexcept;

}  // namespace weft::base
