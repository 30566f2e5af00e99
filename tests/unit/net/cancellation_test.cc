// I/O under a context, with both pollers: the call ends, says why, and takes no bytes with it.
#include <gtest/gtest.h>
#include <unistd.h>
#include <weft/context.h>
#include <weft/net/tcp.h>
#include <weft/net/wait.h>
#include <weft/task_group.h>
#include <weft/wait_group.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "tests/unit/net/net_world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;
using sched::wait_reason;
using test::connect_pair;
using test::eventually_waiting;
using test::tcp_pair;

WEFT_NET_TEST(Cancellation, EndsAReadAndTheConnectionGoesOn) {
  tcp_pair p = connect_pair();
  char buffer[16];
  for (int i = 0; i < 20; ++i) {
    auto [ctx, cancel] = with_cancel(background());
    auto h = spawn([&, x = ctx] { return p.server.try_read(x, buffer).error(); });
    ASSERT_TRUE(eventually_waiting(wait_reason::io_wait, 1));
    cancel();
    EXPECT_EQ(h.join(), errc::canceled);
    EXPECT_EQ(p.server.try_read(ctx, buffer).error(), errc::canceled);
  }
  p.client.write("still here");
  EXPECT_EQ(p.server.read(buffer), 10u);
  auto [timed, cancel] = with_timeout(background(), 1ms);
  EXPECT_EQ(p.server.try_read(timed, buffer).error(), errc::context_deadline_exceeded);
  EXPECT_EQ(p.server.try_read_full(timed, buffer).error(), errc::context_deadline_exceeded);
  EXPECT_THROW(p.server.read(timed, buffer), system_error);
  // The connection's own deadline and its end are told apart from the context.
  auto [open, cancel_open] = with_cancel(background());
  p.server.set_read_deadline(test::soon());
  EXPECT_EQ(p.server.try_read(open, buffer).error(), errc::deadline_exceeded);
  p.server.set_read_deadline({});
  p.client.close();
  EXPECT_EQ(p.server.try_read(open, buffer).error(), errc::eof);
}

WEFT_NET_TEST(Cancellation, EndsAWriteThatSaysHowMuchItSent) {
  tcp_pair p = connect_pair();
  const std::string big(64 << 20, 'x');
  auto [ctx, cancel] = with_cancel(background());
  std::size_t written = 0;
  auto h = spawn([&, x = ctx] { return p.client.try_write(x, big, &written).error(); });
  ASSERT_TRUE(eventually_waiting(wait_reason::io_wait, 1));
  cancel();
  EXPECT_EQ(h.join(), errc::canceled);
  EXPECT_GT(written, 0u);
  EXPECT_LT(written, big.size());
  std::size_t more = 1;
  EXPECT_EQ(p.client.try_write(ctx, "x", &more).error(), errc::canceled);
  EXPECT_EQ(more, 0u);
  p.client.shutdown_write();
  std::size_t arrived = 0;
  std::array<char, 65536> buffer;
  while (auto n = p.server.try_read(buffer)) arrived += *n;
  EXPECT_EQ(arrived, written);
}

WEFT_NET_TEST(Cancellation, EndsAnAcceptAndLosesNoConnection) {
  net::tcp_listener l = net::listen("tcp", "127.0.0.1:0");
  auto [ctx, cancel] = with_cancel(background());
  auto h = spawn([&, x = ctx] { return l.try_accept(x).error(); });
  ASSERT_TRUE(eventually_waiting(wait_reason::io_wait, 1));
  cancel();
  EXPECT_EQ(h.join(), errc::canceled);
  EXPECT_EQ(l.try_accept(ctx).error(), errc::canceled);
  EXPECT_THROW(l.accept(ctx), system_error);
  net::tcp_conn c = net::dial(background(), l.local_address().to_string());
  EXPECT_TRUE(l.accept(background()).is_open());
}

// A listener whose queue is full leaves a SYN unanswered: the dial waits until it is cancelled.
WEFT_NET_TEST(Cancellation, EndsADial) {
  net::listen_options tight;
  tight.backlog = 0;
  net::tcp_listener l = net::listen("tcp", "127.0.0.1:0", tight);
  const std::string where = l.local_address().to_string();
  auto [ctx, cancel] = with_cancel(background());
  std::vector<join_handle<result<net::tcp_conn>>> dials;
  for (int i = 0; i < 8; ++i)
    dials.push_back(spawn([&, x = ctx] { return net::try_dial(x, where); }));
  ASSERT_TRUE(test::eventually([] { return test::count_waiting(wait_reason::io_wait) > 0; }));
  int waiting = 0;
  test::eventually([&] {
    waiting = 0;
    for (auto& d : dials) waiting += d.done() ? 0 : 1;
    return waiting == test::count_waiting(wait_reason::io_wait);
  });
  cancel();
  int cancelled = 0;
  for (auto& d : dials) {
    result<net::tcp_conn> c = d.join();
    if (c) continue;
    EXPECT_EQ(c.error(), errc::canceled);
    ++cancelled;
  }
  EXPECT_GT(cancelled, 0);
  EXPECT_EQ(net::try_dial(ctx, where).error(), errc::canceled);
  EXPECT_THROW(net::dial(ctx, where), system_error);
}

WEFT_NET_TEST(Cancellation, EndsAWaitForAForeignDescriptor) {
  int fds[2];
  ASSERT_EQ(::pipe(fds), 0);
  auto [ctx, cancel] = with_cancel(background());
  auto h = spawn([&, x = ctx] { return net::try_wait(x, fds[0], net::events::in).error(); });
  ASSERT_TRUE(eventually_waiting(wait_reason::io_wait, 1));
  cancel();
  EXPECT_EQ(h.join(), errc::canceled);
  EXPECT_EQ(net::wait(background(), fds[1], net::events::out), net::events::out);
  EXPECT_EQ(net::try_wait(ctx, fds[1], net::events::out).error(), errc::canceled);
  ::close(fds[0]);
  ::close(fds[1]);
}

// Of readers that queue for their turn any may be cancelled, also all of them.
WEFT_NET_TEST(Cancellation, EndsTheWaitForATurn) {
  tcp_pair p = connect_pair();
  for (int round = 0; round < 3; ++round) {
    auto [first, cancel_first] = with_cancel(background());
    auto [rest, cancel_rest] = with_cancel(background());
    std::vector<join_handle<error_code>> readers;
    auto read = [&](const context& x) {
      return spawn([&, x] {
        char c[1];
        return p.server.try_read(x, c).error();
      });
    };
    readers.push_back(read(first));
    ASSERT_TRUE(eventually_waiting(wait_reason::io_wait, 1));
    for (int i = 0; i < 4; ++i) readers.push_back(read(rest));
    ASSERT_TRUE(eventually_waiting(wait_reason::io_wait, 5));
    if (round == 0) {
      cancel_rest();
      ASSERT_TRUE(eventually_waiting(wait_reason::io_wait, 1));
      cancel_first();
    } else if (round == 1) {
      cancel_first();
      ASSERT_TRUE(eventually_waiting(wait_reason::io_wait, 4));
      cancel_rest();
    } else {
      auto other = spawn([c = cancel_first] { c(); });
      cancel_rest();
      other.join();
    }
    for (auto& r : readers) EXPECT_EQ(r.join(), errc::canceled);
    p.client.write("z");
    char c[1];
    EXPECT_EQ(p.server.read(c), 1u);
  }
}

// Cancellations, deadlines and bytes race; every byte arrives once and in order.
WEFT_NET_TEST(Cancellation, NoByteIsLostInTheRace) {
  uint64_t seed = std::random_device{}();
  if (const char* s = std::getenv("WEFT_SEED")) seed = std::strtoull(s, nullptr, 0);
  std::printf("WEFT_SEED=%lu\n", static_cast<unsigned long>(seed));
  std::mt19937_64 random(seed);
  tcp_pair p = connect_pair();
  const int total = test::sized(20'000, 2000);
  auto writer = spawn([&, salt = random()] {
    std::mt19937_64 mine(salt);
    for (int sent = 0; sent < total;) {
      std::string piece;
      for (auto n = mine() % 5 + 1; n > 0 && sent < total; --n) piece += static_cast<char>(sent++);
      p.client.write(piece);
      if (mine() % 3 == 0) this_task::yield();
    }
  });
  int got = 0;
  char next = 0;
  while (got < total) {
    auto [ctx, cancel] = random() % 2 == 0
                             ? with_cancel(background())
                             : with_timeout(background(), std::chrono::microseconds(random() % 60));
    if (random() % 2 == 0) {
      go([c = cancel] {
        this_task::yield();
        c();
      });
    }
    char buffer[7];
    // A context that nobody cancels ends with the bytes or, after the last one, not at all.
    result<std::size_t> n = p.server.try_read(ctx, buffer);
    cancel();
    if (!n) {
      ASSERT_TRUE(n.error() == errc::canceled || n.error() == errc::context_deadline_exceeded);
      continue;
    }
    for (std::size_t i = 0; i < *n; ++i) ASSERT_EQ(buffer[i], next++);
    got += static_cast<int>(*n);
  }
  writer.join();
}

WEFT_NET_TEST(Cancellation, GroupOfConnectionsEndsTogether) {
  std::vector<tcp_pair> pairs;
  for (int i = 0; i < 20; ++i) pairs.push_back(connect_pair());
  task_group g;
  for (tcp_pair& p : pairs) {
    g.go([&p](const context& ctx) {
      char buffer[64];
      while (p.server.try_read(ctx, buffer)) {
      }
    });
  }
  ASSERT_TRUE(eventually_waiting(wait_reason::io_wait, 20));
  g.go([] { throw 1; });
  EXPECT_THROW(g.wait(), int);
}

}  // namespace
}  // namespace weft
