#pragma once
// fork: the child of a process that runs the runtime may only exec. fork.cc has the reasons.

namespace weft::sched {

// Once, when the scheduler starts.
void watch_forks() noexcept;

// True in a child forked after that. Async-signal-safe.
bool in_forked_child() noexcept;

// In such a child: says so on stderr and aborts.
void refuse_in_forked_child() noexcept;

}  // namespace weft::sched
