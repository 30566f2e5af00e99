#pragma once

namespace weft::sched {

// Starts what WEFT_DEBUG=schedtrace=MS[,scheddetail=1] asks for, if it does. Once, when the
// scheduler starts.
void start_schedtrace() noexcept;

}  // namespace weft::sched
