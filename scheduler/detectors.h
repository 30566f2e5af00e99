#pragma once
// The detectors of WEFT_DEBUG that look at tasks now and then: longrun.
#include <cstdint>

namespace weft::sched {

// Starts the ones that WEFT_DEBUG asks for. Once, when the scheduler starts; costs nothing else.
void start_detectors() noexcept;

// Reports that longrun has finished writing.
uint64_t longrun_reports() noexcept;

}  // namespace weft::sched
