#pragma once
// The record of an OS thread that the runtime knows: a worker, or any thread that used a primitive.
#include <weft/detail/config.h>

#include <atomic>
#include <cstdint>

#include "scheduler/context.h"
#include "scheduler/task_state.h"

namespace weft::sched {

struct task;
struct processor;
struct thread;
struct gathered_output;

// What to do with the context that was just left; runs on the context that comes next.
struct after_switch {
  enum class op : uint8_t { none, park, yield, requeue, exit };
  op what = op::none;
  task* prev = nullptr;
  bool (*commit)(task*, void*) = nullptr;  // park: false cancels the park
  void* arg = nullptr;  // park: for commit; yield: not null means the local queue's tail
  wait_reason reason{};
};

// Where a thread keeps what it captures for an open instant; the port's business (instant.h).
struct capture_room {
  uint64_t instant;
  char *at, *end;
};

struct thread {
  thread() = default;
  thread(const char* role_, int steal_) noexcept : steal(steal_), role(role_) {}

  // The retake protocol (retake.cc). crit is 1 while the thread is inside the runtime
  // and may use its P; steal says what another thread wants of that P.
  std::atomic<int> crit{0};
  std::atomic<int> steal{0};
  std::atomic<uint32_t> wanted_tick{0};  // of the P, when steal became `wanted`
  std::atomic<processor*> p{nullptr};
  std::atomic<task*> current{nullptr};  // the user's task; null in the scheduler

  thread_globals globals{};  // of this OS thread
  context sched_ctx;         // the scheduler loop, on the thread's own stack
  after_switch after;
  gathered_output* gathered = nullptr;  // of the current task (ports.h); the thread's own business
  processor* last_p = nullptr;

  // Parking of this OS thread.
  std::atomic<uint32_t> park_word{0};
  processor* next_p = nullptr;  // handed over by the waker
  bool spinning = false;
  thread* idle_next = nullptr;

  // A task that runs on this thread only, while this thread runs nothing else. Its own business,
  // like lock_depth.
  task* locked_task = nullptr;
  uint32_t lock_depth = 0;
  task* picked = nullptr;  // for the scheduler's context: what to run next

  // Fences by signal (thread_signal.h).
  std::atomic<uint32_t> fence_ticket{0};
  std::atomic<uint32_t> fence_passed{0};
  std::atomic<bool> declared_blocking{false};  // by begin_blocking(), until the next enter()
  // While the task executes without a processor: the thread's CPU time when that began; -1 if
  // nobody watches (wait_watch.h).
  std::atomic<int64_t> blocked_cpu_ns{-1};
  std::atomic<bool> asleep{false};   // foreign threads: inside a primitive (deadlock.cc)
  std::atomic<bool> ending{false};   // a worker on its way out (deadlock.cc)
  std::atomic<bool> service{false};  // the runtime's own, wakes nobody (deadlock.h)

  // Stopping for a collector (world_stop.cc). Written by the thread itself, read when it has
  // stopped or rests.
  std::atomic<bool> stop_pending{false};    // a signal came while crit was 1
  std::atomic<uint32_t> stopped_for{0};     // number of the stop that it is in
  std::atomic<bool> stop_signalled{false};  // a signal is on its way
  std::atomic<bool> rests{false};           // in code that touches no collected object
  const void* stop_sp = nullptr;            // where its stack begins then
  void* stop_ucontext = nullptr;            // if a signal stopped it
  uintptr_t saved_regs[72] = {};            // callee-saved registers otherwise; see begin_rest()
  std::atomic<uint32_t> scan_epoch{0};      // foreign threads: of their own stack's last scan
  void* heap = nullptr;                     // owned by the collected heap; stays with the record
  capture_room room{};

  bool foreign = false;  // not one of the scheduler's workers
  const char* role = "worker";
  int tid = 0;
  uintptr_t stack_lo = 0, stack_hi = 0;  // the thread's own stack
  void* alt_stack = nullptr;
  task* own_task = nullptr;  // foreign threads: the record that stands for the thread
  uint32_t rng = 0;

  thread* all_next = nullptr;           // registry, under its lock
  std::atomic<void*> sampler{nullptr};  // owned by the thread_start sink that set it
};

// Stands for every thread without a record; its steal word sends the first enter() to slow_enter().
extern thread g_unattached;

// The calling thread's record. Opaque, because a task may continue on another thread after any
// switch: never keep the result across one. A thread that the runtime does not know yet gets
// g_unattached.
WEFT_OPAQUE thread* self() noexcept;

// As self(), but null for an unknown thread. Async-signal-safe.
WEFT_OPAQUE thread* self_or_null() noexcept;

// Makes the calling OS thread known as a foreign thread (it gets a task record and may use every
// primitive); undone when the thread ends. `role` must be a literal.
void attach_foreign(const char* role) noexcept;

// Records are reused and never freed: a waker or a retaker may look at one whose thread has ended.
thread* make_thread_record() noexcept;
void recycle_thread_record(thread* th) noexcept;

// A value of thread::steal that sends the next enter() to slow_enter(), to stop there.
inline constexpr int steal_stop = 5;

// Registry. for_each_thread holds its lock: f must not start or end threads.
void register_thread(thread* t) noexcept;
void unregister_thread(thread* t) noexcept;
void for_each_thread(void (*f)(thread*, void*), void* arg) noexcept;
extern thread* const* const g_thread_list;  // where the registry's first entry is, for debuggers
int thread_count() noexcept;                // alive and known
uint64_t threads_created() noexcept;        // ever started by the runtime

}  // namespace weft::sched
