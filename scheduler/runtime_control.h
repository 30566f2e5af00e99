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

// The number of worker threads that may exist; a program that needs more ends with "thread
// exhaustion". Default: WEFT_MAXTHREADS, else 10 000.
int thread_limit() noexcept;
void set_thread_limit(int n) noexcept;
int worker_thread_count() noexcept;

// How long a task may hold its processor without using the runtime while others wait: 10 ms. Tests
// make it shorter to provoke retakes, as short as 20 microseconds. Any thread, any time.
int64_t slice() noexcept;
void set_slice(int64_t ns) noexcept;
uint64_t retakes() noexcept;  // processors taken away so far

}  // namespace weft::sched
