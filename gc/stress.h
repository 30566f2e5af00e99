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
  bool stop_the_world = false;  // mark with the world stopped
  int trace = 0;                // a line per cycle on stderr, in Go's format
  // Stress, for tests.
  uint32_t alloc_every = 0;       // a cycle at every n-th allocation
  bool always = false;            // a cycle follows the other
  bool skip_scan_on_run = false;  // wrong on purpose: the verifier must find it
  bool yield_mark = false;        // the marker sleeps now and then between two objects
  bool tiny_runs = false;         // every allocation is a refill
};
extern gc_options g_options;

// Reads the environment; ends the process with a message that names what is wrong in it.
void read_options() noexcept;

}  // namespace weft::gc
