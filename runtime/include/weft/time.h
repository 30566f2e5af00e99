#pragma once
// Time as channels, and what time it is (now()). Sleeping is in <weft/task.h>.
#include <weft/chan.h>
#include <weft/detail/now.h>

#include <chrono>

namespace weft {

// A channel (capacity 1) that receives the then current time once, d from now; d <= 0: at once. A
// duration too long to represent never fires. Costs a timer until it fires, even if nobody listens.
recv_chan<std::chrono::steady_clock::time_point> after(std::chrono::nanoseconds d);

}  // namespace weft
