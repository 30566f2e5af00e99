// E.1 Channels, one test per statement.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/select.h>
#include <weft/wait_group.h>

#include <array>
#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;
using sched::wait_reason;
using test::eventually_waiting;
using test::panic_of;

WEFT_WORLD_TEST(E1_Channels, S1_NilIsNeverReady) {
  chan<int> nil;
  EXPECT_TRUE(nil.is_nil());
  EXPECT_EQ(nil.size(), 0u);
  EXPECT_EQ(nil.capacity(), 0u);
  EXPECT_FALSE(nil.try_send(1));
  bool open = false;
  EXPECT_EQ(nil.try_recv(open), std::nullopt);
  EXPECT_TRUE(open);
  EXPECT_EQ(select(on_recv(nil), on_send(nil, 1), on_default()), 2);
  EXPECT_EQ(panic_of([&] { nil.close(); }), "close of nil channel");
  EXPECT_EQ(panic_of([] { send_chan<int>{}.close(); }), "close of nil channel");
}

// The two tasks stay for ever; nothing can wake them.
TEST(E1_Channels, S1_NilBlocksForever) {
  test::in_world(2, [] {
    std::atomic<bool> came_back{false};
    go([&] {
      chan<int>{}.recv();
      came_back = true;
    });
    go([&] {
      chan<int>{}.send(1);
      came_back = true;
    });
    EXPECT_TRUE(eventually_waiting(wait_reason::chan_receive_nil, 1));
    EXPECT_TRUE(eventually_waiting(wait_reason::chan_send_nil, 1));
    EXPECT_FALSE(came_back.load());
    test::leave_tasks_behind(wait_reason::chan_receive_nil, 1);
    test::leave_tasks_behind(wait_reason::chan_send_nil, 1);
  });
}

WEFT_WORLD_TEST(E1_Channels, S2_ClosedDrainsThenAnswersAtOnceForEver) {
  chan<int> c(3);
  for (int i = 1; i <= 3; ++i) c.send(i);
  c.close();
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(c.recv(), i);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(c.recv(), std::nullopt);
    bool open = true;
    EXPECT_EQ(c.try_recv(open), std::nullopt);
    EXPECT_FALSE(open);
    bool empty = false;
    EXPECT_EQ(select(on_recv(c, [&](std::optional<int> v) { empty = !v; }), on_default()), 0);
    EXPECT_TRUE(empty);
  }
  for (int v : c) FAIL() << v;
}

WEFT_WORLD_TEST(E1_Channels, S2_SendAndCloseOnClosedPanic) {
  for (size_t capacity : {0u, 1u}) {
    chan<int> c(capacity);
    c.close();
    EXPECT_EQ(panic_of([&] { c.send(1); }), "send on closed channel");
    EXPECT_EQ(panic_of([&] { c.try_send(1); }), "send on closed channel");
    EXPECT_EQ(panic_of([&] { select(on_send(c, 1)); }), "send on closed channel");
    EXPECT_EQ(panic_of([&] { c.close(); }), "close of closed channel");
  }
}

WEFT_WORLD_TEST(E1_Channels, S2_CloseWakesEveryBlockedReceiver) {
  chan<int> c(0);
  wait_group wg;
  std::atomic<int> closed{0};
  for (int i = 0; i < 20; ++i) {
    wg.go([&, i] {
      if (i % 2 == 0) {
        if (!c.recv()) ++closed;
      } else {
        select(on_recv(c, [&](std::optional<int> v) { closed += v ? 0 : 1; }),
               on_recv(chan<int>{}));
      }
    });
  }
  EXPECT_TRUE(eventually_waiting(wait_reason::chan_receive, 10));
  EXPECT_TRUE(eventually_waiting(wait_reason::select, 10));
  c.close();
  wg.wait();
  EXPECT_EQ(closed.load(), 20);
}

WEFT_WORLD_TEST(E1_Channels, S2_CloseMakesEveryBlockedSenderPanic) {
  chan<std::string> c(1);
  c.send("buffered");
  wait_group wg;
  std::atomic<int> panics{0};
  for (int i = 0; i < 20; ++i) {
    wg.go([&, i] {
      auto send = [&] {
        if (i % 2 == 0)
          c.send("blocked");
        else
          select(on_send(c, "blocked"), on_recv(chan<int>{}));
      };
      if (panic_of(send) == "send on closed channel") ++panics;
    });
  }
  EXPECT_TRUE(eventually_waiting(wait_reason::chan_send, 10));
  EXPECT_TRUE(eventually_waiting(wait_reason::select, 10));
  c.close();
  wg.wait();
  EXPECT_EQ(panics.load(), 20);
  EXPECT_EQ(c.recv(), "buffered");
  EXPECT_EQ(c.recv(), std::nullopt);
}

WEFT_WORLD_TEST(E1_Channels, S3_LengthCountsTheBufferOnly) {
  chan<int> c(2);
  EXPECT_EQ(c.capacity(), 2u);
  EXPECT_EQ(c.size(), 0u);
  c.send(1);
  EXPECT_EQ(c.size(), 1u);
  c.send(2);
  go([c] { c.send(3); });
  EXPECT_TRUE(eventually_waiting(wait_reason::chan_send, 1));
  EXPECT_EQ(c.size(), 2u);
  EXPECT_EQ(c.recv(), 1);
  EXPECT_EQ(c.size(), 2u);  // the blocked sender's value took the free slot
  EXPECT_EQ(c.recv(), 2);
  EXPECT_EQ(c.recv(), 3);
  EXPECT_EQ(c.size(), 0u);
  chan<int> unbuffered(0);
  EXPECT_EQ(unbuffered.capacity(), 0u);
  EXPECT_EQ(unbuffered.size(), 0u);
  EXPECT_EQ(recv_chan<int>{}.size() + send_chan<int>{}.capacity(), 0u);
}

WEFT_WORLD_TEST(E1_Channels, S4_FifoOfValues) {
  for (size_t capacity : {0u, 1u, 2u, 7u, 128u}) {
    chan<int> c(capacity);
    go([c] {
      for (int i = 0; i < 500; ++i) c.send(i);
      c.close();
    });
    int next = 0;
    for (int v : c) ASSERT_EQ(v, next++);
    EXPECT_EQ(next, 500);
  }
}

WEFT_WORLD_TEST(E1_Channels, S4_FifoOfWaitingReceivers) {
  chan<int> c(0);
  std::vector<int> got(5, -1);
  wait_group wg;
  for (int i = 0; i < 5; ++i) {
    wg.go([&, i] { got[static_cast<size_t>(i)] = *c.recv(); });
    ASSERT_TRUE(eventually_waiting(wait_reason::chan_receive, i + 1));
  }
  for (int i = 0; i < 5; ++i) c.send(i);
  wg.wait();
  EXPECT_EQ(got, (std::vector<int>{0, 1, 2, 3, 4}));
}

WEFT_WORLD_TEST(E1_Channels, S4_FifoOfWaitingSenders) {
  for (size_t capacity : {0u, 2u}) {
    chan<int> c(capacity);
    for (size_t i = 0; i < capacity; ++i) c.send(-1);
    wait_group wg;
    for (int i = 0; i < 5; ++i) {
      wg.go([c, i] { c.send(i); });
      ASSERT_TRUE(eventually_waiting(wait_reason::chan_send, i + 1));
    }
    for (size_t i = 0; i < capacity; ++i) EXPECT_EQ(c.recv(), -1);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(c.recv(), i);
    wg.wait();
  }
}

WEFT_WORLD_TEST(E1_Channels, S4_WaitingReceiverBypassesTheBuffer) {
  chan<int> c(4);
  go([c] { c.recv(); });
  ASSERT_TRUE(eventually_waiting(wait_reason::chan_receive, 1));
  c.send(1);
  EXPECT_EQ(c.size(), 0u);
}

// The k-th receive comes before the (k + C)-th send has completed, plain memory tells the order.
WEFT_WORLD_TEST(E1_Channels, S5_CompletionOrder) {
  for (size_t capacity : {0u, 1u, 3u}) {
    constexpr size_t n = 300;
    chan<int> c(capacity);
    std::vector<int> received(n + 1, 0);  // written by the receiver, read by the sender
    auto sender = spawn([&] {
      size_t missing = 0;
      for (size_t k = 1; k <= n; ++k) {
        c.send(0);
        if (k > capacity) missing += received[k - capacity] == 1 ? 0 : 1;
      }
      return missing;
    });
    for (size_t k = 1; k <= n; ++k) {
      received[k] = 1;
      c.recv();
    }
    EXPECT_EQ(sender.join(), 0u) << "capacity " << capacity;
  }
}

WEFT_WORLD_TEST(E1_Channels, S5_CloseHappensBeforeItsReceive) {
  for (int i = 0; i < 100; ++i) {
    chan<int> c(0);
    int plain = 0;
    go([&plain, c] {
      plain = 1;
      c.close();
    });
    EXPECT_EQ(c.recv(), std::nullopt);
    ASSERT_EQ(plain, 1);
  }
}

// At every instant the channel holds a value or is closed, so a non-blocking receive must not fail.
WEFT_WORLD_TEST(E1_Channels, S6_NonBlockingReceiveRacingCloseSeesValueOrClosed) {
  std::atomic<int> failures{0};
  for (int i = 0; i < test::sized(5000, 500); ++i) {
    chan<int> c(1);
    c.send(1);
    auto h = spawn([c, &failures] {
      if (select(on_recv(c), on_default()) == 1) ++failures;
    });
    c.close();
    c.recv();
    h.join();
  }
  EXPECT_EQ(failures.load(), 0);
}

WEFT_WORLD_TEST(E1_Channels, S6_NonBlockingSelectRace) {
  std::atomic<int> failures{0};
  for (int i = 0; i < test::sized(5000, 500); ++i) {
    chan<int> a(1);
    chan<int> b(1);
    a.send(1);
    // One value lies in a or in b at every instant that matters: b gets its own before a loses it.
    auto h = spawn([&failures, a, b] {
      if (select(on_recv(a), on_recv(b), on_default()) == 2) ++failures;
    });
    b.send(1);
    select(on_recv(a), on_default());
    h.join();
  }
  EXPECT_EQ(failures.load(), 0);
}

WEFT_WORLD_TEST(E1_Channels, S6_TrySendAndTryRecvSucceedWheneverPossible) {
  chan<int> c(1);
  EXPECT_EQ(c.try_recv(), std::nullopt);
  EXPECT_TRUE(c.try_send(1));
  EXPECT_FALSE(c.try_send(2));
  EXPECT_EQ(c.try_recv(), 1);
  chan<int> u(0);
  EXPECT_FALSE(u.try_send(1));
  auto receiver = spawn([u] { return u.recv(); });
  ASSERT_TRUE(eventually_waiting(wait_reason::chan_receive, 1));
  EXPECT_TRUE(u.try_send(3));
  EXPECT_EQ(receiver.join(), 3);
  auto sender = spawn([u] { u.send(4); });
  ASSERT_TRUE(eventually_waiting(wait_reason::chan_send, 1));
  EXPECT_EQ(u.try_recv(), 4);
  sender.join();
}

WEFT_WORLD_TEST(E1_Channels, S7_EmptyElements) {
  struct nothing {};
  for (size_t capacity : {0u, 1u, 100u}) {
    chan<nothing> c(capacity);
    go([c] {
      for (int i = 0; i < 200; ++i) c.send({});
      c.close();
    });
    int n = 0;
    while (c.recv()) ++n;
    EXPECT_EQ(n, 200);
  }
}

TEST(E1_Channels, S7_ImpossibleSizesPanic) {
  constexpr size_t most = std::numeric_limits<size_t>::max();
  EXPECT_EQ(panic_of([] { chan<int> c(most); }), "makechan: size out of range");
  EXPECT_EQ(panic_of([] { chan<char> c(most); }), "makechan: size out of range");
  EXPECT_EQ(panic_of([] { chan<int> c(static_cast<size_t>(-1)); }), "makechan: size out of range");
  EXPECT_EQ(panic_of([] { chan<std::array<char, 1024>> c(most / 1024); }),
            "makechan: size out of range");
}

WEFT_WORLD_TEST(E1_Channels, S7_ElementsAreMovedAndDestroyedExactlyOnce) {
  static std::atomic<int> alive;
  struct counted {
    counted() { ++alive; }
    counted(counted&&) noexcept { ++alive; }
    ~counted() { --alive; }
  };
  alive = 0;
  {
    chan<counted> c(4);
    for (int i = 0; i < 3; ++i) c.send({});
    EXPECT_EQ(alive.load(), 3);
    c.recv();
    EXPECT_EQ(alive.load(), 2);
    EXPECT_FALSE(chan<counted>(0).try_send({}));
    select(on_send(c, counted{}));
    EXPECT_EQ(alive.load(), 3);
    select(on_recv(c, [](std::optional<counted> v) { EXPECT_TRUE(v.has_value()); }));
    EXPECT_EQ(alive.load(), 2);
    chan<counted> u(0);
    auto h = spawn([u] { u.recv(); });
    u.send({});
    h.join();
    EXPECT_EQ(alive.load(), 2);
  }
  EXPECT_EQ(alive.load(), 0);
  chan<std::unique_ptr<int>> p(1);
  p.send(std::make_unique<int>(5));
  EXPECT_EQ(**p.recv(), 5);
}

// 3000 selects wait on one channel; each leaves when another of its channels fires. Quadratic
// removal would take minutes; the work per select is counted by the number of them that end.
WEFT_WORLD_TEST(E1_Channels, S8_LeavingAWaitListDoesNotSearchIt) {
  const int n = test::sized(3000, 300);
  chan<int> crowd(0);
  std::vector<chan<int>> own;
  for (int i = 0; i < n; ++i) own.emplace_back(0);
  wait_group wg;
  for (auto& mine : own)
    wg.go([crowd, mine] { EXPECT_EQ(select(on_recv(crowd), on_recv(mine)), 1); });
  ASSERT_TRUE(eventually_waiting(wait_reason::select, n));
  for (auto& mine : own) mine.send(1);
  wg.wait();
  EXPECT_FALSE(crowd.try_send(1)) << "a select that had ended was still waiting";
}

// A value type that results also use for errors.
WEFT_WORLD_TEST(E1_Channels, ErrorCodesAreValuesToo) {
  chan<error_code> c(1);
  c.send(errc::eof);
  result<error_code> got = c.recv_for(1h);
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(*got, errc::eof);
  EXPECT_EQ(c.recv_until(std::chrono::steady_clock::time_point::min()).error(), errc::timed_out);
  c.close();
  EXPECT_EQ(c.recv(background()).error(), errc::channel_closed);
  auto h = spawn([] { return make_error_code(errc::closed); });
  got = h.join_for(1h);
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(*got, errc::closed);
}

}  // namespace
}  // namespace weft
