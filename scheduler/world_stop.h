#pragma once
// Stopping all code that tasks and known threads execute, for a collector above or for an instant
// (instant.h). world_stop.cc has the protocol.
#include <atomic>
#include <cstdint>

#include "scheduler/thread.h"

namespace weft::sched {

// What has to happen before a task may execute. 0 while no collector is at work and no instant
// open.
enum gate_bits : uint32_t {
  gate_stop = 1,     // the world stops or is stopped: wait
  gate_scan = 2,     // stacks are being scanned: show the task to scan_port::before_run first
  gate_instant = 4,  // an instant is open: show the task to instant_port first
};
extern std::atomic<uint32_t> g_gate;

// What the collector does for the scheduler while gate_scan is set. The scheduler's own stack,
// nothing held.
struct scan_port {
  // `t` is about to be taken out of `runnable`; nobody else will run it.
  void (*before_run)(task& t) noexcept = nullptr;
  // The calling thread returns from a rest (resting) and goes on in task code.
  void (*before_return)(thread& th) noexcept = nullptr;
};
void set_scan_port(const scan_port& port) noexcept;  // before gate_scan is first set

// Number of the scan that is under way, or of the last one. New stacks are born with it.
extern std::atomic<uint32_t> g_scan_epoch;

// Makes every thread that executes task code (or foreign code that the runtime knows of) stop, and
// keeps all others from starting to. True: the world is stopped until resume_world(). False: some
// thread did not stop within `patience_ns`; everybody goes on. It may have waited for a lock (of
// malloc, say) whose owner had been stopped, so trying again after a while is what to do.
// A caller waits while another one has the world stopped. It is no stopped thread itself: it has no
// current task, or rests. Between the two calls it must not allocate, nor take any lock that task
// code can hold. `also`: bits of the gate that are set with gate_stop, and cleared again on
// failure.
bool stop_all_code(int64_t patience_ns, uint32_t also = 0) noexcept;
// Sets and clears the given bits of the gate, and gate_stop.
void resume_all_code(uint32_t set, uint32_t clear) noexcept;
// Before the first stop. Any number of times.
void prepare_to_stop() noexcept;

// The signal handler's part. True if the signal was meant for it.
bool stop_on_signal(void* ucontext) noexcept;
// What slow_enter() does when the world stops. Callers have spilled nothing; returns when it goes
// on.
void stop_here(thread* th) noexcept;
// After a critical section that left without looking: the handler came while it lasted.
inline void stop_if_pending(thread* th) noexcept {
  if (th->stop_pending.load(std::memory_order_relaxed)) [[unlikely]]
    stop_here(th);
}

// worker_main(): nothing is held, `t` was taken from a queue. Waits while the world is stopped, and
// has t's stack scanned if it must be. t is the thread's current task afterwards.
void pass_gate(thread* th, task* t) noexcept;

// Around a stay of the calling thread in code that touches no collected object: a call that blocks,
// the sleep of a foreign thread. The thread is not stopped meanwhile, and its stack above this call
// does not change.
void begin_rest(thread* th) noexcept;
void end_rest(thread* th) noexcept;
class resting {
 public:
  explicit resting(thread* th) noexcept : th_(th) { begin_rest(th); }
  ~resting() { end_rest(th_); }
  resting(const resting&) = delete;

 private:
  thread* th_;
};

// The roots of one thread while the world is stopped, or while it rests: [sp, hi) of the stack it
// executes on, and what registers it had.
struct memory_range {
  const void* lo;
  const void* hi;
};
struct thread_roots {
  memory_range ranges[4];
  int count = 0;
  task* t = nullptr;  // null: a foreign thread's own stack
};
// False if the thread executes no task code. For a thread that has stopped, that rests (with the
// registry's lock held), or is the caller.
bool roots_of(thread& th, thread_roots& out) noexcept;

// World stopped: what the thread does. `passing` is over in a moment: it has come to the gate, or
// has not seen yet that its rest must go on. Its `current` means nothing then.
enum class thread_place : uint8_t { scheduler, stopped, resting, passing };
thread_place place_of(const thread& th) noexcept;

struct stop_statistics {
  uint64_t stops, retries, signals;
  int64_t last_ns;  // how long the last stop took to come about
};
stop_statistics stop_counters() noexcept;

}  // namespace weft::sched
