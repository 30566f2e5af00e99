// E.2 select, one test per statement.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/select.h>
#include <weft/select_set.h>
#include <weft/wait_group.h>

#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "tests/conformance/world.h"

#if !WEFT_ASAN && !WEFT_TSAN
// Makes the n-th allocation of an array from now on fail; 0: none.
static std::atomic<int> g_arrays_until_failure{0};

void* operator new[](size_t bytes) {
  if (g_arrays_until_failure > 0 && --g_arrays_until_failure == 0) throw std::bad_alloc();
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }
#endif

namespace weft {
namespace {

using namespace std::chrono_literals;
using sched::wait_reason;
using test::eventually_waiting;

// C++ leaves the order among function arguments open, so "in source order" is not promised; once
// is.
WEFT_WORLD_TEST(E2_Select, S1_ExpressionsAreEvaluatedOnce) {
  chan<int> c(10);
  int channels = 0;
  int values = 0;
  auto the_channel = [&] {
    ++channels;
    return c;
  };
  auto the_value = [&] { return ++values; };
  EXPECT_EQ(select(on_recv(chan<int>{}), on_send(the_channel(), the_value())), 1);
  EXPECT_EQ(select(on_send(chan<int>{}, the_value()), on_default()), 1);
  EXPECT_EQ(channels, 1);
  EXPECT_EQ(values, 2);
  EXPECT_EQ(c.recv(), 1);
}

WEFT_WORLD_TEST(E2_Select, S2_UniformAmongReadyCases) {
  constexpr int trials = 10'000;
  chan<int> a(trials);
  chan<int> b(trials);
  for (int i = 0; i < trials; ++i) {
    a.send(1);
    b.send(2);
  }
  int first = 0;
  for (int i = 0; i < trials; ++i) first += select(on_recv(a), on_recv(b)) == 0 ? 1 : 0;
  EXPECT_LE(std::abs(static_cast<double>(first) / trials - 0.5), 4.89 / (2 * std::sqrt(trials)));
}

// The same oracle for four cases, at every position and next to cases that are never ready.
WEFT_WORLD_TEST(E2_Select, S2_UniformAtEveryPosition) {
  constexpr int trials = 8000;
  std::array<chan<int>, 4> c;
  for (auto& one : c) {
    one = chan<int>(1);
    one.send(0);
  }
  std::array<int, 4> won{};
  chan<int> never(0);
  for (int i = 0; i < trials; ++i) {
    int chosen = select(on_recv(never), on_recv(c[0]), on_recv(c[1]), on_recv(never), on_recv(c[2]),
                        on_recv(c[3]));
    size_t which = std::array<size_t, 6>{9, 0, 1, 9, 2, 3}[static_cast<size_t>(chosen)];
    ASSERT_LT(which, 4u);
    ++won[which];
    c[which].send(0);
  }
  // Five standard deviations of a binomial with p = 1/4.
  for (int n : won) EXPECT_NEAR(n, trials / 4, 5 * std::sqrt(trials * 3.0 / 16));
}

WEFT_WORLD_TEST(E2_Select, S2_DefaultOnlyIfNothingIsReady) {
  chan<int> c(1);
  EXPECT_EQ(select(on_recv(c), on_default()), 1);
  c.send(1);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(select(on_default(), on_recv(c)), 1);
    EXPECT_EQ(select(on_send(c, 1), on_default()), 0);
  }
  EXPECT_EQ(select(on_send(c, 1), on_default()), 1);
}

WEFT_WORLD_TEST(E2_Select, S2_TimeoutOnlyIfNothingIsReady) {
  chan<int> c(1);
  EXPECT_EQ(select(on_recv(c), on_timeout(1ms)), 1);
  EXPECT_EQ(select(on_recv(c), on_timeout(0ms)), 1);
  EXPECT_EQ(select(on_recv(c), on_timeout(-1s)), 1);
  EXPECT_EQ(select(on_timeout(2ms), on_timeout(1h)), 0);
  c.send(1);
  EXPECT_EQ(select(on_timeout(0ms), on_recv(c)), 1);
  go([c] {
    this_task::sleep_for(1ms);
    c.send(2);
  });
  EXPECT_EQ(select(on_recv(c), on_timeout(std::chrono::nanoseconds::max())), 0);
}

// Values go through exactly one case: as many come out as went in.
WEFT_WORLD_TEST(E2_Select, S3_ExactlyOneCaseTakesEffect) {
  chan<int> a(0);
  chan<int> b(1);
  const int n = test::sized(4000, 400);
  wait_group senders;
  for (int s = 0; s < 4; ++s) {
    senders.go([=] {
      for (int i = 0; i < n; ++i) select(on_send(a, i), on_send(b, i));
    });
  }
  chan<int> done(0);
  go([&senders, done] {
    senders.wait();
    done.close();
  });
  std::atomic<int64_t> sum{0};
  std::atomic<int> count{0};
  wait_group receivers;
  for (int r = 0; r < 3; ++r) {
    receivers.go([&, a, b, done] {
      auto take = [&](std::optional<int> v) {
        sum += *v;
        ++count;
      };
      while (select(on_recv(a, take), on_recv(b, take), on_recv(done)) != 2) {
      }
    });
  }
  receivers.wait();
  while (auto v = b.try_recv()) {
    sum += *v;
    ++count;
  }
  EXPECT_EQ(count.load(), 4 * n);
  EXPECT_EQ(sum.load(), 4 * int64_t{n} * (n - 1) / 2);
}

// Two tasks send and receive on one channel within one select each: neither may talk to itself.
WEFT_WORLD_TEST(E2_Select, S3_SelfSelect) {
  for (size_t capacity : {0u, 10u}) {
    chan<int> c(capacity);
    wait_group wg;
    std::atomic<int> with_itself{0};
    const int n = test::sized(1000, 200);
    // As long as both run, each operation of one can meet the other; at the end a third drains or
    // feeds.
    for (int p = 0; p < 2; ++p) {
      wg.go([&, p, c] {
        for (int i = 0; i < n; ++i) {
          auto check = [&](std::optional<int> v) {
            if (capacity == 0 && v == p) ++with_itself;
          };
          if (p == 0 || i % 2 == 0)
            select(on_send(c, p), on_recv(c, check));
          else
            select(on_recv(c, check), on_send(c, p));
        }
      });
    }
    chan<int> stop(0);
    auto third = spawn([c, stop] {
      while (select(on_send(c, 9), on_recv(c), on_recv(stop)) != 2) {
      }
    });
    wg.wait();
    stop.close();
    third.join();
    EXPECT_EQ(with_itself.load(), 0);
  }
}

WEFT_WORLD_TEST(E2_Select, S3_SelfSelectAloneBlocks) {
  chan<int> c(0);
  std::atomic<int> chosen{-1};
  auto h = spawn([&] { chosen = select(on_send(c, 1), on_recv(c)); });
  ASSERT_TRUE(eventually_waiting(wait_reason::select, 1));
  EXPECT_EQ(chosen.load(), -1);
  EXPECT_EQ(c.recv(), 1);
  h.join();
  EXPECT_EQ(chosen.load(), 0);
}

// After a select with the same channel twice has been woken through one of them, the others are
// gone.
WEFT_WORLD_TEST(E2_Select, S3_DuplicateChannel) {
  chan<int> c(0);
  chan<int> d(0);
  auto h = spawn([=] { return select(on_recv(c), on_recv(c), on_recv(d), on_send(d, 1)); });
  ASSERT_TRUE(eventually_waiting(wait_reason::select, 1));
  c.send(7);
  EXPECT_LE(h.join(), 1);
  EXPECT_FALSE(c.try_send(1));
  EXPECT_FALSE(d.try_send(1));
  EXPECT_EQ(d.try_recv(), std::nullopt);
}

// Queues keep their order and their other waiters when selects come and go in them.
WEFT_WORLD_TEST(E2_Select, S3_QueueIsIntactAfterOthersLeft) {
  chan<int> c(0);
  std::array<chan<int>, 5> exit;
  for (auto& e : exit) e = chan<int>(0);
  std::array<std::atomic<int>, 5> got{};
  wait_group wg;
  for (size_t i = 0; i < 5; ++i) {
    wg.go([&, i] {
      select(on_recv(c, [&](std::optional<int> v) { got[i] = *v; }), on_recv(exit[i]));
    });
    ASSERT_TRUE(eventually_waiting(wait_reason::select, static_cast<int>(i) + 1));
  }
  exit[0].send(1);
  exit[2].send(1);
  exit[4].send(1);
  c.send(10);
  c.send(20);
  EXPECT_FALSE(c.try_send(30));
  wg.wait();
  EXPECT_EQ(got[1].load(), 10);
  EXPECT_EQ(got[3].load(), 20);
}

WEFT_WORLD_TEST(E2_Select, S3_Stress) {
  std::array<chan<int>, 4> c{chan<int>(0), chan<int>(0), chan<int>(2), chan<int>(3)};
  const int n = test::sized(2000, 200);
  wait_group wg;
  for (auto& one : c) {
    wg.go([one] {
      for (int i = 0; i < n; ++i) one.send(0);
    });
    wg.go([one] {
      for (int i = 0; i < n; ++i) one.recv();
    });
  }
  // One task sends, one receives n values through each of the four, by select with shrinking
  // choice.
  for (bool sends : {true, false}) {
    wg.go([=] {
      std::array<int, 4> left{};
      left.fill(n);
      auto open = c;
      for (int i = 0; i < 4 * n; ++i) {
        int k =
            sends ? select(on_send(open[3], 0), on_send(open[2], 0), on_send(open[0], 0),
                           on_send(open[1], 0))
                  : select(on_recv(open[0]), on_recv(open[1]), on_recv(open[2]), on_recv(open[3]));
        size_t at = sends ? std::array<size_t, 4>{3, 2, 0, 1}[static_cast<size_t>(k)]
                          : static_cast<size_t>(k);
        if (--left[at] == 0) open[at] = chan<int>{};
      }
    });
  }
  wg.wait();
  for (auto& one : c) EXPECT_EQ(one.size(), 0u);
}

WEFT_WORLD_TEST(E2_Select, S4_ClosedSendCasePanicsWhenChosen) {
  chan<int> closed(0);
  closed.close();
  EXPECT_THROW(select(on_send(closed, 1), on_default()), panic_error);
  // Next to another ready case it is chosen about every second time.
  chan<int> ready(1);
  ready.send(1);
  int panics = 0;
  for (int i = 0; i < 200; ++i) {
    try {
      select(on_recv(ready), on_send(closed, 1));
      ready.send(1);
    } catch (const panic_error&) {
      ++panics;
    }
  }
  EXPECT_GT(panics, 20);
  EXPECT_LT(panics, 180);
}

// nil, closed, full, empty in every combination of two cases.
WEFT_WORLD_TEST(E2_Select, S4_ReadinessMatrix) {
  enum kind { nil, closed, full, empty, kinds };
  auto make = [](int k) {
    if (k == nil) return chan<int>{};
    chan<int> c(1);
    if (k == full) c.send(1);
    if (k == closed) c.close();
    return c;
  };
  for (int r = 0; r < kinds; ++r) {
    for (int s = 0; s < kinds; ++s) {
      bool can_recv = r == closed || r == full;
      bool can_send = s == empty;
      bool panics = s == closed;
      int chosen = -1;
      try {
        chosen = select(on_recv(make(r)), on_send(make(s), 1), on_default());
      } catch (const panic_error&) {
        chosen = 100;
      }
      if (chosen == 0)
        EXPECT_TRUE(can_recv) << r << s;
      else if (chosen == 1)
        EXPECT_TRUE(can_send) << r << s;
      else if (chosen == 100)
        EXPECT_TRUE(panics) << r << s;
      else
        EXPECT_TRUE(!can_recv && !can_send && !panics) << r << s;
    }
  }
}

TEST(E2_Select, S4_WithoutCasesBlocksForever) {
  test::in_world(2, [] {
    go([] { select(); });
    go([] { select(on_recv(chan<int>{}), on_send(chan<int>{}, 1)); });
    EXPECT_TRUE(eventually_waiting(wait_reason::select_no_cases, 2));
    test::leave_tasks_behind(wait_reason::select_no_cases, 2);
  });
}

WEFT_WORLD_TEST(E2_Select, ManyCases) {
  std::vector<chan<int>> c;
  for (int i = 0; i < 12; ++i) c.emplace_back(0);
  auto h = spawn([=] {
    return select(on_recv(c[0]), on_recv(c[1]), on_recv(c[2]), on_recv(c[3]), on_recv(c[4]),
                  on_recv(c[5]), on_recv(c[6]), on_recv(c[7]), on_recv(c[8]), on_recv(c[9]),
                  on_recv(c[10]), on_recv(c[11]));
  });
  c[10].send(1);
  EXPECT_EQ(h.join(), 10);
  for (auto& one : c) EXPECT_FALSE(one.try_send(1));
}

#if !WEFT_ASAN && !WEFT_TSAN
// Memory that runs out anywhere in a select of many cases leaves its channels usable.
TEST(E2_Select, OutOfMemoryLeavesTheChannelsUsable) {
  test::in_world(1, [] {
    std::vector<chan<int>> channels;
    select_set set;
    for (int i = 0; i < 12; ++i) set.add(on_recv(channels.emplace_back(0)));
    set.add(on_timeout(1us));
    int failures = 0;
    for (int nth = 1;; ++nth) {
      g_arrays_until_failure = nth;
      try {
        EXPECT_EQ(set.select(), 12);
      } catch (const std::bad_alloc&) {
        ++failures;
      }
      const bool enough = g_arrays_until_failure.exchange(0) > 0;
      for (auto& c : channels) EXPECT_FALSE(c.try_send(1));
      if (enough) break;
    }
    EXPECT_GT(failures, 2);
  });
}
#endif

}  // namespace
}  // namespace weft
