// Counters are read one after the other while others count, so that a difference could come out
// wrong by what happened in between: each derived field is computed from fields that are shown, and
// totals are kept from falling.
#include <sys/resource.h>
#include <weft/gc/gc.h>
#include <weft/mem_stats.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "gc/cycle_record.h"
#include "gc/heap.h"
#include "gc/pacing.h"
#include "gc/page_heap.h"
#include "gc/stress.h"
#include "gc/unstopped.h"
#include "scheduler/runtime_control.h"
#include "scheduler/stack.h"

namespace weft {
namespace {

// The first 61 of Go's size classes.
constexpr std::array<uint32_t, 61> class_sizes = {
    0,    8,    16,    24,    32,    48,    64,    80,    96,   112,  128,  144,  160,
    176,  192,  208,   224,   240,   256,   288,   320,   352,  384,  416,  448,  480,
    512,  576,  640,   704,   768,   896,   1024,  1152,  1280, 1408, 1536, 1792, 2048,
    2304, 2688, 3072,  3200,  3456,  4096,  4864,  5376,  6144, 6528, 6784, 6912, 8192,
    9472, 9728, 10240, 10880, 12288, 13568, 14336, 16384, 18432};
static_assert(class_sizes.back() == 18432);

std::atomic<uint64_t (*)() noexcept> g_profile_tables{nullptr};

constexpr uint64_t usual_stack = 8192;

base::spinlock g_lock;
struct {
  uint64_t total_alloc = 0, mallocs = 0, freed = 0, frees = 0;
} g_last;

void count_sizes(mem_stats& m) {
  for (size_t i = 0; i < m.by_size.size(); ++i) m.by_size[i].size = class_sizes[i];
  const uint32_t kinds = gc::g_kind_count.load(std::memory_order_acquire);
  for (uint32_t i = 1; i < kinds; ++i) {
    const gc::kind& k = gc::g_kinds[i];
    if (k.shape.slots == 0) continue;  // large objects
    const auto at = std::lower_bound(class_sizes.begin(), class_sizes.end(), k.shape.stride);
    if (at == class_sizes.end()) continue;
    mem_stats::size_count& c = m.by_size[static_cast<size_t>(at - class_sizes.begin())];
    const uint64_t frees = k.freed.load(std::memory_order_relaxed);
    c.frees += frees;
    c.mallocs += std::max(k.allocated.load(std::memory_order_relaxed), frees);
  }
}

void read_heap(mem_stats& m) {
  const gc::heap_stats s = gc::stats();
  {
    gc::unstopped here;
    std::lock_guard hold(g_lock);
    g_last.total_alloc = m.total_alloc = std::max(g_last.total_alloc, s.allocated_bytes);
    g_last.mallocs = m.mallocs = std::max(g_last.mallocs, s.allocated_objects);
    g_last.freed = std::min(std::max(g_last.freed, s.freed_bytes), m.total_alloc);
    g_last.frees = m.frees = std::min(std::max(g_last.frees, s.freed_objects), m.mallocs);
    m.alloc = m.heap_alloc = m.total_alloc - g_last.freed;
  }
  m.heap_objects = m.mallocs - m.frees;
  m.heap_inuse = std::max(s.heap_in_use_bytes, m.heap_alloc);
  m.heap_released = s.heap_returned_bytes;
  m.heap_idle = s.heap_free_bytes + s.heap_returned_bytes;
  m.next_gc = s.goal_bytes;
  gc::pause_history h;
  gc::read_pauses(h);
  m.num_gc = static_cast<uint32_t>(h.cycles);
  m.num_forced_gc = static_cast<uint32_t>(std::min(s.forced_cycles, h.cycles));
  m.pause_total_ns = h.total_ns;
  std::copy(std::begin(h.pause_ns), std::end(h.pause_ns), m.pause_ns.begin());
  std::copy(std::begin(h.pause_end_ns), std::end(h.pause_end_ns), m.pause_end.begin());
  m.last_gc = m.pause_end[(m.num_gc + 255) % 256];
  const auto there = static_cast<double>(base::true_now_ns() - h.first_began_ns) *
                     std::max(1, sched::current_max_procs());
  const auto used = static_cast<double>(s.gc_cpu_ns + s.assist_ns);
  if (there > 0) m.gc_cpu_fraction = std::min(used / there, 0.999999);
  const size_t pages = (m.heap_inuse + m.heap_idle) >> gc::page_shift;
  m.mspan_sys = pages * sizeof(gc::span);
  m.mspan_inuse =
      std::min<uint64_t>(m.mspan_sys, (m.heap_inuse >> gc::page_shift) * sizeof(gc::span));
  // The tables that have been written to: others have no memory.
  const size_t bitmaps = 2u + (gc::g_cage.any_armed.load(std::memory_order_relaxed) ? 1 : 0) +
                         (gc::g_options.verify ? 1 : 0);
  m.gc_sys = pages * (sizeof(uint32_t) + bitmaps * gc::words_per_page * sizeof(gc::bit_word));
  const uint32_t kinds = gc::g_kind_count.load(std::memory_order_acquire);
  for (const gc::mutator* t = gc::g_mutators.load(std::memory_order_acquire); t != nullptr;
       t = t->all_next) {
    m.mcache_sys += sizeof(gc::mutator) + kinds * sizeof(gc::cell);
  }
  m.mcache_inuse = m.mcache_sys;
  count_sizes(m);
}

}  // namespace

namespace gc {

void set_profile_table_bytes(uint64_t (*bytes)() noexcept) noexcept {
  g_profile_tables.store(bytes, std::memory_order_release);
}

}  // namespace gc

mem_stats read_mem_stats() {
  mem_stats m;
  for (size_t i = 0; i < m.by_size.size(); ++i) m.by_size[i].size = class_sizes[i];
  if (gc::g_heap_exists.load(std::memory_order_acquire)) read_heap(m);
  m.heap_sys = m.heap_idle + m.heap_inuse;
  // A stack has two pages when its task rests, as a rule; deep ones are known from the last scan.
  const sched::stack_stats stacks = sched::stack_statistics();
  m.stack_inuse = std::max<uint64_t>(stacks.in_use * usual_stack, gc::last_scanned_stack_bytes());
  m.stack_sys = m.stack_inuse + stacks.free * usual_stack;
  if (auto bytes = g_profile_tables.load(std::memory_order_acquire)) m.buck_hash_sys = bytes();
  const uint64_t known = m.heap_inuse + m.heap_idle - m.heap_released + m.stack_sys + m.mspan_sys +
                         m.mcache_sys + m.buck_hash_sys + m.gc_sys;
  const uint64_t resident = gc::resident_anonymous_bytes();
  m.other_sys = resident > known ? resident - known : 0;
  m.sys = m.heap_sys + m.stack_sys + m.mspan_sys + m.mcache_sys + m.buck_hash_sys + m.gc_sys +
          m.other_sys;
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  m.max_rss = static_cast<uint64_t>(use.ru_maxrss) * 1024;
  return m;
}

}  // namespace weft

namespace weft {

namespace {

void line(std::string& out, const char* name, uint64_t value) {
  out += "# ";
  out += name;
  out += " = ";
  out += std::to_string(value);
  out += '\n';
}

void pair(std::string& out, const char* name, uint64_t in_use, uint64_t sys) {
  out += "# ";
  out += name;
  out += " = " + std::to_string(in_use) + " / " + std::to_string(sys) + '\n';
}

template <size_t N>
void ring(std::string& out, const char* name, const std::array<uint64_t, N>& values) {
  out += "# ";
  out += name;
  out += " = [";
  for (size_t i = 0; i < N; ++i) out += (i == 0 ? "" : " ") + std::to_string(values[i]);
  out += "]\n";
}

// Go's %v: the shortest text that reads back as the same number, with an exponent below 1e-4.
std::string shortest(double v) {
  char text[64];
  const bool small = v != 0 && v < 1e-4;
  const auto end = std::to_chars(text, text + sizeof text, v,
                                 small ? std::chars_format::scientific : std::chars_format::fixed)
                       .ptr;
  return {text, end};
}

}  // namespace

std::string mem_stats_text(const mem_stats& m) {
  std::string out = "\n# runtime.MemStats\n";
  line(out, "Alloc", m.alloc);
  line(out, "TotalAlloc", m.total_alloc);
  line(out, "Sys", m.sys);
  line(out, "Lookups", m.lookups);
  line(out, "Mallocs", m.mallocs);
  line(out, "Frees", m.frees);
  line(out, "HeapAlloc", m.heap_alloc);
  line(out, "HeapSys", m.heap_sys);
  line(out, "HeapIdle", m.heap_idle);
  line(out, "HeapInuse", m.heap_inuse);
  line(out, "HeapReleased", m.heap_released);
  line(out, "HeapObjects", m.heap_objects);
  pair(out, "Stack", m.stack_inuse, m.stack_sys);
  pair(out, "MSpan", m.mspan_inuse, m.mspan_sys);
  pair(out, "MCache", m.mcache_inuse, m.mcache_sys);
  line(out, "BuckHashSys", m.buck_hash_sys);
  line(out, "GCSys", m.gc_sys);
  line(out, "OtherSys", m.other_sys);
  line(out, "NextGC", m.next_gc);
  line(out, "LastGC", m.last_gc);
  ring(out, "PauseNs", m.pause_ns);
  ring(out, "PauseEnd", m.pause_end);
  line(out, "NumGC", m.num_gc);
  line(out, "NumForcedGC", m.num_forced_gc);
  out += "# GCCPUFraction = " + shortest(m.gc_cpu_fraction) + '\n';
  out += m.debug_gc ? "# DebugGC = true\n" : "# DebugGC = false\n";
  line(out, "MaxRSS", m.max_rss);
  return out;
}

}  // namespace weft
