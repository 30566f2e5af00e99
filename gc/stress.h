#pragma once
// What the environment asks of the collector: WEFT_GC, WEFT_MEMLIMIT, WEFT_GC_STRESS (options.def).
#include <cstdint>

namespace weft::gc {

inline constexpr int freed_fill = 0xdb;
inline constexpr int fresh_fill = 0xcd;

struct gc_options {
  int percent = 100;  // growth before the next cycle; negative: no cycles by growth
  int64_t memory_limit = INT64_MAX;
  bool clobber = false;  // freed slots are filled with 0xDB, new ones without references 0xCD
  bool verify = false;   // after marking, mark again with the world stopped and compare
  bool places = false;   // in debug builds: refs are looked at when they are made and stored to
  // For programs that overwrite raw pointers in the frames of other tasks: stores shade what they
  // store, too, and all stacks are scanned again when marking ends.
  bool paranoid = false;
  bool stop_the_world = false;  // mark with the world stopped
  int trace = 0;                // a line per cycle on stderr, in Go's format
  // Stress, for tests.
  uint32_t alloc_every = 0;       // a cycle at every n-th allocation
  bool always = false;            // a cycle follows the other
  bool skip_scan_on_run = false;  // wrong on purpose: the verifier must find it
  bool park = false;  // a cycle is asked for whenever a task goes on, and may begin right then
  bool slow_stores = false;  // debug builds: waits between the steps of a store
  bool wander = false;       // a task that was woken goes on wherever somebody finds it
  bool check_first = false;  // wrong on purpose, of slow_stores: the flag before the store
  bool skip_rescan = false;  // wrong on purpose: running stacks are scanned once only
  bool yield_mark = false;   // the marker sleeps now and then between two objects
  bool tiny_runs = false;    // every allocation is a refill
};
extern gc_options g_options;

// For tests that have one order of events in mind: called where `store` and `yield-mark` sleep,
// instead of sleeping. Set while no task runs; not to be changed while marking is on.
struct stress_hooks {
  // The collector, outside of pauses: what it has marked so far is not scanned yet.
  void (*before_scan)() noexcept = nullptr;
  // A task, inside a store to a ref, where the world may stop.
  void (*before_store)() noexcept = nullptr;  // of check-first: the flag has been read
  void (*after_store)() noexcept = nullptr;   // what was overwritten has not been told of
};
extern stress_hooks g_stress_hooks;

// Reads the environment; ends the process with a message that names what is wrong in it.
void read_options() noexcept;

}  // namespace weft::gc
