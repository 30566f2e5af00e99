#pragma once
// Directed execution, for tests: one processor, every choice drawn from a seed, and a clock that
// moves only when no task can. directed.cc has the design; runtime/test.cc is its user.
#include <atomic>
#include <cstdint>
#include <vector>

#include "scheduler/task.h"

namespace weft::sched {

struct processor;
struct thread;

struct directed_world {
  // Set by the caller of start().
  std::atomic<uint64_t> seed{0};  // the monitor reads it
  uint64_t max_steps = 0;         // 0: no limit
  bool keep_schedule = false;

  // How it ended; valid when run_directed() has returned.
  enum class ending : uint8_t { none, finished, deadlock, tasks_left, too_many_steps };
  ending end = ending::none;
  std::atomic<uint64_t> steps{0};  // calls into the runtime and switches; the monitor reads it
  uint64_t fingerprint = 0;        // hash of which task ran when
  int64_t clock_ns = 0;
  std::vector<uint32_t> schedule;  // the numbers of the tasks that were chosen, if kept

  // Owned by the thread that holds the processor.
  uint64_t random = 0;
  uint32_t yield_odds = 0;  // of 2^32, at each call into the runtime
  uint64_t first_id = 0;    // tasks with smaller ids are strangers
  task* supervisor = nullptr;
  task* waiter = nullptr;  // in wait_until_blocked()
  bool main_done = false;
  std::atomic<bool> waits_outside{false};  // for the monitor: nothing can run, something may come

  // A task's number in this world, the same for the same seed: 1 is the first task.
  uint64_t number_of(const task& t) const noexcept { return t.id - first_id; }
};

extern std::atomic<directed_world*> g_directed;
inline bool directed() noexcept { return g_directed.load(std::memory_order_acquire) != nullptr; }

// The value of thread::steal that sends every enter() of a directed task to slow_enter().
inline constexpr int steal_directed = 4;

// Fake time starts here: later than any machine has been up, so that a true time is never mistaken
// for one that has not come yet.
inline constexpr int64_t directed_start_ns = 1'000'000'000'000'000'000;

// World stopped: what is queued or armed is put aside, resp. brought back.
void enter_directed(directed_world& w) noexcept;
void leave_directed() noexcept;

// The main task of the scheduler in this mode. The tasks that `first` makes are the world; returns
// when the world has ended.
void run_directed(directed_world& w, void (*first)(void*), void* arg) noexcept;

// From the world's first task, as its last act.
void directed_main_done() noexcept;

// From a task of the world: returns when all others are durably blocked. False if another task is
// waiting so already.
bool wait_until_blocked() noexcept;

// The calling thread executes a task of the world.
bool in_directed_world() noexcept;

// While positive, something outside may still act: the clock stands still.
extern std::atomic<int> g_outside_work;

// Calls visit for every task of the world but its supervisor; the runtime's own included.
void for_each_directed_task(const directed_world& w, void (*visit)(task&, void*), void* arg);

// find_work() in this mode. Null: the world is to stop.
task* directed_find(directed_world& w, thread* th, processor* p) noexcept;

// slow_enter() in this mode: perhaps lets another task run.
thread* directed_point(thread* th) noexcept;

// The monitor's look, instead of its usual ones.
void watch_directed() noexcept;

}  // namespace weft::sched
