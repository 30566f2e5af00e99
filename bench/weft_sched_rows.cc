// Rows about switching, spawning, channels and mutexes. Read beside bench/peers/go/sched.go: the
// two files follow each other function by function.

#include <weft/weft.h>

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <shared_mutex>

#include "bench/common/process.h"
#include "bench/rows.h"

namespace bench {

void run_switch(const config& c) {
  weft::wait_group done;
  done.add(2);
  const auto start = monotonic_ns();
  for (int i = 0; i < 2; ++i) {
    weft::go([&] {
      for (long k = 0; k < c.n / 2; ++k) weft::this_task::yield();
      done.done();
    });
  }
  done.wait();
  print_ns_per_op(c, start, c.n / 2 * 2);
}

void run_pingpong(const config& c) {
  weft::chan<long> ping(0), pong(0);
  weft::go([ping, pong] {
    while (const auto v = ping.recv()) pong.send(*v);
  });
  const auto start = monotonic_ns();
  for (long i = 0; i < c.n; ++i) {
    ping.send(i);
    if (pong.recv() != i) fail(c, "a value was lost");
  }
  print_ns_per_op(c, start, c.n);
  ping.close();
}

void run_spawn(const config& c) {
  weft::wait_group done;
  const auto start = monotonic_ns();
  for (long i = 0; i < c.n; ++i) {
    done.add(1);
    weft::go([&done] { done.done(); });
    done.wait();
  }
  print_ns_per_op(c, start, c.n);
}

void run_spawn_all(const config& c) {
  weft::wait_group done;
  done.add(c.n);
  const auto start = monotonic_ns();
  for (long i = 0; i < c.n; ++i) {
    weft::go([&done] { done.done(); });
  }
  done.wait();
  print_ns_per_op(c, start, c.n);
}

namespace {

// The channel is a shared handle held by value, as in Go: a child may still be inside send when its
// parent has returned.
void skynet(weft::chan<std::int64_t> out, std::int64_t first, std::int64_t size) {
  if (size == 1) {
    out.send(first);
    return;
  }
  weft::chan<std::int64_t> in(0);
  for (std::int64_t i = 0; i < 10; ++i) {
    weft::go([in, first, size, i] { skynet(in, first + i * (size / 10), size / 10); });
  }
  std::int64_t sum = 0;
  for (int i = 0; i < 10; ++i) sum += *in.recv();
  out.send(sum);
}

}  // namespace

void run_skynet(const config& c) {
  for (long size = c.n; size > 1; size /= 10) {
    if (size % 10 != 0) fail(c, "--n=" + std::to_string(c.n) + " is not a power of ten");
  }
  weft::chan<std::int64_t> out(0);
  const auto start = monotonic_ns();
  weft::go([out, &c] { skynet(out, 0, c.n); });
  const std::int64_t sum = *out.recv();
  if (sum != std::int64_t{c.n} * (c.n - 1) / 2) fail(c, "sum is " + std::to_string(sum));
  print_ns_per_op(c, start, c.n);
}

void run_chan_buffered(const config& c) {
  constexpr int sides = 4;
  const long each = c.n / sides;
  weft::chan<long> values(128);
  weft::wait_group producers, consumers;
  producers.add(sides);
  consumers.add(sides);
  struct alignas(128) count {
    long received = 0;
  };
  std::array<count, sides> counts;
  const auto start = monotonic_ns();
  for (auto& mine : counts) {
    weft::go([&, values] {
      for (long k = 0; k < each; ++k) values.send(k);
      producers.done();
    });
    weft::go([&, values] {
      long received = 0;
      while (values.recv()) ++received;
      mine.received = received;
      consumers.done();
    });
  }
  producers.wait();
  values.close();
  consumers.wait();
  long total = 0;
  for (const auto& one : counts) total += one.received;
  if (total != each * sides) fail(c, "received " + std::to_string(total));
  print_ns_per_op(c, start, total);
}

void run_select4(const config& c) {
  const long each = c.n / 4;
  std::array<weft::chan<long>, 4> in{weft::chan<long>(0), weft::chan<long>(0), weft::chan<long>(0),
                                     weft::chan<long>(0)};
  const auto start = monotonic_ns();
  for (auto& channel : in) {
    weft::go([out = channel, each] {
      for (long k = 0; k < each; ++k) out.send(1);
    });
  }
  long total = 0;
  const auto take = [&total](std::optional<long> v) { total += *v; };
  for (long k = 0; k < each * 4; ++k) {
    weft::select(weft::on_recv(in[0], take), weft::on_recv(in[1], take), weft::on_recv(in[2], take),
                 weft::on_recv(in[3], take));
  }
  if (total != each * 4) fail(c, "received " + std::to_string(total));
  print_ns_per_op(c, start, total);
}

void run_mutex_uncontended(const config& c) {
  weft::mutex mutex;
  long counter = 0;
  const auto start = monotonic_ns();
  for (long i = 0; i < c.n; ++i) {
    const std::lock_guard lock(mutex);
    ++counter;
  }
  print_ns_per_op(c, start, counter);
}

void run_rwmutex_read(const config& c) {
  weft::shared_mutex mutex;
  long counter = 0;
  const auto start = monotonic_ns();
  for (long i = 0; i < c.n; ++i) {
    const std::shared_lock lock(mutex);
    ++counter;
  }
  print_ns_per_op(c, start, counter);
}

void run_mutex8(const config& c) {
  constexpr int tasks = 8;
  const long each = c.n / tasks;
  weft::mutex mutex;
  weft::wait_group done;
  done.add(tasks);
  long counter = 0;
  const auto start = monotonic_ns();
  for (int t = 0; t < tasks; ++t) {
    weft::go([&] {
      for (long i = 0; i < each; ++i) {
        const std::lock_guard lock(mutex);
        ++counter;
      }
      done.done();
    });
  }
  done.wait();
  if (counter != each * tasks) fail(c, "counter is " + std::to_string(counter));
  print_ns_per_op(c, start, counter);
}

}  // namespace bench
