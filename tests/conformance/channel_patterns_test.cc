// Whole programs of channels: what Go's own channel tests prove about queues, pipelines and chains.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/select.h>
#include <weft/wait_group.h>

#include <atomic>
#include <map>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

WEFT_WORLD_TEST(ChannelPatterns, PrimeSieve) {
  chan<int> source(0);
  chan<int> stop(0);
  wait_group wg;
  wg.go([source, stop] {
    for (int i = 2;; ++i)
      if (select(on_send(source, i), on_recv(stop)) == 1) return;
  });
  chan<int> in = source;
  std::vector<int> primes;
  for (int k = 0; k < 30; ++k) {
    int p = *in.recv();
    primes.push_back(p);
    chan<int> out(0);
    wg.go([in, out, stop, p] {
      for (;;) {
        int v = 0;
        if (select(on_recv(in, [&](std::optional<int> x) { v = *x; }), on_recv(stop)) == 1) return;
        if (v % p != 0 && select(on_send(out, v), on_recv(stop)) == 1) return;
      }
    });
    in = out;
  }
  stop.close();
  wg.wait();
  EXPECT_EQ(primes.back(), 113);
  EXPECT_EQ(primes[9], 29);
}

// A chain of tasks, each adding one to what comes from its right.
WEFT_WORLD_TEST(ChannelPatterns, DeepTaskChain) {
  const int n = test::sized(10'000, 700);
  chan<int> leftmost(0);
  chan<int> left = leftmost;
  chan<int> right = leftmost;
  for (int i = 0; i < n; ++i) {
    right = chan<int>(0);
    go([left, right] { left.send(1 + *right.recv()); });
    left = right;
  }
  go([right] { right.send(1); });
  EXPECT_EQ(leftmost.recv(), n + 1);
}

WEFT_WORLD_TEST(ChannelPatterns, ManyToManyIsExact) {
  for (size_t capacity : {0u, 1u, 10u}) {
    constexpr int producers = 4;
    constexpr int consumers = 4;
    const int each = test::sized(2000, 200);
    chan<int> c(capacity);
    std::vector<std::map<int, int>> seen(consumers);
    wait_group senders;
    wait_group receivers;
    for (int p = 0; p < producers; ++p) {
      senders.go([=] {
        for (int i = 0; i < each; ++i) c.send(p * each + i);
      });
    }
    for (auto& mine : seen) {
      receivers.go([c, &mine] {
        for (int v : c) ++mine[v];
      });
    }
    senders.wait();
    c.close();
    receivers.wait();
    std::map<int, int> all;
    for (auto& m : seen)
      for (auto [v, n] : m) all[v] += n;
    EXPECT_EQ(all.size(), static_cast<size_t>(producers * each));
    for (auto [v, n] : all) ASSERT_EQ(n, 1) << v;
  }
}

// Workers work on values of very different cost; every one is worked on once.
WEFT_WORLD_TEST(ChannelPatterns, MultiConsumer) {
  const int n = test::sized(5000, 500);
  chan<int> q(9);
  chan<int> r(9);
  wait_group wg;
  for (int i = 0; i < 23; ++i) {
    wg.go([q, r] {
      for (int v : q) {
        if (v % 7 == 0) this_task::yield();
        r.send(v);
      }
    });
  }
  go([=] {
    for (int i = 0; i < n; ++i) q.send(i);
    q.close();
  });
  go([&wg, r] {
    wg.wait();
    r.close();
  });
  int64_t sum = 0;
  int count = 0;
  for (int v : r) {
    sum += v;
    ++count;
  }
  EXPECT_EQ(count, n);
  EXPECT_EQ(sum, int64_t{n} * (n - 1) / 2);
}

// Coins flipped by select: both sides of a two-way send come up.
WEFT_WORLD_TEST(ChannelPatterns, PseudoRandomSend) {
  constexpr int n = 400;
  for (size_t capacity : {size_t{0}, size_t{n}}) {
    chan<int> c(capacity);
    std::vector<int> bits(n);
    auto reader = spawn([&] {
      for (int& b : bits) {
        if (capacity == 0) this_task::yield();
        b = *c.recv();
      }
    });
    for (int i = 0; i < n; ++i) select(on_send(c, 1), on_send(c, 0));
    reader.join();
    int ones = 0;
    for (int b : bits) ones += b;
    EXPECT_GT(ones, n / 10);
    EXPECT_LT(ones, n - n / 10);
  }
}

WEFT_WORLD_TEST(ChannelPatterns, PingPongOfAPair) {
  chan<int> ping(0);
  chan<int> pong(0);
  const int rounds = test::sized(20'000, 2000);
  go([=] {
    for (int v : ping) pong.send(v + 1);
    pong.close();
  });
  int v = 0;
  for (int i = 0; i < rounds; ++i) {
    ping.send(v);
    v = *pong.recv();
  }
  ping.close();
  EXPECT_EQ(v, rounds);
  EXPECT_EQ(pong.recv(), std::nullopt);
}

// A channel of channels, dropped while values are inside: everything is released.
WEFT_WORLD_TEST(ChannelPatterns, ChannelsOfChannels) {
  auto token = std::make_shared<int>(1);
  std::weak_ptr<int> alive = token;
  {
    chan<chan<std::shared_ptr<int>>> outer(2);
    chan<std::shared_ptr<int>> inner(1);
    inner.send(std::move(token));
    outer.send(inner);
    outer.send({});
  }
  EXPECT_TRUE(alive.expired());
}

WEFT_WORLD_TEST(ChannelPatterns, DirectionalViewsShareTheChannel) {
  chan<int> c(1);
  send_chan<int> tx = c;
  recv_chan<int> rx = c;
  tx.send(1);
  EXPECT_EQ(rx.size(), 1u);
  EXPECT_EQ(rx.recv(), 1);
  EXPECT_EQ(select(on_send(tx, 2), on_default()), 0);
  EXPECT_EQ(select(on_recv(rx), on_default()), 0);
  tx.close();
  EXPECT_EQ(rx.recv(), std::nullopt);
}

}  // namespace
}  // namespace weft
