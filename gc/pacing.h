#pragma once
// The pacer at work: what the heap tells it (pacer.h, cpu_limiter.h), and what it publishes for
// those who allocate: the trigger in g_counters, and what they owe while marking is on.
#include <cstddef>
#include <cstdint>

namespace weft::gc {

struct mutator;

// Before the first cycle, once. `percent` and `limit` as in gc.h.
void start_pacing(int percent, int64_t limit) noexcept;

// Return the value before. Any thread.
int set_pacing_percent(int percent) noexcept;
int64_t set_pacing_limit(int64_t bytes) noexcept;
int pacing_percent() noexcept;
int64_t pacing_limit() noexcept;
uint64_t heap_goal() noexcept;

// One cycle, in this order, by the collector. `scanned`: bytes that the collector has scanned,
// stacks included; what tasks have scanned is known here. `cpu`: its CPU time, ns.
void pacing_pause_begins() noexcept;
void pacing_pause_ends(bool marking_follows) noexcept;
void pacing_cycle_begins() noexcept;  // world stopped, marking is on
void pacing_progress(uint64_t scanned, int64_t cpu) noexcept;
void pacing_cycle_ends(uint64_t marked) noexcept;  // world stopped, marking is off
struct cycle_cost {
  int64_t collector_ns, assist_ns, process_ns;  // CPU time since the last cycle ended
};
cycle_cost pacing_swept(int64_t collector_cpu) noexcept;

// With a memory limit the ordinary heap may grow while this one does not: how long the collector
// may sleep before it calls pacing_poll(), ns; INT64_MAX without a limit. True if a cycle is due.
int64_t pacing_nap() noexcept;
bool pacing_poll() noexcept;

// While marking is on: nobody should allocate now. False when the collector has had half of the CPU
// time already.
bool over_hard_limit() noexcept;

// Resident bytes of the process without pages of files, 0 if the kernel does not say; and bytes of
// stack that the last cycle scanned.
uint64_t resident_anonymous_bytes() noexcept;
uint64_t last_scanned_stack_bytes() noexcept;

// For fork().
void lock_pacing() noexcept;
void unlock_pacing() noexcept;

// In a critical section. A thread has taken `bytes` to allocate from, while marking was on.
void owe(mutator& m, size_t bytes) noexcept;
// Bytes to scan that the thread owes, after what the collector's work has paid; 0 if nothing, or if
// the collector has had half of the CPU time already.
int64_t debt(mutator& m) noexcept;
// What the thread has scanned, and how long that took.
void pay(mutator& m, int64_t bytes, int64_t ns) noexcept;
uint64_t assist_time_ns() noexcept;  // all of it, ever

}  // namespace weft::gc
