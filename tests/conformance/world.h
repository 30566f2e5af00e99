#pragma once
// What the tests of the core share: bodies that run as the main task for one, two and eight
// processors, and end by asserting that they left no task behind.
//
//   WEFT_WORLD_TEST(E1_Channels, S1_NilBlocksForever) { ... EXPECT_EQ(...); }
//
// Nothing here sleeps to synchronise: eventually() polls a state until it holds.
#include <gtest/gtest.h>
#include <weft/detail/config.h>
#include <weft/run.h>
#include <weft/task.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "scheduler/runtime_control.h"
#include "scheduler/task_state.h"

namespace weft::test {

inline constexpr bool sanitized = WEFT_ASAN || WEFT_TSAN;

// Factor for the sizes of tests: sanitizers are slow, and a task costs 830 KiB under the thread
// sanitizer.
constexpr int sized(int plain, int under_sanitizer) { return sanitized ? under_sanitizer : plain; }

// Calls `holds` until it returns true; false after a minute, which only a hang takes. From a task
// it yields, from a thread it sleeps in between.
bool eventually(const std::function<bool()>& holds);

// Tasks (and foreign threads) that wait for this reason now.
int count_waiting(sched::wait_reason reason);
inline bool eventually_waiting(sched::wait_reason reason, int n) {
  return eventually([=] { return count_waiting(reason) == n; });
}

// Lets tasks that could go wrongly do so.
void let_others_run();

// What the panic_error said that f threw; "nothing was thrown" if it threw none.
std::string panic_of(const std::function<void()>& f);

// Entries of all timer heaps now.
size_t queued_timers();

// Runs body as the main task, once per number of processors.
void in_worlds(void (*body)());
void in_world(int max_procs, const std::function<void()>& body);

// The number of processors of the world that runs.
int world_procs();

// While it exists nobody loses a processor, however long the machine keeps its thread from running.
// For tests of the exact order in which tasks run.
class no_retakes {
 public:
  no_retakes() { sched::set_slice(INT64_MAX); }
  ~no_retakes() { sched::set_slice(before_); }
  no_retakes(const no_retakes&) = delete;

 private:
  int64_t before_ = sched::slice();
};

// A test that made n tasks wait for ever says so at its end; they stay for the life of the process,
// and count_waiting() leaves them out.
void leave_tasks_behind(sched::wait_reason reason, int n);

// num_tasks() without those.
int64_t own_tasks();

// Resident memory and page tables of this process, in bytes.
int64_t memory_in_use();

}  // namespace weft::test

#define WEFT_WORLD_TEST(suite, name)                                    \
  static void suite##_##name##_body();                                  \
  TEST(suite, name) { ::weft::test::in_worlds(suite##_##name##_body); } \
  static void suite##_##name##_body()
