#pragma once
// The detectors of WEFT_DEBUG that look at tasks: chandead, lockpark, longrun.
#include <cstdint>

namespace weft::sched {

// Starts the ones that WEFT_DEBUG asks for. Once, when the scheduler starts; costs nothing else.
void start_detectors() noexcept;

// What start_detectors() calls.
void start_chandead() noexcept;
void start_lockpark() noexcept;

// Reports that each has finished writing.
uint64_t longrun_reports() noexcept;
uint64_t chandead_reports() noexcept;
uint64_t lockpark_reports() noexcept;

}  // namespace weft::sched
