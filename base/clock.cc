#include "base/clock.h"

namespace weft::base {
std::atomic<int64_t> g_fake_ns{0};
std::atomic<int64_t> g_coarse_ns{now_ns()};
}  // namespace weft::base
