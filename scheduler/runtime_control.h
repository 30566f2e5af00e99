#pragma once
// Starting, stopping and resizing the scheduler; used by weft::run and set_max_procs.
#include <weft/detail/spawn.h>

namespace weft::sched {

// The number of processors that the machine grants: the affinity mask, limited by the tightest
// cgroup CPU quota of this process's group and its ancestors (rounded up), at least 1;
// WEFT_MAXPROCS overrides.
int default_max_procs();

// From now on the number of processors follows default_max_procs(), which is read again every
// second while tasks run; resize() ends that.
void follow_machine(bool follow) noexcept;

struct directed_world;

// Starts the process-wide scheduler (first call) or lets it go on after stop(). 1 <= procs <= 1024.
// With a world, which lives until stop(), procs is 1 and directed.h tells the rules.
void start(int procs, directed_world* world = nullptr) noexcept;

// Stops task execution: returns when no task runs with a processor any more. Tasks keep their
// places and go on with the next start(). Not callable from a task.
void stop() noexcept;
bool started() noexcept;

// Changes the number of processors while tasks run; without effect before start() and after stop(),
// as start() sets the number. Callable from a task or any thread.
void resize(int procs) noexcept;
int current_max_procs() noexcept;

}  // namespace weft::sched
