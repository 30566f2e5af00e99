#pragma once
// Threads of the runtime's own that live as long as the process: the monitor, the trimmer, who
// writes reports, the detectors.

namespace weft::sched {

// Starts one that runs body(arg), which must not throw. `name` is a literal of at most 15 bytes,
// shown by ps, gdb and the threadcreate profile. The thread is no actor (deadlock.h) and takes no
// signals of the program's: faults and the runtime's own get through. Returns 0, or the errno value
// why there is no thread. Any thread; not in a signal handler.
int start_service_thread(const char* name, void (*body)(void* arg), void* arg = nullptr) noexcept;

// The same for a switch of WEFT_DEBUG, which is without effect then: that is logged.
void start_detector_thread(const char* name, void (*body)(void* arg), void* arg = nullptr) noexcept;

}  // namespace weft::sched
