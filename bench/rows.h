#pragma once
// The rows of weft_bench: one function each, run inside weft::run by weft_bench.cc. Every row does
// the same number of the same operations as its namesake in bench/peers/go; bench/README.md lists
// them.

#include <cstdint>
#include <string>

namespace bench {

struct config {
  std::string row;
  long workers = 1;      // max_procs
  long n = 0;            // operations or tasks
  bool compact = false;  // stack class of the tasks of `idle`
};

// Starts a line "row=… workers=… n=… "; the caller prints its figures and the newline.
void print_prefix(const config& c);
// Prints one whole line: mean of `n` operations since `start_ns` (bench::monotonic_ns).
void print_ns_per_op(const config& c, std::uint64_t start_ns, long n);
// A row whose own check fails must not print a figure: message on stderr, exit code 1.
[[noreturn]] void fail(const config& c, const std::string& why);

void run_switch(const config& c);
void run_pingpong(const config& c);
void run_spawn(const config& c);
void run_spawn_all(const config& c);
void run_skynet(const config& c);
void run_chan_buffered(const config& c);
void run_select4(const config& c);
void run_mutex_uncontended(const config& c);
void run_rwmutex_read(const config& c);
void run_mutex8(const config& c);
void run_idle(const config& c);
void run_burst(const config& c);
void run_sleepers(const config& c);
void run_sleep_all(const config& c);
void run_idle_cpu(const config& c);
void run_wake(const config& c);
void run_gc_trees(const config& c);
void run_gc_gcbench(const config& c);
void run_gc_alloc16(const config& c);
void run_gc_alloc64(const config& c);
void run_gc_noscan64(const config& c);
void run_gc_make16(const config& c);
void run_gc_two(const config& c);
void run_gc_store(const config& c);
void run_gc_switch(const config& c);
void run_gc_lru(const config& c);
void run_gc_parked(const config& c);
void run_gc_live(const config& c);
void run_gc_shrink(const config& c);
void run_gc_reclaim(const config& c);

}  // namespace bench
