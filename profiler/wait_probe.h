#pragma once
// The probes of waiting: what the block, mutex and wait profiles are made of, and their rates.
// wait_probe.cc has the design.
#include <cstdint>

#include "profiler/bucket_table.h"
#include "scheduler/task_state.h"
#include "scheduler/wait_watch.h"

namespace weft::prof {

// Connects the gates of the layers below and reads blockprofilerate, mutexprofilefraction and
// waitprofilerate of WEFT_DEBUG. Once, before the first task.
void install_wait_probes();

// As the public functions of <weft/pprof.h>.
void set_block_rate(int64_t ns) noexcept;
int64_t block_rate() noexcept;
int set_mutex_fraction(int n) noexcept;
void set_wait_rate(int64_t ns) noexcept;
int64_t wait_rate() noexcept;

// What the gates call; for tests that make times up. In a critical section, `me` is the caller.
void note_back(sched::task& me, const sched::time_away& t) noexcept;
void note_contention(int64_t delay_ns, int64_t count) noexcept;

// Counters of the tables' buckets.
namespace counted {
inline constexpr size_t events = 0;    // block: in units of 1 / event_unit; mutex: scaled
inline constexpr size_t delay_ns = 1;  // scaled, so that sums are unbiased
inline constexpr int64_t event_unit = 256;
}  // namespace counted

bucket_table& block_table() noexcept;
bucket_table& mutex_table() noexcept;
bucket_table& wait_table() noexcept;  // tags: why the task did not run

// A wait reason, or one of the two that are no wait reasons. The names are those of task dumps:
// "chan receive", "runnable", "blocking call".
uint64_t tag_of(sched::wait_reason r) noexcept;
inline constexpr uint64_t runnable_tag = 256;
inline constexpr uint64_t blocking_tag = 257;
const char* tag_name(uint64_t tag) noexcept;

// How the wait profile samples just now: the rate that was set, coarsened to what the cap allows.
struct wait_sampling {
  bool on;
  bool grid;          // by the coarse clock's grid; else by the true clock and chance
  int64_t period_ns;  // times of at least this length count as they are
};
wait_sampling current_wait_sampling() noexcept;

// What a time from `from_ns` until `to_ns` that is not over yet counts now: never more than it will
// count when it has ended.
int64_t weight_so_far(const wait_sampling& s, int64_t from_ns, int64_t to_ns) noexcept;

}  // namespace weft::prof
