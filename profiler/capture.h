#pragma once
// Reading other tasks' stacks while they live. capture.cc has the protocol.
#include <cstddef>
#include <cstdint>
#include <functional>

#include "profiler/task_snapshot.h"
#include "scheduler/task.h"

namespace weft::prof {

struct capture_options {
  size_t depth = 512;  // frames kept per task, leaf side first; at most 1024
  // All tasks as they are at one instant. Where that cannot be had (a thread blocks the signal that
  // would stop it), one by one all the same. Takes memory for all captures, some hundred bytes
  // each.
  bool instant = false;
  bool system_tasks = false;     // also the runtime's own tasks and foreign threads
  bool foreign_threads = false;  // of the latter only those that wait in a primitive of weft's
  bool owners = false;           // task_snapshot::held_by is wanted
  // Asked every few hundred tasks: true ends the capture, which is then incomplete. Null: never.
  std::function<bool()> stop = {};
  size_t between_stops = 256;  // how many records are looked at between two calls of `stop`
  // A capture takes long, and what else waits for the calling task's processor waits as long: true
  // gives the processor up (weft::blocking). It is asked for again before `stop` is called.
  bool give_up_processor = false;
};

// Captures every task once and hands it to `visit`: the calling task first, if the caller is one,
// then the others in order of their records. No task is stopped for longer than one unwind
// (microseconds); the others run on, so without `instant` the result is not one instant. With it,
// all stop for the tens of microseconds until those that execute are captured, and a task that runs
// before its turn has come waits for its own capture. Tasks that start meanwhile may be missing,
// and are with `instant`. Returns the number of tasks visited. Any number of captures at a time;
// one has an instant, others wait. Normal threads and tasks only, not from signal handlers.
size_t capture_tasks(const capture_options& options,
                     const std::function<void(const task_snapshot&)>& visit);

// The stack of one task. False if the record is no longer that of task `id`. As capture_tasks().
bool capture_task(sched::task& t, uint64_t id, task_snapshot& out);

// The calling task's or thread's own stack, from its caller on.
task_snapshot capture_self(size_t depth = 512);

// Installs the handler of the signal that asks a running thread for its stack. Called once at
// start-up; capture_tasks() calls it too.
void install_capture_signal();

}  // namespace weft::prof
