// E.2 select, with a number of cases known only at run time.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/context.h>
#include <weft/error.h>
#include <weft/select_set.h>
#include <weft/wait_group.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;

WEFT_WORLD_TEST(E2_SelectSet, IndicesAndValues) {
  std::vector<chan<std::unique_ptr<int>>> channels;
  select_set set;
  for (int i = 0; i < 20; ++i) {
    channels.emplace_back(1);
    EXPECT_EQ(set.add(on_recv(channels.back())), i);
  }
  EXPECT_EQ(set.add(on_default()), 20);
  EXPECT_EQ(set.size(), 21);
  EXPECT_EQ(set.select(), 20);
  channels[13].send(std::make_unique<int>(7));
  ASSERT_EQ(set.select(), 13);
  EXPECT_EQ(**set.take<std::unique_ptr<int>>(13), 7);
  EXPECT_FALSE(set.take<std::unique_ptr<int>>(13).has_value());
  EXPECT_THROW(set.take<int>(13), panic_error);
  EXPECT_THROW(set.take<int>(20), panic_error);
  EXPECT_THROW(set.take<int>(21), panic_error);
  EXPECT_THROW(set.remove(21), panic_error);
  channels[5].close();
  EXPECT_EQ(set.select(), 5);
  EXPECT_FALSE(set.take<std::unique_ptr<int>>(5).has_value());
  set.remove(5);
  EXPECT_EQ(set.select(), 20);
}

WEFT_WORLD_TEST(E2_SelectSet, FunctionsRunWithTheirValues) {
  chan<int> in(1), out(1);
  int got = 0, sent = 0, late = 0;
  select_set set;
  const int r = set.add(on_recv(in, [&](std::optional<int> v) { got = *v; }));
  const int s = set.add(on_send(out, 4, [&] { ++sent; }));
  const int t = set.add(on_timeout(1ms, [&] { ++late; }));
  EXPECT_EQ(set.select(), s);
  EXPECT_EQ(sent, 1);
  EXPECT_EQ(out.recv(), 4);
  // Its value has gone, so it takes no part any more.
  EXPECT_EQ(set.select(), t);
  EXPECT_EQ(late, 1);
  EXPECT_EQ(out.size(), 0u);
  in.send(9);
  EXPECT_EQ(set.select(), r);
  EXPECT_EQ(got, 9);
}

WEFT_WORLD_TEST(E2_SelectSet, WaitsAndIsCancelled) {
  auto [ctx, cancel] = with_cancel(background());
  std::vector<chan<int>> channels;
  for (int i = 0; i < 100; ++i) channels.emplace_back(0);
  auto h = spawn([&, c = ctx] {
    select_set set;
    for (auto& ch : channels) set.add(on_recv(ch));
    set.add(on_recv(chan<int>()));
    set.add(on_done(c));
    const int first = set.select();
    EXPECT_EQ(set.take<int>(first), 5);
    return std::pair(first, set.select());
  });
  ASSERT_TRUE(test::eventually_waiting(sched::wait_reason::select, 1));
  channels[77].send(5);
  ASSERT_TRUE(test::eventually_waiting(sched::wait_reason::select, 1));
  cancel();
  EXPECT_EQ(h.join(), std::pair(77, 101));
}

WEFT_WORLD_TEST(E2_SelectSet, S2_ChoiceIsUniform) {
  constexpr int ways = 10;
  std::vector<chan<int>> channels;
  select_set set;
  for (int i = 0; i < ways; ++i) {
    channels.emplace_back(1);
    channels.back().send(1);
    set.add(on_recv(channels.back()));
  }
  const int trials = 10'000;
  int counts[ways] = {};
  for (int i = 0; i < trials; ++i) {
    const int c = set.select();
    ++counts[c];
    channels[static_cast<size_t>(c)].send(1);
  }
  // Five standard deviations of a share of a tenth.
  for (int n : counts) EXPECT_LE(std::abs(n - trials / ways), 150);
}

// Two sets over the same channels in different order, senders in them too: every value arrives
// once, and nothing locks up.
WEFT_WORLD_TEST(E2_SelectSet, S3_AtomicAmongManySets) {
  constexpr int width = 40;
  std::vector<chan<int>> channels;
  for (int i = 0; i < width; ++i) channels.emplace_back(0);
  const int rounds = test::sized(400, 60);
  std::atomic<int64_t> sent{0}, received{0};
  wait_group senders, receivers;
  auto [ctx, cancel] = with_cancel(background());
  for (int t = 0; t < 3; ++t) {
    senders.go([&, t] {
      for (int i = 0; i < rounds; ++i) {
        select_set set;
        for (int k = 0; k < width; ++k) {
          const int at = t % 2 == 0 ? k : width - 1 - k;
          set.add(on_send(channels[static_cast<size_t>(at)], at + 1));
        }
        const int c = set.select();
        sent += (t % 2 == 0 ? c : width - 1 - c) + 1;
      }
    });
    receivers.go([&, t, x = ctx] {
      select_set set;
      for (int k = 0; k < width; ++k)
        set.add(on_recv(channels[static_cast<size_t>(t % 2 == 0 ? width - 1 - k : k)]));
      const int done = set.add(on_done(x));
      for (int c = set.select(); c != done; c = set.select()) received += *set.take<int>(c);
    });
  }
  senders.wait();
  cancel();
  receivers.wait();
  EXPECT_EQ(sent, received);
}

WEFT_WORLD_TEST(E2_SelectSet, S4_SendOnClosedPanics) {
  chan<int> c(0);
  c.close();
  select_set set;
  set.add(on_send(c, 1));
  EXPECT_THROW(set.select(), panic_error);
}

}  // namespace
}  // namespace weft
