#pragma once
// The background scavenger: free pages beyond what the next cycle will need go back to the system.
#include <cstdint>

namespace weft::gc {

// One step, by the collector while it has nothing else to do: gives back up to 2 MiB if the heap
// holds more than a tenth over `goal`, the size that it is expected to grow to. Returns how long to
// wait before the next step, ns, so that the work takes a hundredth of a processor; INT64_MAX if
// there is nothing to give back.
int64_t scavenge(uint64_t goal) noexcept;

}  // namespace weft::gc
