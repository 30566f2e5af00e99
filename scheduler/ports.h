#pragma once
// What the scheduler needs from the layers above it, as interfaces that it declares and they
// implement. weft/wire.cc connects them in one place.
#include <cstdint>

#include "scheduler/run_queue.h"

namespace weft::sched {

// Readiness of descriptors. One poller serves the process; find_work calls it as Go's scheduler
// calls netpoll: without waiting when there is no local work, and waiting on the last thread to go
// idle.
class poller {
 public:
  virtual ~poller() = default;

  // Appends the tasks that became ready to `out` (status runnable, as left by make_ready).
  // Starters, the descriptors whose owner asked for a fresh task per burst of input instead of a
  // parked one, arrive in the same list as newly made tasks. timeout_ns: 0 does not wait, negative
  // waits without limit. Called inside the scheduler by any thread; several may call with 0 at
  // once, only one waits at a time.
  virtual void poll(int64_t timeout_ns, task_list& out) noexcept = 0;

  // Makes a waiting poll() return soon. Any thread; async-signal-safe.
  virtual void wake() noexcept = 0;

  // True when some task or starter could be made ready by a descriptor.
  virtual bool has_waiters() const noexcept = 0;

  virtual const char* name() const noexcept = 0;
};

// Installs the process's poller in place of the built-in one, which only waits and wakes. At most
// once; the object must live forever. Thread-safe.
void set_poller(poller* p) noexcept;

// Inside poll(): task waiting -> runnable without queueing it; the caller appends it to its list.
void make_ready(task* t) noexcept;

// Inside poll(): a new task that will call start(arg), runnable and not queued. `created_by` is
// shown as its place of creation.
task* make_starter_task(void (*start)(void* arg), void* arg, uintptr_t created_by) noexcept;

// Output that the running task has gathered, and that should not wait while the task does. One per
// task, the task's own. It is sent, once, before the task parks, yields or begins a blocking call.
struct gathered_output {
  // On the task itself, inside a critical section and under locks of whatever the task is about to
  // wait for: must not wait, allocate, or enter the runtime. Sends what can be sent at once.
  void (*send)(gathered_output& self) noexcept = nullptr;
  const task* owner = nullptr;
};
// Called outside critical sections. own: by the task that will gather. note: there is output; false
// if the caller is not that task. forget: it was sent otherwise; without effect if it is not noted.
void own_gathered(gathered_output& g) noexcept;
bool note_gathered(gathered_output& g) noexcept;
void forget_gathered(gathered_output& g) noexcept;

// What the runtime layer keeps per task (labels) follows a task's life through these.
struct task_hooks {
  void (*created)(task& parent, task& child) noexcept = nullptr;  // before the child is visible
  // On the task itself after its function, if it has a run_context; outside a critical section, so
  // user code may run.
  void (*leaving)() noexcept = nullptr;
  void (*ended)(task& t) noexcept = nullptr;  // on the task itself, at its end
};
extern task_hooks g_task_hooks;  // written once, before the first task exists

// Reports for a process that is about to die or was asked to show its tasks. Null members are
// skipped.
struct report_port {
  // Both write the part of a dying process's report that follows the message, as far as
  // WEFT_TRACEBACK asks for it; they may allocate and take their time.
  // Every task's stack, the calling task first: fatal errors.
  void (*dump_all)(int fd) = nullptr;
  // The calling task's or thread's own stack, then the others': uncaught exceptions.
  void (*dump_current)(int fd) = nullptr;
  // The stack of one task, which may be executing, if it still is the one with this id. Not part of
  // a dying process's report.
  void (*dump_task)(int fd, task& t, uint64_t id) = nullptr;
  // The calling task's or thread's own stack, to be shown later. keep_stack allocates, and takes
  // microseconds once it has been called; write_kept symbolizes.
  void* (*keep_stack)() = nullptr;
  void (*write_kept)(int fd, const void* kept) = nullptr;
  void (*drop_kept)(void* kept) = nullptr;
};
void set_report_port(const report_port& port) noexcept;
const report_port& current_report_port() noexcept;

}  // namespace weft::sched
