// Rows about fibers that wait: their memory, and how punctually sleepers wake. Read beside
// bench/weft_parked_rows.cc.

#include <boost/fiber/operations.hpp>
#include <boost/fiber/unbuffered_channel.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <vector>

#include "bench/common/process.h"
#include "bench/peers/boost_fiber/fibers.h"
#include "bench/rows.h"

namespace bench {

using std::chrono::milliseconds;

void run_idle(const config& c) {
  boost::fibers::unbuffered_channel<bool> gate;
  std::atomic<long> arrived{0};
  wait_group done(c.n);
  const auto before = resident_bytes(0);
  for (long i = 0; i < c.n; ++i) {
    go([&] {
      arrived.fetch_add(1);
      bool nothing = false;
      gate.pop(nothing);
      done.done();
    });
  }
  while (arrived.load() != c.n) boost::this_fiber::sleep_for(milliseconds(1));
  boost::this_fiber::sleep_for(milliseconds(100));
  const auto after = resident_bytes(0);
  print_prefix(c);
  std::printf("bytes_per_task=%.0f\n", (static_cast<double>(after) - static_cast<double>(before)) /
                                           static_cast<double>(c.n));
  gate.close();
  done.wait();
}

void run_sleepers(const config& c) {
  std::vector<std::uint64_t> late(static_cast<std::size_t>(c.n));
  wait_group done(c.n);
  for (long i = 0; i < c.n; ++i) {
    go([&, i] {
      const milliseconds d(100 + i * 7919 % 900);
      const auto start_ns = monotonic_ns();
      boost::this_fiber::sleep_for(d);
      late[static_cast<std::size_t>(i)] =
          monotonic_ns() - start_ns - static_cast<std::uint64_t>(d.count()) * 1'000'000;
      done.done();
    });
  }
  done.wait();
  std::sort(late.begin(), late.end());
  const auto at = [&](long index) {
    return static_cast<double>(late[static_cast<std::size_t>(index)]) / 1e6;
  };
  // A sleeper that woke early would have wrapped round to centuries; that is a fault, not a figure.
  if (at(c.n - 1) > 1e9) fail(c, "a fiber woke before its time");
  print_prefix(c);
  std::printf("late_p50_ms=%.3f late_p99_ms=%.3f late_max_ms=%.3f\n", at(c.n / 2),
              at(c.n * 99 / 100), at(c.n - 1));
}

void run_sleep_all(const config& c) {
  wait_group done(c.n);
  const auto start_ns = monotonic_ns();
  for (long i = 0; i < c.n; ++i) {
    go([&done] {
      boost::this_fiber::sleep_for(std::chrono::seconds(1));
      done.done();
    });
  }
  done.wait();
  print_ns_per_op(c, start_ns, c.n);
}

}  // namespace bench
