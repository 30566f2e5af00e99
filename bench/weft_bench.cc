// weft_bench ROW [--workers=N] [--n=N] [--stack=default|compact]: runs one row of the benchmark on
// weft and prints one line of name=value figures. One process per row, so that no row inherits warm
// stacks, queues or threads from another; the driver interleaves these processes with the peers'.

#include <weft/weft.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "bench/common/args.h"
#include "bench/common/process.h"
#include "bench/rows.h"

namespace bench {

void print_prefix(const config& c) {
  std::printf("row=%s workers=%ld n=%ld ", c.row.c_str(), c.workers, c.n);
}

void print_ns_per_op(const config& c, std::uint64_t start_ns, long n) {
  const auto elapsed = static_cast<double>(monotonic_ns() - start_ns);
  print_prefix(c);
  std::printf("ns_per_op=%.2f ms_total=%.3f\n", elapsed / static_cast<double>(n), elapsed / 1e6);
}

void fail(const config& c, const std::string& why) {
  std::fprintf(stderr, "weft_bench: %s: %s\n", c.row.c_str(), why.c_str());
  std::_Exit(1);
}

namespace {

struct row {
  std::string_view name;
  long n;  // default, equal to the Go peer's
  void (*run)(const config&);
};

constexpr row rows[] = {
    {"switch", 5'000'000, run_switch},
    {"pingpong", 1'000'000, run_pingpong},
    {"spawn", 1'000'000, run_spawn},
    {"spawn_all", 1'000'000, run_spawn_all},
    {"skynet", 1'000'000, run_skynet},
    {"chan_buffered", 4'000'000, run_chan_buffered},
    {"select4", 1'000'000, run_select4},
    {"mutex_uncontended", 20'000'000, run_mutex_uncontended},
    {"rwmutex_read", 20'000'000, run_rwmutex_read},
    {"mutex8", 4'000'000, run_mutex8},
    {"idle", 100'000, run_idle},
    {"burst", 100'000, run_burst},
    {"sleepers", 100'000, run_sleepers},
    {"sleep_all", 1'000'000, run_sleep_all},
    {"idle_cpu", 3'000, run_idle_cpu},
    {"wake", 10'000, run_wake},
    {"gc_trees", 16, run_gc_trees},
    {"gc_gcbench", 18, run_gc_gcbench},
    {"gc_alloc16", 20'000'000, run_gc_alloc16},
    {"gc_alloc64", 20'000'000, run_gc_alloc64},
    {"gc_noscan64", 20'000'000, run_gc_noscan64},
    {"gc_make16", 8'000'000, run_gc_make16},
    {"gc_two", 40'000'000, run_gc_two},
    {"gc_store", 100'000'000, run_gc_store},
    {"gc_switch", 5'000'000, run_gc_switch},
    {"gc_lru", 1'000'000, run_gc_lru},
    {"gc_parked", 100'000, run_gc_parked},
    {"gc_live", 1'000, run_gc_live},
    {"gc_shrink", 1'000, run_gc_shrink},
    {"gc_reclaim", 1'000'000, run_gc_reclaim},
};

int main_of(int argc, char** argv) {
  const row* chosen = nullptr;
  for (const row& r : rows) {
    if (argc > 1 && r.name == argv[1]) chosen = &r;
  }
  if (chosen == nullptr) {
    std::fprintf(stderr,
                 "usage: %s ROW [--workers=N] [--n=N] [--stack=default|compact]\nrows:", argv[0]);
    for (const row& r : rows) std::fprintf(stderr, " %s", r.name.data());
    std::fprintf(stderr, "\n");
    return 2;
  }
  args flags(argc, argv, 2);
  config c;
  c.row = chosen->name;
  c.workers = flags.num("workers", 1, 1, 1024);
  c.n = flags.num("n", chosen->n, 8, 1'000'000'000);
  const std::string stack = flags.str("stack", "default");
  flags.finish();
  if (stack != "default" && stack != "compact") {
    flags.fail("--stack=" + stack + " is neither default nor compact");
  }
  c.compact = stack == "compact";
  return weft::run(weft::options{.max_procs = static_cast<int>(c.workers)}, [&] {
    chosen->run(c);
    return 0;
  });
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::main_of(argc, argv); }
