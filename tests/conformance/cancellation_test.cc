// Every blocking call of the core under a context and under a time limit: it ends, it says why, and
// nothing that was given or taken meanwhile is lost.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/condition_variable.h>
#include <weft/context.h>
#include <weft/error.h>
#include <weft/mutex.h>
#include <weft/once.h>
#include <weft/select.h>
#include <weft/wait_group.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using sched::wait_reason;
using test::eventually_waiting;

// One way to wait under a context for something that never comes: true if it ended with an error
// that agrees with the context's.
struct way {
  const char* name;
  wait_reason reason;
  std::function<bool(const context&)> wait;
};

template <class T>
bool agrees(const result<T>& r, const context& x) {
  return !r && r.error() == x.err();
}

std::vector<way> all_ways() {
  auto m = std::make_shared<mutex>();
  m->lock();
  auto wg = std::make_shared<wait_group>();
  wg->add(1);
  return {
      {"recv", wait_reason::chan_receive,
       [c = chan<int>(1)](const context& x) { return agrees(c.recv(x), x); }},
      {"recv_nil", wait_reason::chan_receive_nil,
       [](const context& x) { return agrees(chan<int>().recv(x), x); }},
      {"send", wait_reason::chan_send,
       [c = chan<int>(0)](const context& x) { return agrees(c.send(x, 1), x); }},
      {"send_nil", wait_reason::chan_send_nil,
       [](const context& x) { return agrees(chan<int>().send(x, 1), x); }},
      {"select_done", wait_reason::select,
       [c = chan<int>(0)](const context& x) { return select(on_recv(c), on_done(x)) == 1; }},
      {"select_two_contexts", wait_reason::select,
       [](const context& x) {
         auto [other, cancel] = with_cancel(background());
         return select(on_done(other), on_done(background()), on_done(x)) == 2;
       }},
      {"select_timeout_and_done", wait_reason::select,
       [](const context& x) { return select(on_timeout(1h), on_done(x)) == 1; }},
      {"select_done_channel", wait_reason::select,
       [c = chan<int>(0)](const context& x) { return select(on_recv(c), on_recv(x.done())) == 1; }},
      {"mutex", wait_reason::mutex_lock, [m](const context& x) { return !m->lock(x); }},
      {"condition_variable", wait_reason::cond_wait,
       [](const context& x) {
         mutex own;
         condition_variable cv;
         std::unique_lock hold(own);
         const bool notified = cv.wait(hold, x);
         return !notified && hold.owns_lock() && !own.try_lock();
       }},
      {"wait_group", wait_reason::wait_group_wait, [wg](const context& x) { return !wg->wait(x); }},
      {"join", wait_reason::join,
       [](const context& x) {
         chan<int> c(0);
         auto h = spawn([c] { return *c.recv(); });
         const bool ended = agrees(h.join(x), x) && h.joinable();
         c.send(7);
         return ended && h.join() == 7;
       }},
      {"once", wait_reason::once_wait,
       [](const context& x) {
         once o;
         chan<int> entered(0), leave(0);
         auto h = spawn([&] {
           o.call([&] {
             entered.send(1);
             leave.recv();
           });
         });
         entered.recv();
         const bool ended = !o.call(x, [] {});
         leave.send(1);
         h.join();
         return ended && o.call(background(), [] {});
       }},
      {"sleep", wait_reason::sleep, [](const context& x) { return !this_task::sleep_for(x, 1h); }},
      {"sleep_until", wait_reason::sleep,
       [](const context& x) { return !this_task::sleep_until(x, clock::now() + 1h); }},
  };
}

WEFT_WORLD_TEST(Cancellation, EndsAWaitUnderWay) {
  for (const way& w : all_ways()) {
    auto [ctx, cancel] = with_cancel(background());
    auto h = spawn([&, c = ctx] { return w.wait(c); });
    ASSERT_TRUE(eventually_waiting(w.reason, 1));
    cancel();
    EXPECT_TRUE(h.join()) << w.name;
  }
}

WEFT_WORLD_TEST(Cancellation, EndsManyWaitsInOneCall) {
  for (const way& w : all_ways()) {
    if (w.reason == wait_reason::join) continue;
    auto [ctx, cancel] = with_cancel(background());
    const context below = with_cancel(ctx).first;
    std::vector<join_handle<bool>> all;
    for (int i = 0; i < 100; ++i)
      all.push_back(spawn([&, c = i % 2 == 0 ? ctx : below] { return w.wait(c); }));
    ASSERT_TRUE(eventually_waiting(w.reason, 100));
    cancel();
    for (auto& h : all) EXPECT_TRUE(h.join()) << w.name;
  }
}

WEFT_WORLD_TEST(Cancellation, BeforehandEndsAtOnce) {
  auto [ctx, cancel] = with_cancel(background());
  cancel();
  for (const way& w : all_ways()) EXPECT_TRUE(w.wait(ctx)) << w.name;
}

WEFT_WORLD_TEST(Cancellation, DeadlineEndsTheWait) {
  for (const way& w : all_ways()) {
    auto [ctx, cancel] = with_timeout(background(), 1ms);
    EXPECT_TRUE(w.wait(ctx)) << w.name;
    EXPECT_EQ(ctx.err(), errc::context_deadline_exceeded);
  }
}

WEFT_WORLD_TEST(Cancellation, NilContextPanics) {
  EXPECT_THROW(static_cast<void>(once().call(context(), [] {})), panic_error);
  for (const way& w : all_ways()) {
    if (w.reason == wait_reason::join || w.reason == wait_reason::once_wait) continue;
    EXPECT_THROW(w.wait(context()), panic_error) << w.name;
  }
}

WEFT_WORLD_TEST(Cancellation, OfAnotherContextDoesNothing) {
  auto [ctx, cancel] = with_cancel(background());
  auto [other, cancel_other] = with_cancel(background());
  chan<int> c(0);
  auto h = spawn([&, x = ctx] { return c.recv(x); });
  ASSERT_TRUE(eventually_waiting(wait_reason::chan_receive, 1));
  cancel_other();
  c.send(3);
  EXPECT_EQ(h.join().value(), 3);
}

// A cancelled context forbids to begin; a time limit in the past does not.
WEFT_WORLD_TEST(Cancellation, WhatIsPossibleAtOnce) {
  auto [ctx, cancel] = with_cancel(background());
  chan<int> c(1);
  EXPECT_TRUE(c.send(ctx, 1).has_value());
  EXPECT_EQ(c.recv(ctx).value(), 1);
  EXPECT_TRUE(c.send_for(2, -1s).has_value());
  EXPECT_EQ(c.recv_until(clock::now() - 1s).value(), 2);
  mutex m;
  EXPECT_TRUE(m.lock(ctx));
  m.unlock();
  c.send(9);
  cancel();
  EXPECT_FALSE(m.lock(ctx));
  EXPECT_TRUE(m.try_lock());
  EXPECT_EQ(c.recv(ctx).error(), errc::canceled);
  EXPECT_EQ(c.size(), 1u);
  EXPECT_FALSE(wait_group().wait(ctx));
  EXPECT_TRUE(wait_group().wait_for(0s));
}

WEFT_WORLD_TEST(Cancellation, TimeLimits) {
  chan<int> c(0);
  EXPECT_EQ(c.recv_for(1ms).error(), errc::timed_out);
  EXPECT_EQ(c.recv_until(clock::now() + 1ms).error(), errc::timed_out);
  EXPECT_EQ(c.send_for(1, 1ms).error(), errc::timed_out);
  EXPECT_EQ(c.send_until(1, clock::now()).error(), errc::timed_out);
  EXPECT_EQ(chan<int>().recv_for(1ms).error(), errc::timed_out);
  EXPECT_EQ(recv_chan<int>(c).recv_for(0s).error(), errc::timed_out);
  EXPECT_EQ(send_chan<int>(c).send_for(1, 0s).error(), errc::timed_out);
  wait_group wg;
  wg.add(1);
  EXPECT_FALSE(wg.wait_for(1ms));
  EXPECT_FALSE(wg.wait_until(clock::now() + 1ms));
  wg.done();
  EXPECT_TRUE(wg.wait_for(1h));
  auto h = spawn([c] { return *c.recv(); });
  EXPECT_EQ(h.join_for(1ms).error(), errc::timed_out);
  EXPECT_EQ(h.join_until(clock::now()).error(), errc::timed_out);
  c.send(5);
  EXPECT_EQ(h.join_for(1h).value(), 5);
  auto thrower = spawn([]() -> int { throw 3; });
  EXPECT_THROW((void)thrower.join_for(1h), int);
  EXPECT_TRUE(spawn([] {}).join_for(1h).has_value());
  auto [ctx, cancel] = with_cancel(background());
  EXPECT_TRUE(this_task::sleep_for(ctx, 1ms));
  EXPECT_TRUE(this_task::sleep_for(ctx, 0s));
  EXPECT_TRUE(this_task::sleep_until(ctx, clock::now() + 1ms));
  EXPECT_TRUE(this_task::sleep_for(background(), 1ms));
}

WEFT_WORLD_TEST(Cancellation, ClosedIsToldApart) {
  chan<int> c(0);
  auto [ctx, cancel] = with_cancel(background());
  auto r = spawn([&, x = ctx] { return c.recv(x).error(); });
  ASSERT_TRUE(eventually_waiting(wait_reason::chan_receive, 1));
  c.close();
  EXPECT_EQ(r.join(), errc::channel_closed);
  EXPECT_EQ(c.recv_for(1h).error(), errc::channel_closed);
  EXPECT_EQ(c.send_for(1, 1h).error(), errc::channel_closed);
  EXPECT_EQ(c.send(ctx, 1).error(), errc::channel_closed);
  chan<int> d(0);
  auto s = spawn([&, x = ctx] { return d.send(x, 1).error(); });
  ASSERT_TRUE(eventually_waiting(wait_reason::chan_send, 1));
  d.close();
  EXPECT_EQ(s.join(), errc::channel_closed);
}

WEFT_WORLD_TEST(Cancellation, AValueThatWasNotSentIsStillTheSenders) {
  chan<std::unique_ptr<int>> c(0);
  auto v = std::make_unique<int>(4);
  EXPECT_EQ(c.send_for(std::move(v), 1ms).error(), errc::timed_out);
  ASSERT_NE(v, nullptr);  // NOLINT: that is the point
  auto [ctx, cancel] = with_timeout(background(), 1ms);
  EXPECT_EQ(c.send(ctx, std::move(v)).error(), errc::context_deadline_exceeded);
  ASSERT_NE(v, nullptr);  // NOLINT
  auto r = spawn([c] { return **c.recv(); });
  EXPECT_TRUE(c.send(background(), std::move(v)).has_value());
  EXPECT_EQ(r.join(), 4);
}

WEFT_WORLD_TEST(Cancellation, DoneIsACaseLikeOthers) {
  auto [ctx, cancel] = with_cancel(background());
  chan<int> c(1);
  bool ran = false;
  EXPECT_EQ(select(on_done(ctx), on_default()), 1);
  cancel();
  EXPECT_EQ(select(on_done(ctx, [&] { ran = true; }), on_default()), 0);
  EXPECT_TRUE(ran);
  EXPECT_EQ(select(on_done(background()), on_timeout(1ms)), 1);
  // As fair as E.2.2 asks.
  const int trials = 10'000;
  int done = 0;
  for (int i = 0; i < trials; ++i) {
    c.try_send(1);
    if (select(on_recv(c), on_done(ctx)) == 1) ++done;
  }
  EXPECT_LE(std::abs(done - trials / 2), 245);
}

// -- races: each wait ends in exactly one way, and what it took or gave is accounted for

class seeded {
 public:
  seeded() : seed_(std::random_device{}()), random_(seed_) {
    if (const char* s = std::getenv("WEFT_SEED")) random_.seed(seed_ = std::strtoul(s, nullptr, 0));
    std::printf("WEFT_SEED=%lu\n", static_cast<unsigned long>(seed_));
  }
  // The other side gets a head start of a random handful of steps, or none.
  void stagger() {
    for (uint64_t n = random_() % 4; n > 0; --n) this_task::yield();
  }
  uint64_t operator()(uint64_t n) { return random_() % n; }

 private:
  uint64_t seed_;
  std::mt19937_64 random_;
};

// A context of one of the kinds that end by themselves or by hand.
std::pair<context, cancel_function> some_context(seeded& random) {
  switch (random(3)) {
    case 0:
      return with_cancel(background());
    case 1:
      return with_timeout(background(), std::chrono::microseconds(random(50)));
    default: {
      auto outer = with_cancel(background());
      return {with_cancel(outer.first).first, outer.second};
    }
  }
}

WEFT_WORLD_TEST(CancellationRace, NoValueIsLostOrDoubled) {
  seeded random;
  const int rounds = test::sized(3000, 500);
  for (size_t capacity : {0, 1}) {
    chan<int> c(capacity);
    int64_t sent = 0, received = 0;
    for (int i = 1; i <= rounds; ++i) {
      auto [rx, cancel_r] = some_context(random);
      auto [sx, cancel_s] = some_context(random);
      auto r = spawn([c, x = rx] { return c.recv(x); });
      auto s = spawn([c, x = sx, i] { return c.send(x, i).has_value(); });
      random.stagger();
      if (random(2) == 0) cancel_r();
      random.stagger();
      cancel_s();
      cancel_r();
      if (result<int> v = r.join()) received += *v;
      if (s.join()) sent += i;
      while (auto v = c.try_recv()) received += *v;
      ASSERT_EQ(sent, received) << "round " << i;
    }
  }
}

WEFT_WORLD_TEST(CancellationRace, SelectTakesExactlyOne) {
  seeded random;
  const int rounds = test::sized(3000, 500);
  for (int i = 0; i < rounds; ++i) {
    chan<int> a(0), b(1);
    auto [ctx, cancel] = some_context(random);
    auto [other, cancel_other] = some_context(random);
    auto chosen = spawn(
        [=, x = ctx, y = other] { return select(on_recv(a), on_done(x), on_recv(b), on_done(y)); });
    auto sender = spawn([=, x = ctx] { return a.send(x, 1).has_value(); });
    random.stagger();
    if (random(2) == 0) b.send(2);
    random.stagger();
    cancel();
    cancel_other();
    const int which = chosen.join();
    const bool a_taken = sender.join();
    EXPECT_EQ(which == 0, a_taken) << "round " << i;
    if (which == 2) {
      EXPECT_EQ(b.size(), 0u);
    }
  }
}

WEFT_WORLD_TEST(CancellationRace, LocksExcludeAndNoneIsLost) {
  seeded random;
  mutex m;
  int inside = 0;
  std::atomic<int64_t> locked{0};
  int64_t counted = 0;
  wait_group wg;
  const int rounds = test::sized(3000, 400);
  chan<cancel_function> to_cancel(16);
  go([to_cancel] {
    for (const cancel_function& f : to_cancel) {
      this_task::yield();
      f();
    }
  });
  for (int t = 0; t < 6; ++t) {
    wg.go([&, t, salt = random(1000)] {
      for (int i = 0; i < rounds; ++i) {
        bool mine = true;
        if (t % 3 == 0) {
          m.lock();
        } else {
          auto [ctx, cancel] =
              with_timeout(background(), std::chrono::microseconds((salt + 13u * i) % 60));
          if (i % 4 == 0) to_cancel.try_send(cancel);
          mine = m.lock(ctx);
        }
        if (!mine) continue;
        ASSERT_EQ(++inside, 1);
        ++counted;
        ++locked;
        if (i % 8 == 0) this_task::yield();
        --inside;
        m.unlock();
      }
    });
  }
  wg.wait();
  to_cancel.close();
  EXPECT_EQ(counted, locked.load());
  EXPECT_TRUE(m.try_lock());
}

// One notification for two waiters, of which one is cancelled: one of them has it.
WEFT_WORLD_TEST(CancellationRace, NotificationsAreNotSwallowed) {
  seeded random;
  for (int i = 0; i < test::sized(1500, 300); ++i) {
    mutex m;
    condition_variable cv;
    auto [ctx, cancel] = with_cancel(background());
    auto limited = spawn([&, x = ctx] {
      std::unique_lock hold(m);
      return cv.wait(hold, x);
    });
    auto plain = spawn([&] {
      std::unique_lock hold(m);
      cv.wait(hold);
    });
    ASSERT_TRUE(eventually_waiting(wait_reason::cond_wait, 2));
    auto canceller = spawn([c = cancel] { c(); });
    random.stagger();
    cv.notify_one();
    canceller.join();
    if (limited.join()) {
      EXPECT_FALSE(plain.done());
      cv.notify_one();
    }
    plain.join();
  }
}

WEFT_WORLD_TEST(CancellationRace, JoinGetsTheResultOrKeepsTheHandle) {
  seeded random;
  for (int i = 0; i < test::sized(3000, 500); ++i) {
    auto [ctx, cancel] = some_context(random);
    auto h = spawn([i] {
      this_task::yield();
      return i;
    });
    auto joiner = spawn([&h, x = ctx] {
      result<int> r = h.join(x);
      return r ? *r : h.join();
    });
    random.stagger();
    cancel();
    EXPECT_EQ(joiner.join(), i);
  }
}

WEFT_WORLD_TEST(CancellationRace, WaitGroupMayDieAfterTheWait) {
  seeded random;
  for (int i = 0; i < test::sized(2000, 400); ++i) {
    auto wg = std::make_unique<wait_group>();
    wg->add(2);
    auto [ctx, cancel] = some_context(random);
    wait_group done;
    for (int k = 0; k < 2; ++k) {
      done.go([&] {
        this_task::yield();
        wg->done();
      });
    }
    done.go([c = cancel] { c(); });
    random.stagger();
    if (!wg->wait(ctx)) wg->wait();
    done.wait();
    wg.reset();
  }
}

// Waiters come, are woken, time out and are cancelled, all under one context whose siblings come
// and go: at the end every list is empty, or the destructors would find it.
WEFT_WORLD_TEST(CancellationRace, EverythingAtOnce) {
  seeded random;
  auto [root, cancel_root] = with_cancel(background());
  wait_group wg;
  mutex m;
  condition_variable cv;
  chan<int> c(2);
  std::atomic<int64_t> ended{0};
  const int rounds = test::sized(300, 60);
  for (int t = 0; t < 8; ++t) {
    wg.go([&, root = root, t, salt = random(1 << 20)] {
      std::mt19937_64 mine(salt);
      for (int i = 0; i < rounds; ++i) {
        auto [ctx, cancel] = with_timeout(root, std::chrono::microseconds(mine() % 100));
        after_func(ctx, [&] { ++ended; });
        switch ((mine() + static_cast<unsigned>(t)) % 6) {
          case 0:
            if (m.lock(ctx)) m.unlock();
            break;
          case 1:
            (void)c.send(ctx, i);
            break;
          case 2:
            (void)c.recv(ctx);
            break;
          case 3: {
            std::unique_lock hold(m);
            (void)cv.wait(hold, ctx);
            break;
          }
          case 4:
            select(on_recv(c), on_send(c, 1), on_done(ctx), on_done(root));
            cv.notify_all();
            break;
          default:
            (void)this_task::sleep_for(ctx, std::chrono::microseconds(mine() % 100));
        }
        cancel();
      }
    });
  }
  wg.wait();
  cancel_root();
  EXPECT_TRUE(test::eventually([&] { return ended == 8 * rounds; }));
}

}  // namespace
}  // namespace weft
