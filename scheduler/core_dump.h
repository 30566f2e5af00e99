#pragma once
// Core files that show every task. core_dump.cc has the design.
#include <cstddef>
#include <cstdint>

namespace weft::sched {

// Makes the stacks of all tasks part of the core file that the kernel is about to write: executing
// tasks' first, then those of tasks that do not execute. The last thing before a signal whose
// default action dumps core is raised again: tasks that do not execute now cannot do so afterwards,
// so that what was noted of them stays true. Does nothing when no core would be written
// (RLIMIT_CORE, PR_SET_DUMPABLE) or when it was done before. Async-signal-safe; 100 000 tasks take
// about 0.2 s.
void prepare_core_dump() noexcept;

// Only for tasks that execute, the calling one included: a few system calls, for a handler that
// does not know whether the process is about to end. Async-signal-safe. May be repeated, but from
// the 17th time on it does nothing.
void include_executing_stacks_in_core() noexcept;

// Installs handlers for the signals that dump core by default. A handler that the program has
// installed before is called first and decides; SIG_IGN stays. Once, at start-up.
void install_core_dump_handlers() noexcept;

// How much a dump may contain. Tests lower the limits to reach the second and third ways of
// including a stack.
struct core_dump_limits {
  size_t max_ranges = 4096;                     // stacks made dumpable in place
  size_t max_copied_bytes = size_t{512} << 20;  // of the stacks beyond those
  size_t max_copy = size_t{64} << 10;           // of one stack, innermost frames
};
extern core_dump_limits g_core_dump_limits;

// What the debugger script reads: the copies of stack ends, see core_dump.cc.
struct stack_copy {
  const void* task;
  uint64_t sp;    // where the copied bytes were
  uint64_t copy;  // where they are
  uint64_t size;
};
struct core_dump_index {
  uint64_t prepared_ns;  // 0: nothing was prepared
  stack_copy* copies;
  uint64_t copy_count;
  uint64_t in_place;  // stacks made dumpable where they are
  uint64_t missing;   // tasks whose stack could not be included
};
extern core_dump_index g_core_dump;

}  // namespace weft::sched
