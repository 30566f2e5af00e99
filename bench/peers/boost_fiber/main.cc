// bench_boost ROW [--workers=N] [--n=N] [--stack=default|compact] [--algorithm=stealing|sharing]:
// the rows of weft_bench on Boost.Fiber. Prints one line of name=value figures; exit code 4 means
// that Boost.Fiber cannot express the row, and standard error says why.
//
// One worker runs the round_robin algorithm. With more, each is a thread whose idle loop looks for
// fibers all the time: neither work_stealing nor shared_work wakes a sleeping thread for a new
// fiber (their `suspend` argument is off), so that a suspended worker would leave the others alone.

#include <boost/context/stack_traits.hpp>
#include <boost/fiber/algo/round_robin.hpp>
#include <boost/fiber/algo/shared_work.hpp>
#include <boost/fiber/algo/work_stealing.hpp>
#include <boost/fiber/operations.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>

#include "bench/common/args.h"
#include "bench/common/process.h"
#include "bench/peers/boost_fiber/fibers.h"
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
  std::fprintf(stderr, "bench_boost: %s: %s\n", c.row.c_str(), why.c_str());
  std::_Exit(1);
}

void run_select4(const config&) {
  std::fputs("Boost.Fiber has no select\n", stderr);
  std::_Exit(4);
}

namespace {

struct row {
  std::string_view name;
  long n;  // default, equal to weft's
  void (*run)(const config&);
};

constexpr row rows[] = {
    {"switch", 5'000'000, run_switch},   {"pingpong", 1'000'000, run_pingpong},
    {"spawn", 1'000'000, run_spawn},     {"spawn_all", 1'000'000, run_spawn_all},
    {"skynet", 1'000'000, run_skynet},   {"chan_buffered", 4'000'000, run_chan_buffered},
    {"select4", 1'000'000, run_select4}, {"mutex_uncontended", 20'000'000, run_mutex_uncontended},
    {"mutex8", 4'000'000, run_mutex8},   {"idle", 100'000, run_idle},
    {"sleepers", 100'000, run_sleepers}, {"sleep_all", 1'000'000, run_sleep_all},
};

// Both algorithms that share fibers wait in their constructor or idle loop for nobody but the
// threads counted here.
void use_algorithm(const config& c, bool stealing) {
  using namespace boost::fibers;
  if (c.workers == 1) {
    use_scheduling_algorithm<algo::round_robin>();
  } else if (stealing) {
    use_scheduling_algorithm<algo::work_stealing>(static_cast<std::uint32_t>(c.workers));
  } else {
    use_scheduling_algorithm<algo::shared_work>();
  }
}

// The row runs in a fiber of its own, because a thread's main fiber never moves to another thread.
[[noreturn]] void run(const config& c, const row& chosen, bool stealing) {
  for (long i = 1; i < c.workers; ++i) {
    std::thread([&c, stealing] {
      use_algorithm(c, stealing);
      wait_group(1).wait();  // for ever: the thread's other fibers run meanwhile
    }).detach();
  }
  use_algorithm(c, stealing);
  wait_group ended(1);
  go([&] {
    chosen.run(c);
    ended.done();
  });
  ended.wait();
  std::fflush(stdout);
  std::_Exit(0);  // the row is over; how workers stop is not measured
}

int main_of(int argc, char** argv) {
  const row* chosen = nullptr;
  for (const row& r : rows) {
    if (argc > 1 && r.name == argv[1]) chosen = &r;
  }
  if (chosen == nullptr && argc > 1 && argv[1][0] != '-') {
    // A row of weft's that has no counterpart here.
    std::fprintf(stderr, "no row %s on Boost.Fiber\n", argv[1]);
    return 4;
  }
  if (chosen == nullptr) {
    std::fprintf(stderr,
                 "usage: %s ROW [--workers=N] [--n=N] [--stack=default|compact]"
                 " [--algorithm=stealing|sharing]\nrows:",
                 argv[0]);
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
  const std::string algorithm = flags.str("algorithm", "stealing");
  flags.finish();
  if (stack != "default" && stack != "compact") {
    flags.fail("--stack=" + stack + " is neither default nor compact");
  }
  if (algorithm != "stealing" && algorithm != "sharing") {
    flags.fail("--algorithm=" + algorithm + " is neither stealing nor sharing");
  }
  c.compact = stack == "compact";
  // compact is the size that the library's own skynet example uses: four pages.
  fiber_stack_bytes = c.compact ? 4 * boost::context::stack_traits::page_size()
                                : boost::context::stack_traits::default_size();
  run(c, *chosen, algorithm == "stealing");
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::main_of(argc, argv); }
