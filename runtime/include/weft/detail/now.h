#pragma once
#include <chrono>

namespace weft {

// The time by which all of weft's deadlines go: std::chrono::steady_clock::now(), but for
// deterministic tests (<weft/test.h>), where time is fake. Code that computes time points should
// ask here, so that it can be tested. Any thread.
std::chrono::steady_clock::time_point now() noexcept;

}  // namespace weft
