#pragma once
// What is kept of each cycle: the pauses of the last 256, as Go's MemStats has them, and a line on
// standard error if WEFT_GC=gctrace=1 asks for it.
#include <cstddef>
#include <cstdint>

namespace weft::gc {

struct cycle_record {
  uint64_t number;  // from 1
  bool forced;
  int processors;
  int64_t began_ns, ended_ns;  // monotonic; the second is the end of the last pause
  int64_t pause_ns[2];         // to the beginning of marking; at its end, all returns together
  int64_t mark_ns;             // in between
  int64_t collector_ns;        // CPU time of marking on the collector's thread
  int64_t assist_ns;           // CPU time of tasks that helped
  uint64_t heap_before, heap_at_end, heap_live;  // bytes
  uint64_t goal, stacks;                         // bytes
};

// By the collector.
void record_cycle(const cycle_record& r) noexcept;

inline constexpr size_t kept_cycles = 256;
struct pause_history {
  uint64_t cycles;                     // ever recorded
  uint64_t pause_ns[kept_cycles];      // the most recent is at (cycles + 255) % 256
  uint64_t pause_end_ns[kept_cycles];  // wall clock, since 1970
  uint64_t total_ns;
  int64_t first_began_ns;  // monotonic: when the heap came to exist
};
void begin_records() noexcept;
// Consistent; any thread.
void read_pauses(pause_history& out) noexcept;

// Go's format of one cycle, without the newline: at most 255 characters. `since_start_ns`: age of
// the heap when it began; `percent`: CPU time of all cycles in per cent of what was there.
size_t format_cycle(const cycle_record& r, int64_t since_start_ns, int percent, char* out,
                    size_t size) noexcept;

}  // namespace weft::gc
