// Rows about switching, spawning, channels and mutexes. Read beside bench/weft_sched_rows.cc: the
// two files follow each other function by function.

#include <boost/fiber/buffered_channel.hpp>
#include <boost/fiber/mutex.hpp>
#include <boost/fiber/operations.hpp>
#include <boost/fiber/unbuffered_channel.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>

#include "bench/common/process.h"
#include "bench/peers/boost_fiber/fibers.h"
#include "bench/rows.h"

namespace bench {

using boost::fibers::buffered_channel;
using boost::fibers::channel_op_status;
using boost::fibers::unbuffered_channel;

void run_switch(const config& c) {
  wait_group done(2);
  const auto start_ns = monotonic_ns();
  for (int i = 0; i < 2; ++i) {
    go([&] {
      for (long k = 0; k < c.n / 2; ++k) boost::this_fiber::yield();
      done.done();
    });
  }
  done.wait();
  print_ns_per_op(c, start_ns, c.n / 2 * 2);
}

void run_pingpong(const config& c) {
  unbuffered_channel<long> ping, pong;
  auto other = start([&] {
    long v = 0;
    while (ping.pop(v) == channel_op_status::success) pong.push(v);
  });
  const auto start_ns = monotonic_ns();
  for (long i = 0; i < c.n; ++i) {
    ping.push(i);
    long v = -1;
    pong.pop(v);
    if (v != i) fail(c, "a value was lost");
  }
  print_ns_per_op(c, start_ns, c.n);
  ping.close();
  other.join();
}

// join() is the library's way to wait for one fiber, and cheaper than a wait group.
void run_spawn(const config& c) {
  const auto start_ns = monotonic_ns();
  for (long i = 0; i < c.n; ++i) {
    start([] {}).join();
  }
  print_ns_per_op(c, start_ns, c.n);
}

void run_spawn_all(const config& c) {
  wait_group done(c.n);
  const auto start_ns = monotonic_ns();
  for (long i = 0; i < c.n; ++i) {
    go([&done] { done.done(); });
  }
  done.wait();
  print_ns_per_op(c, start_ns, c.n);
}

namespace {

// Channels cannot be copied; they are shared because a child may still be inside push when its
// parent has returned.
using sums = std::shared_ptr<unbuffered_channel<std::int64_t>>;

void skynet(const sums& out, std::int64_t first, std::int64_t size) {
  if (size == 1) {
    out->push(first);
    return;
  }
  const auto in = std::make_shared<unbuffered_channel<std::int64_t>>();
  for (std::int64_t i = 0; i < 10; ++i) {
    go([in, first, size, i] { skynet(in, first + i * (size / 10), size / 10); });
  }
  std::int64_t sum = 0;
  for (int i = 0; i < 10; ++i) sum += in->value_pop();
  out->push(sum);
}

}  // namespace

void run_skynet(const config& c) {
  for (long size = c.n; size > 1; size /= 10) {
    if (size % 10 != 0) fail(c, "--n=" + std::to_string(c.n) + " is not a power of ten");
  }
  const auto out = std::make_shared<unbuffered_channel<std::int64_t>>();
  const auto start_ns = monotonic_ns();
  go([out, &c] { skynet(out, 0, c.n); });
  const std::int64_t sum = out->value_pop();
  if (sum != std::int64_t{c.n} * (c.n - 1) / 2) fail(c, "sum is " + std::to_string(sum));
  print_ns_per_op(c, start_ns, c.n);
}

void run_chan_buffered(const config& c) {
  constexpr int sides = 4;
  const long each = c.n / sides;
  buffered_channel<long> values(128);  // holds 127: one slot tells full from empty
  wait_group producers(sides), consumers(sides);
  struct alignas(128) count {
    long received = 0;
  };
  std::array<count, sides> counts;
  const auto start_ns = monotonic_ns();
  for (auto& mine : counts) {
    go([&] {
      for (long k = 0; k < each; ++k) values.push(k);
      producers.done();
    });
    go([&] {
      long received = 0;
      for (long v = 0; values.pop(v) == channel_op_status::success;) ++received;
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
  print_ns_per_op(c, start_ns, total);
}

void run_mutex_uncontended(const config& c) {
  boost::fibers::mutex mutex;
  long counter = 0;
  const auto start_ns = monotonic_ns();
  for (long i = 0; i < c.n; ++i) {
    const std::lock_guard lock(mutex);
    ++counter;
  }
  print_ns_per_op(c, start_ns, counter);
}

void run_mutex8(const config& c) {
  constexpr int tasks = 8;
  const long each = c.n / tasks;
  boost::fibers::mutex mutex;
  wait_group done(tasks);
  long counter = 0;
  const auto start_ns = monotonic_ns();
  for (int t = 0; t < tasks; ++t) {
    go([&] {
      for (long i = 0; i < each; ++i) {
        const std::lock_guard lock(mutex);
        ++counter;
      }
      done.done();
    });
  }
  done.wait();
  if (counter != each * tasks) fail(c, "counter is " + std::to_string(counter));
  print_ns_per_op(c, start_ns, counter);
}

}  // namespace bench
