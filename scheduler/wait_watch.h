#pragma once
// The gate through which the layers above learn how long tasks did not run, and why.
//
// A task that is not running first waits for what it parked for and then, runnable, for a
// processor. When it is back, it tells whoever watches, on its own stack. There are two ways to be
// told:
//   grid   Of the times away in which the coarse clock passed a point of a grid of 2^n ns: one of
//          length d with probability d / 2^n, one that is longer than that always. The task pays
//          two loads and a test for it, which is also the price of nobody watching.
//   exact  Of every time away for given reasons, by the true clock, which costs three looks at it.
#include <atomic>
#include <cstdint>

#include "base/clock.h"
#include "scheduler/task_state.h"

namespace weft::sched {

struct task;

struct time_away {
  enum class cause : uint8_t {
    parked,         // for `reason`
    gave_way,       // to others, by itself or at the end of its slice
    first_run,      // it has not run before; its stack is that of its first function
    blocking_call,  // its processor was given away while it went on outside the runtime
  };
  cause why;
  wait_reason reason;  // `none` unless parked
  bool exact;          // told by the exact way; a time may be told in both
  int64_t left_ns;     // it ran last
  int64_t ready_ns;    // it was runnable from here on; back_ns for threads that are not workers
  int64_t back_ns;     // it runs again
  int64_t cpu_ns = 0;  // blocking_call: what it computed from left_ns to ready_ns
};

// Called on the task itself, in a critical section. Must not park, allocate from a profiled heap or
// take a lock that user code can hold; may take microseconds.
using away_sink = void (*)(task& me, const time_away& t) noexcept;

// Sets who is told of what: exactly for the reasons of `exact` (bit n: the reason numbered n; bit
// 0: every other cause), and by the grid if `grid_ns`, a power of two, is not 0. Times away that
// are under way may be told either way. Times of deterministic tests are never told. There is one
// watcher. Any thread.
void watch_waits(away_sink sink, uint64_t exact, int64_t grid_ns) noexcept;

// What follows is for the places that switch.

extern std::atomic<uint64_t> g_exact_waits;
extern std::atomic<int64_t> g_wait_grid;  // ~(grid_ns - 1), or 0

// As g_exact_waits, with every bit set while something else wants to see all switches (lockpark.h).
extern std::atomic<uint64_t> g_watched_switches;
void watch_every_switch() noexcept;

inline uint64_t reason_bit(wait_reason r) noexcept { return uint64_t{1} << static_cast<int>(r); }

inline bool exact_wanted(wait_reason r) noexcept {
  return (g_exact_waits.load(std::memory_order_relaxed) & reason_bit(r)) != 0;
}
inline bool grid_passed(int64_t from_ns, int64_t to_ns) noexcept {
  return ((from_ns ^ to_ns) & g_wait_grid.load(std::memory_order_relaxed)) != 0;
}
// Somebody wants to know of causes other than parking for some reasons.
inline bool all_causes_wanted() noexcept {
  return g_wait_grid.load(std::memory_order_relaxed) != 0 || exact_wanted(wait_reason::none);
}

// As g_exact_waits, with every bit set for an instant (instant.h).
extern std::atomic<uint64_t> g_watched_wakes;
void watch_every_wake(bool on) noexcept;
int64_t watched_wake_ns(task& t, task_status from, wait_reason r) noexcept;

// The state door: what it writes down as the time at which `t`, new (free) or having waited for
// `r`, became runnable.
inline int64_t ready_stamp_ns(task& t, task_status from, wait_reason r) noexcept {
  if ((g_watched_wakes.load(std::memory_order_relaxed) & reason_bit(r)) != 0) [[unlikely]]
    return watched_wake_ns(t, from, r);
  return base::coarse_ns();
}

// Tell of a time away that began at left_ns; `me` is the calling task, and back.
void back_from(task& me, time_away::cause why, wait_reason reason, bool exact,
               int64_t left_ns) noexcept;
void back_from_first_queue(task& me) noexcept;  // tells only if somebody wants to know
void foreign_back_from(task& me, wait_reason reason, int64_t left_ns) noexcept;
void back_from_blocking(task& me, int64_t left_ns, int64_t ready_ns, int64_t cpu_ns) noexcept;

// When a foreign thread's wait begins, for foreign_back_from(); 0 if nobody watches.
inline int64_t foreign_leaves() noexcept {
  if (g_exact_waits.load(std::memory_order_relaxed) == 0 &&
      g_wait_grid.load(std::memory_order_relaxed) == 0)
    return 0;
  return base::now_ns();
}

// CPU time of the calling thread, and of one that is alive; -1 if the system does not tell.
int64_t thread_cpu_ns() noexcept;
int64_t thread_cpu_ns(int tid) noexcept;

}  // namespace weft::sched
