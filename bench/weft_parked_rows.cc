// Rows about tasks that wait: their memory, and how punctually sleepers wake. Read beside
// bench/peers/go/parked.go.

#include <weft/weft.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include "bench/common/process.h"
#include "bench/rows.h"

namespace bench {

using std::chrono::milliseconds;

void run_idle(const config& c) {
  weft::chan<bool> gate(0);
  std::atomic<long> arrived{0};
  weft::wait_group done;
  done.add(c.n);
  const auto before = resident_bytes(0);
  const auto parked = [&] {
    arrived.fetch_add(1);
    gate.recv();
    done.done();
  };
  weft::spawn_options options;
  if (c.compact) options.stack = weft::stack_class::compact;
  for (long i = 0; i < c.n; ++i) weft::go(options, parked);
  while (arrived.load() != c.n) weft::this_task::sleep_for(milliseconds(1));
  weft::this_task::sleep_for(milliseconds(100));
  const auto after = resident_bytes(0);
  print_prefix(c);
  std::printf("bytes_per_task=%.0f\n", (static_cast<double>(after) - static_cast<double>(before)) /
                                           static_cast<double>(c.n));
  gate.close();
  done.wait();
}

void run_sleepers(const config& c) {
  std::vector<std::uint64_t> late(static_cast<std::size_t>(c.n));
  weft::wait_group done;
  done.add(c.n);
  for (long i = 0; i < c.n; ++i) {
    weft::go([&, i] {
      const milliseconds d(100 + i * 7919 % 900);
      const auto start = monotonic_ns();
      weft::this_task::sleep_for(d);
      late[static_cast<std::size_t>(i)] =
          monotonic_ns() - start - static_cast<std::uint64_t>(d.count()) * 1'000'000;
      done.done();
    });
  }
  done.wait();
  std::sort(late.begin(), late.end());
  const auto at = [&](long index) {
    return static_cast<double>(late[static_cast<std::size_t>(index)]) / 1e6;
  };
  // A sleeper that woke early would have wrapped round to centuries; that is a fault, not a figure.
  if (at(c.n - 1) > 1e9) fail(c, "a task woke before its time");
  print_prefix(c);
  std::printf("late_p50_ms=%.3f late_p99_ms=%.3f late_max_ms=%.3f\n", at(c.n / 2),
              at(c.n * 99 / 100), at(c.n - 1));
}

void run_sleep_all(const config& c) {
  weft::wait_group done;
  done.add(c.n);
  const auto start = monotonic_ns();
  for (long i = 0; i < c.n; ++i) {
    weft::go([&done] {
      weft::this_task::sleep_for(std::chrono::seconds(1));
      done.done();
    });
  }
  done.wait();
  print_ns_per_op(c, start, c.n);
}

void run_idle_cpu(const config& c) {
  weft::chan<int> never(0);
  weft::go([never] { static_cast<void>(never.recv()); });
  weft::this_task::sleep_for(milliseconds(200));
  const auto before = process_cpu_ns(0);
  weft::this_task::sleep_for(milliseconds(c.n));
  const auto used = static_cast<double>(process_cpu_ns(0) - before);
  print_prefix(c);
  std::printf("cpu_percent=%.4f\n", used / static_cast<double>(c.n) / 1e4);
  never.close();
}

void run_wake(const config& c) {
  weft::chan<std::uint64_t> ping(1), pong(1);
  weft::go([ping, pong] {
    while (const auto sent = ping.recv()) pong.send(monotonic_ns() - *sent);
  });
  std::vector<std::uint64_t> times(static_cast<std::size_t>(c.n));
  // The sender is a thread of its own; all processors sleep when it sends.
  std::thread sender([&] {
    for (auto& t : times) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      ping.send(monotonic_ns());
      t = *pong.recv();
    }
    ping.close();
  });
  weft::blocking([&] { sender.join(); });
  std::sort(times.begin(), times.end());
  const auto at = [&](long index) {
    return static_cast<double>(times[static_cast<std::size_t>(index)]) / 1e3;
  };
  print_prefix(c);
  std::printf("wake_p50_us=%.2f wake_p99_us=%.2f\n", at(c.n / 2), at(c.n * 99 / 100));
}

}  // namespace bench
