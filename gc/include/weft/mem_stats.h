#pragma once
// Memory of the process as Go's runtime.MemStats tells it.
//
//   weft::mem_stats m = weft::read_mem_stats();
//   std::printf("%lu bytes in %lu objects\n", m.heap_alloc, m.heap_objects);
//
// The heap is the collected one (weft/gc/gc.h); what malloc has counts as other_sys, and so in sys.
// Fields mean what Go's of the same name mean; bytes unless something else is said.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace weft {

struct mem_stats {
  uint64_t alloc = 0;        // of objects that are alive or not yet swept; same as heap_alloc
  uint64_t total_alloc = 0;  // of all objects ever
  uint64_t sys = 0;          // the sum of the *_sys below
  uint64_t lookups = 0;      // always 0
  uint64_t mallocs = 0;      // objects, ever; those that a thread has in hand to allocate included
  uint64_t frees = 0;        // objects, ever

  uint64_t heap_alloc = 0;
  uint64_t heap_sys = 0;       // heap_idle + heap_inuse
  uint64_t heap_idle = 0;      // pages without objects
  uint64_t heap_inuse = 0;     // pages with objects
  uint64_t heap_released = 0;  // of heap_idle: given back to the system
  uint64_t heap_objects = 0;   // mallocs - frees

  uint64_t stack_inuse = 0;  // of stacks that tasks have, estimated
  uint64_t stack_sys = 0;
  uint64_t mspan_inuse = 0;  // records of spans
  uint64_t mspan_sys = 0;
  uint64_t mcache_inuse = 0;  // what threads have in hand
  uint64_t mcache_sys = 0;
  uint64_t buck_hash_sys = 0;  // tables of the profiles
  uint64_t gc_sys = 0;         // bitmaps and the page table
  uint64_t other_sys = 0;      // resident and nothing of the above: malloc, libraries' data

  uint64_t next_gc = 0;         // the heap's goal; UINT64_MAX: collections by growth are off
  uint64_t last_gc = 0;         // when the last one ended, ns since 1970; 0: never
  uint64_t pause_total_ns = 0;  // both pauses of all collections
  std::array<uint64_t, 256> pause_ns{};   // ring: the last at [(num_gc + 255) % 256]
  std::array<uint64_t, 256> pause_end{};  // ns since 1970
  uint32_t num_gc = 0;
  uint32_t num_forced_gc = 0;
  double gc_cpu_fraction = 0;  // of the CPU time that there was since the first object, in [0, 1)
  bool enable_gc = true;
  bool debug_gc = false;

  struct size_count {
    uint32_t size;  // objects larger than the entry before, and up to this
    uint64_t mallocs, frees;
  };
  std::array<size_count, 61> by_size{};  // Go's size classes; larger objects are not in it

  uint64_t max_rss = 0;  // the process's peak
};

// Consistent in itself: sums and differences named above hold; totals never fall. Any thread; does
// not stop anything.
mem_stats read_mem_stats();

// The lines that end Go's heap profile with debug=1, from "\n# runtime.MemStats\n" to MaxRSS.
std::string mem_stats_text(const mem_stats& m);

}  // namespace weft
