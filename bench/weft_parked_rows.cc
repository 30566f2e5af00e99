// Rows about tasks that wait: their memory, and how punctually sleepers wake. Read beside
// bench/peers/go/parked.go.

#include <weft/weft.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <thread>
#include <utility>
#include <vector>

#include "bench/common/process.h"
#include "bench/rows.h"

namespace bench {

using std::chrono::milliseconds;

namespace {

std::uint64_t cpu_ms() {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1000 +
         static_cast<std::uint64_t>(t.tv_nsec) / 1'000'000;
}

// Parks c.n tasks and lets them end; returns the memory in use before and while they were parked.
std::pair<double, double> park_and_end(const config& c) {
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
  gate.close();
  done.wait();
  return {static_cast<double>(before), static_cast<double>(after)};
}

}  // namespace

void run_idle(const config& c) {
  const auto [before, after] = park_and_end(c);
  print_prefix(c);
  std::printf("bytes_per_task=%.0f\n", (after - before) / static_cast<double>(c.n));
}

// How much of the memory of many parked tasks is back some time after they have ended, and what
// giving it back cost.
void run_burst(const config& c) {
  const auto [before, after] = park_and_end(c);
  const auto cpu_before = cpu_ms();
  const auto start = monotonic_ns();
  double left = after;
  const double most = before + (after - before) / 10;
  while (left > most && monotonic_ns() - start < 120'000'000'000) {
    weft::this_task::sleep_for(milliseconds(100));
    left = static_cast<double>(resident_bytes(0));
  }
  const auto seconds = static_cast<double>(monotonic_ns() - start) / 1e9;
  const auto cpu = cpu_ms() - cpu_before;
  weft::this_task::sleep_for(std::chrono::seconds(4));
  left = static_cast<double>(resident_bytes(0));
  const auto idle_from = cpu_ms();
  const auto idle_start = monotonic_ns();
  weft::this_task::sleep_for(std::chrono::seconds(20));
  print_prefix(c);
  std::printf(
      "bytes_per_task=%.0f bytes_left_per_task=%.0f seconds_to_90_percent=%.1f cpu_ms=%llu "
      "idle_cpu_percent=%.3f\n",
      (after - before) / static_cast<double>(c.n), (left - before) / static_cast<double>(c.n),
      seconds, static_cast<unsigned long long>(cpu),
      static_cast<double>(cpu_ms() - idle_from) * 1e8 /
          static_cast<double>(monotonic_ns() - idle_start));
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
