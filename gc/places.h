#pragma once
// Whether the collector sees what a reference refers to: where it lies decides.
#include <cstdint>

namespace weft::gc {

// Once, when the heap begins to exist.
void watch_places(bool on) noexcept;

// References that were made while marking was on, where the collector does not look.
uint64_t untraced_references() noexcept;

}  // namespace weft::gc
