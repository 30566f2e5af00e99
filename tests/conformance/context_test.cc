// E.5 context.
#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/context.h>
#include <weft/error.h>
#include <weft/mutex.h>
#include <weft/wait_group.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using test::eventually;
using test::panic_of;

bool is_closed(const recv_chan<std::monostate>& c) {
  bool open = true;
  c.try_recv(open);
  return !open;
}

std::string text(const std::exception_ptr& e) {
  if (e == nullptr) return "";
  try {
    std::rethrow_exception(e);
  } catch (const std::exception& x) {
    return x.what();
  }
}

WEFT_WORLD_TEST(E5_Context, S1_RootsAreNeverCancelled) {
  for (const context& root : {background(), todo(), without_cancel(background())}) {
    EXPECT_TRUE(root.done().is_nil());
    EXPECT_FALSE(root.err());
    EXPECT_EQ(root.cause(), nullptr);
    EXPECT_FALSE(root.deadline().has_value());
  }
  EXPECT_EQ(background(), background());
  EXPECT_FALSE(background() == todo());
}

WEFT_WORLD_TEST(E5_Context, S1_NilParentPanics) {
  const std::string want = "cannot create context from nil parent";
  const context nil;
  static const context_key<int> key;
  EXPECT_EQ(panic_of([&] { (void)with_cancel(nil); }), want);
  EXPECT_EQ(panic_of([&] { (void)with_cancel_cause(nil); }), want);
  EXPECT_EQ(panic_of([&] { (void)with_timeout(nil, 1s); }), want);
  EXPECT_EQ(panic_of([&] { (void)with_deadline(nil, clock::now()); }), want);
  EXPECT_EQ(panic_of([&] { (void)with_value(nil, key, 1); }), want);
  EXPECT_EQ(panic_of([&] { (void)without_cancel(nil); }), want);
  EXPECT_EQ(panic_of([&] { (void)nil.err(); }), "nil context");
  EXPECT_EQ(panic_of([&] { (void)nil.done(); }), "nil context");
  EXPECT_TRUE(nil.is_nil());
}

WEFT_WORLD_TEST(E5_Context, S2_CancelClosesDoneAndSetsErr) {
  auto [ctx, cancel] = with_cancel(background());
  const recv_chan<std::monostate> done = ctx.done();
  EXPECT_EQ(ctx.done().ref(), done.ref());
  EXPECT_FALSE(is_closed(done));
  EXPECT_FALSE(ctx.err());
  cancel();
  EXPECT_TRUE(is_closed(done));
  EXPECT_EQ(ctx.err(), errc::canceled);
  EXPECT_EQ(ctx.err().message(), "context canceled");
  cancel();
  cancel_function copy = cancel;
  copy();
  EXPECT_EQ(ctx.err(), errc::canceled);
  EXPECT_EQ(ctx.done().ref(), done.ref());
}

WEFT_WORLD_TEST(E5_Context, S2_ErrIsSetBeforeDoneIsObservable) {
  for (int i = 0; i < test::sized(300, 60); ++i) {
    auto [ctx, cancel] = with_cancel(background());
    wait_group wg;
    for (int k = 0; k < 3; ++k) {
      wg.go([&, c = ctx] {
        c.done().recv();
        EXPECT_EQ(c.err(), errc::canceled);
      });
    }
    wg.go([&, c = ctx] {
      while (!c.err()) this_task::yield();
      EXPECT_TRUE(is_closed(c.done()));
    });
    for (int k = 0; k < i % 5; ++k) this_task::yield();
    cancel();
    wg.wait();
  }
}

// The layers of Go's testLayers: deep, mixed, and cancelled somewhere.
WEFT_WORLD_TEST(E5_Context, S2_CancelReachesExactlyTheNodesBelow) {
  static const context_key<int> keys[4];
  std::mt19937 random(20261122);
  for (int round = 0; round < test::sized(100, 20); ++round) {
    std::vector<context> all{background()};
    std::vector<int> parent_of{-1};
    std::vector<cancel_function> cancels{{}};
    std::vector<bool> callable{false};
    for (int i = 1; i < 60; ++i) {
      const int above = static_cast<int>(random() % all.size());
      parent_of.push_back(above);
      const auto kind = random() % 4;
      callable.push_back(kind < 2);
      switch (kind) {
        case 0: {
          auto [c, f] = with_cancel(all[static_cast<size_t>(above)]);
          all.push_back(c);
          cancels.push_back(f);
          break;
        }
        case 1: {
          auto [c, f] = with_timeout(all[static_cast<size_t>(above)], 1h);
          all.push_back(c);
          cancels.push_back(f);
          break;
        }
        case 2:
          all.push_back(with_value(all[static_cast<size_t>(above)], keys[random() % 4], i));
          cancels.emplace_back();
          break;
        default:
          all.push_back(round % 3 == 0 ? without_cancel(all[static_cast<size_t>(above)])
                                       : with_cancel(all[static_cast<size_t>(above)]).first);
          cancels.emplace_back();
          // A shield ends the influence of what is above.
          if (round % 3 == 0) parent_of.back() = -1;
      }
    }
    std::vector<bool> want(all.size(), false);
    for (int k = 0; k < 3; ++k) {
      const size_t target = random() % all.size();
      if (all[target].done().is_nil()) continue;
      cancels[target]();
      for (size_t i = 0; i < all.size(); ++i) {
        bool below = false;
        for (int a = static_cast<int>(i); a >= 0; a = parent_of[static_cast<size_t>(a)])
          below = below || static_cast<size_t>(a) == target;
        want[i] = want[i] || (below && callable[target]);
        EXPECT_EQ(static_cast<bool>(all[i].err()), want[i]) << i << " of round " << round;
        EXPECT_EQ(is_closed(all[i].done()), want[i]);
      }
    }
  }
}

WEFT_WORLD_TEST(E5_Context, S2_ManyCancelAtOnceAndAllReturnAfterTheWholeTree) {
  for (int round = 0; round < test::sized(100, 20); ++round) {
    auto [root, cancel] = with_cancel(background());
    std::vector<context> leaves;
    std::vector<cancel_function> middle;
    for (int i = 0; i < 8; ++i) {
      auto [m, f] = with_cancel(root);
      middle.push_back(f);
      for (int k = 0; k < 8; ++k) leaves.push_back(with_cancel(m).first);
    }
    wait_group wg;
    for (int i = 0; i < 4; ++i) {
      wg.go([&, i, c = cancel] {
        if (i % 2 == 1) middle[static_cast<size_t>(i)]();
        c();
        for (const context& l : leaves) EXPECT_EQ(l.err(), errc::canceled);
      });
    }
    wg.wait();
  }
}

// Go's TestCancelRemoves, seen from outside: a million short-lived children do not pile up.
WEFT_WORLD_TEST(E5_Context, S2_ChildrenLeaveTheParent) {
  auto [root, cancel] = with_cancel(background());
  const int64_t before = test::memory_in_use();
  for (int i = 0; i < test::sized(200'000, 5000); ++i) {
    auto [c, f] = with_cancel(root);
    if (i % 2 == 0) f();  // the other half is just dropped
    auto [t, g] = with_timeout(root, 1h);
    if (i % 2 == 0) g();
    after_func(root, [] {})();
  }
  if (!test::sanitized) {
    EXPECT_LT(test::memory_in_use() - before, 16 << 20);
  }
  cancel();
}

WEFT_WORLD_TEST(E5_Context, S2_LongChainsAreCancelledAndDroppedWithoutRecursion) {
  auto [root, cancel] = with_cancel(background());
  context tip = root;
  static const context_key<int> key;
  for (int i = 0; i < test::sized(100'000, 3000); ++i)
    tip = i % 3 == 0 ? with_value(tip, key, i) : with_cancel(tip).first;
  cancel();
  EXPECT_EQ(tip.err(), errc::canceled);
}

WEFT_WORLD_TEST(E5_Context, S3_ChildOfCancelledIsCancelledAtOnce) {
  auto [root, cancel] = with_cancel_cause(background());
  cancel(std::runtime_error("why not"));
  for (const context& c : {with_cancel(root).first, with_timeout(root, 1h).first,
                           with_deadline(root, clock::now() - 1h).first}) {
    EXPECT_EQ(c.err(), errc::canceled);
    EXPECT_EQ(text(c.cause()), "why not");
    EXPECT_TRUE(is_closed(c.done()));
  }
  std::atomic<bool> ran{false};
  after_func(root, [&] { ran = true; });
  EXPECT_TRUE(eventually([&] { return ran.load(); }));
}

WEFT_WORLD_TEST(E5_Context, S3_ChildrenMadeDuringTheCancellation) {
  for (int round = 0; round < test::sized(200, 40); ++round) {
    auto [root, cancel] = with_cancel(background());
    auto maker = spawn([r = root] {
      std::vector<context> made;
      while (!r.err()) {
        made.push_back(with_cancel(r).first);
        if (made.size() % 8 == 0) this_task::yield();
      }
      for (const context& c : made) {
        c.done().recv();
        EXPECT_EQ(c.err(), errc::canceled);
      }
    });
    for (int k = 0; k < round % 7; ++k) this_task::yield();
    cancel();
    maker.join();
  }
}

WEFT_WORLD_TEST(E5_Context, S4_DeadlinePasses) {
  auto [ctx, cancel] = with_timeout(background(), 1ms);
  EXPECT_TRUE(ctx.deadline().has_value());
  ctx.done().recv();
  EXPECT_LE(*ctx.deadline(), clock::now());
  EXPECT_EQ(ctx.err(), errc::context_deadline_exceeded);
  EXPECT_EQ(ctx.err().message(), "context deadline exceeded");
  EXPECT_TRUE(is_timeout(ctx.err()));
  cancel();
  EXPECT_EQ(ctx.err(), errc::context_deadline_exceeded);
}

WEFT_WORLD_TEST(E5_Context, S4_DeadlineReachesAllBelow) {
  auto [ctx, cancel] = with_timeout(background(), 1ms);
  auto [child, cancel_child] = with_cancel(ctx);
  auto [late, cancel_late] = with_timeout(child, 1h);
  EXPECT_EQ(late.deadline(), ctx.deadline());
  late.done().recv();
  EXPECT_EQ(late.err(), errc::context_deadline_exceeded);
  EXPECT_EQ(child.err(), errc::context_deadline_exceeded);
}

WEFT_WORLD_TEST(E5_Context, S4_LaterDeadlineThanTheParentsHasNoEffect) {
  const auto first = clock::now() + 1h;
  auto [outer, c1] = with_deadline(background(), first);
  auto [inner, c2] = with_deadline(outer, first + 1h);
  EXPECT_EQ(inner.deadline(), first);
  auto [earlier, c3] = with_deadline(outer, first - 1min);
  EXPECT_EQ(earlier.deadline(), first - 1min);
  EXPECT_FALSE(without_cancel(earlier).deadline().has_value());
  auto [never, c4] = with_timeout(background(), std::chrono::nanoseconds::max());
  EXPECT_FALSE(never.deadline().has_value());
  EXPECT_FALSE(never.err());
}

WEFT_WORLD_TEST(E5_Context, S4_PastDeadlineIsCancelledAtOnce) {
  for (const context& c :
       {with_deadline(background(), clock::now() - 1s).first, with_timeout(background(), 0s).first,
        with_timeout(background(), -1h).first}) {
    EXPECT_EQ(c.err(), errc::context_deadline_exceeded);
    EXPECT_TRUE(is_closed(c.done()));
  }
}

TEST(E5_Context, S4_ErrorsCompareWithTheStandards) {
  const std::error_code canceled = error_code(errc::canceled);
  EXPECT_EQ(canceled, std::errc::operation_canceled);
  EXPECT_EQ(canceled.message(), "context canceled");
  EXPECT_NE(canceled, std::errc::timed_out);
  for (errc e : {errc::context_deadline_exceeded, errc::timed_out, errc::deadline_exceeded}) {
    const std::error_code late = error_code(e);
    EXPECT_EQ(late, std::errc::timed_out);
    EXPECT_TRUE(is_timeout(late));
    EXPECT_TRUE(error_code(e) == boost::system::errc::timed_out);
  }
  EXPECT_FALSE(is_timeout(errc::canceled));
  EXPECT_FALSE(is_timeout(errc::closed));
  EXPECT_TRUE(is_timeout({ETIMEDOUT, boost::system::system_category()}));
  EXPECT_FALSE(is_timeout({}));
}

WEFT_WORLD_TEST(E5_Context, S5_NearestValueWins) {
  static const context_key<std::string> name;
  static const context_key<int> number, other;
  const context a = with_value(background(), name, "a");
  const context b = with_value(with_cancel(a).first, number, 7);
  const context c = with_value(without_cancel(b), name, std::string("c"));
  EXPECT_EQ(*a.value(name), "a");
  EXPECT_EQ(a.value(number), nullptr);
  EXPECT_EQ(*b.value(name), "a");
  EXPECT_EQ(*b.value(number), 7);
  EXPECT_EQ(*c.value(name), "c");
  EXPECT_EQ(*c.value(number), 7);
  EXPECT_EQ(c.value(other), nullptr);
  EXPECT_EQ(background().value(name), nullptr);
}

WEFT_WORLD_TEST(E5_Context, S5_EarlyCancelStopsTheTimer) {
  auto alive = std::make_shared<int>(1);
  static const context_key<std::shared_ptr<int>> key;
  {
    auto [ctx, cancel] = with_timeout(with_value(background(), key, alive), 1h);
    EXPECT_EQ(alive.use_count(), 2);
    cancel();
  }
  // A timer that still ran would hold the chain.
  EXPECT_EQ(alive.use_count(), 1);
  { auto dropped = with_timeout(with_value(background(), key, alive), 1h).first; }
  EXPECT_EQ(alive.use_count(), 1);
}

WEFT_WORLD_TEST(E5_Context, S6_Cause) {
  auto [outer, cancel_outer] = with_cancel_cause(background());
  auto [inner, cancel_inner] = with_cancel_cause(outer);
  auto [leaf, cancel_leaf] = with_cancel(inner);
  EXPECT_EQ(outer.cause(), nullptr);
  cancel_inner(std::runtime_error("inner first"));
  cancel_outer(std::runtime_error("outer second"));
  cancel_inner(std::runtime_error("too late"));
  EXPECT_EQ(text(outer.cause()), "outer second");
  EXPECT_EQ(text(inner.cause()), "inner first");
  EXPECT_EQ(text(leaf.cause()), "inner first");
  EXPECT_EQ(leaf.err(), errc::canceled);

  auto [plain, cancel_plain] = with_cancel_cause(background());
  cancel_plain();
  EXPECT_THROW(std::rethrow_exception(plain.cause()), system_error);
  auto [code, cancel_code] = with_cancel_cause(background());
  cancel_code(error_code(errc::no_such_host));
  try {
    std::rethrow_exception(code.cause());
  } catch (const system_error& e) {
    EXPECT_EQ(e.code(), errc::no_such_host);
  }

  auto why = std::make_exception_ptr(std::runtime_error("too slow"));
  auto [timed, stop] = with_timeout_cause(background(), 0s, why);
  EXPECT_EQ(timed.err(), errc::context_deadline_exceeded);
  EXPECT_EQ(text(timed.cause()), "too slow");
  auto [early, stop_early] = with_deadline_cause(background(), clock::now() + 1h, why);
  stop_early();
  EXPECT_EQ(early.err(), errc::canceled);
  EXPECT_NE(text(early.cause()), "too slow");
}

WEFT_WORLD_TEST(E5_Context, S6_WithoutCancelKeepsValuesOnly) {
  static const context_key<int> key;
  auto [outer, cancel] = with_timeout(with_value(background(), key, 5), 1h);
  const context shield = without_cancel(outer);
  auto [below, cancel_below] = with_cancel(shield);
  cancel();
  EXPECT_FALSE(shield.err());
  EXPECT_TRUE(shield.done().is_nil());
  EXPECT_FALSE(below.err());
  EXPECT_EQ(*below.value(key), 5);
  cancel_below();
  EXPECT_EQ(below.err(), errc::canceled);
}

WEFT_WORLD_TEST(E5_Context, S6_AfterFuncRunsOnceInItsOwnTask) {
  auto [ctx, cancel] = with_cancel(background());
  chan<uint64_t> ran(4);
  stop_function a = after_func(ctx, [=] { ran.send(this_task::id()); });
  stop_function b = after_func(ctx, [=] { ran.send(0); });
  EXPECT_TRUE(b());
  EXPECT_FALSE(b());
  cancel();
  EXPECT_NE(*ran.recv(), this_task::id());
  EXPECT_FALSE(a());
  cancel();
  this_task::yield();
  EXPECT_FALSE(ran.try_recv().has_value());
}

WEFT_WORLD_TEST(E5_Context, S6_AfterFuncAndStopDecideOnce) {
  for (int round = 0; round < test::sized(500, 100); ++round) {
    auto [ctx, cancel] = with_cancel(background());
    auto ran = std::make_shared<std::atomic<int>>(0);
    stop_function stop = after_func(ctx, [ran] { ran->fetch_add(1); });
    auto stopper = spawn([stop] { return stop(); });
    cancel();
    if (stopper.join()) {
      EXPECT_EQ(ran->load(), 0);
    } else {
      EXPECT_TRUE(eventually([&] { return ran->load() == 1; }));
    }
  }
}

WEFT_WORLD_TEST(E5_Context, S6_AfterFuncOutlivesTheHandles) {
  chan<int> ran(2);
  auto [root, cancel] = with_cancel(background());
  after_func(with_cancel(root).first, [=] { ran.send(1); });
  after_func(with_timeout(background(), 1ms).first, [=] { ran.send(2); });
  EXPECT_EQ(ran.recv(), 2);
  cancel();
  EXPECT_EQ(ran.recv(), 1);
}

// Nothing can cancel it any more: the function and what it holds go.
WEFT_WORLD_TEST(E5_Context, S6_DroppedCancelFunctionLeaksNothing) {
  auto alive = std::make_shared<int>(1);
  {
    auto made = with_cancel(background());
    context child = with_timeout(with_cancel(made.first).first, 1h).first;
    context below = with_cancel(made.first).first;
    after_func(made.first, [alive] {});
    after_func(below, [alive] {});
    stop_function kept = after_func(below, [alive] {});
    EXPECT_EQ(alive.use_count(), 4);
    made.second = {};
    EXPECT_EQ(alive.use_count(), 2);
    after_func(below, [alive] {});
    EXPECT_EQ(alive.use_count(), 2);
    EXPECT_TRUE(kept());
  }
  EXPECT_EQ(alive.use_count(), 1);
}

WEFT_WORLD_TEST(E5_Context, CancelGuardCancelsAtTheEndOfTheScope) {
  context outside;
  {
    auto [ctx, cancel] = with_cancel(background());
    cancel_guard on_exit(cancel);
    outside = ctx;
    EXPECT_FALSE(outside.err());
  }
  EXPECT_EQ(outside.err(), errc::canceled);
}

WEFT_WORLD_TEST(E5_Context, TasksInheritTheContextTheyAreStartedUnder) {
  static const context_key<int> key;
  EXPECT_EQ(this_task::context(), background());
  const context five = with_value(background(), key, 5);
  with_context(five, [&] {
    EXPECT_EQ(this_task::context(), five);
    spawn([&] {
      EXPECT_EQ(this_task::context(), five);
      with_context(background(), [&] { EXPECT_EQ(this_task::context(), background()); });
      spawn([&] { EXPECT_EQ(this_task::context(), five); }).join();
    }).join();
  });
  EXPECT_THROW(with_context(five, [] { throw 1; }), int);
  EXPECT_EQ(this_task::context(), background());
  std::thread([&] {
    EXPECT_EQ(this_task::context(), background());
    with_context(five, [&] { EXPECT_EQ(this_task::context(), five); });
  }).join();
}

// The value dies on the task that ends, where user code may do anything.
WEFT_WORLD_TEST(E5_Context, ValuesMayUseTheRuntimeWhenTheyDie) {
  struct noisy {
    chan<int> to;
    explicit noisy(chan<int> c) : to(std::move(c)) {}
    noisy(const noisy&) = delete;
    ~noisy() {
      this_task::yield();
      to.send(1);
    }
  };
  static const context_key<noisy> key;
  chan<int> died(0);
  with_context(with_value(background(), key, died), [] { go([] { this_task::yield(); }); });
  EXPECT_EQ(died.recv(), 1);
}

TEST(E5_Context, WorksWithoutARunningRuntime) {
  auto [ctx, cancel] = with_cancel(background());
  auto [timed, stop] = with_timeout(ctx, 1h);
  std::thread waiter([c = timed] { c.done().recv(); });
  cancel();
  waiter.join();
  EXPECT_EQ(timed.err(), errc::canceled);
}

}  // namespace
}  // namespace weft
