// What is over when a wait returns, and what a failed start or a failed wait leaves behind.
#include <gtest/gtest.h>
#include <weft/barrier.h>
#include <weft/chan.h>
#include <weft/condition_variable.h>
#include <weft/context.h>
#include <weft/mutex.h>
#include <weft/task_group.h>
#include <weft/task_local.h>
#include <weft/wait_group.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <stdexcept>
#include <utility>

#include "scheduler/park.h"
#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;

// Counts its ends, each of which takes a while.
struct slow_end {
  std::atomic<int>* ends = nullptr;
  slow_end() = default;
  explicit slow_end(std::atomic<int>& counter) : ends(&counter) {}
  slow_end(slow_end&& o) noexcept : ends(std::exchange(o.ends, nullptr)) {}
  slow_end& operator=(slow_end&& o) noexcept {
    std::swap(ends, o.ends);
    return *this;
  }
  ~slow_end() {
    if (ends == nullptr) return;
    test::let_others_run();
    ++*ends;
  }
};

struct throws_when_copied {
  throws_when_copied() = default;
  throws_when_copied(throws_when_copied&&) noexcept = default;
  throws_when_copied(const throws_when_copied&) { throw std::runtime_error("no copies"); }
  void operator()() const {}
};

WEFT_WORLD_TEST(Lifetimes, AWaitUnderTheNilContextChangesNothing) {
  mutex m;
  condition_variable cv;
  std::unique_lock hold(m);
  EXPECT_THROW(static_cast<void>(cv.wait(hold, context())), panic_error);
  EXPECT_FALSE(m.try_lock()) << "the lock is not held any more";
  // Nor does a place in the queue stay that would swallow a notification.
  auto waiter = spawn([&] {
    std::unique_lock mine(m);
    cv.wait(mine);
  });
  hold.unlock();
  ASSERT_TRUE(test::eventually_waiting(sched::wait_reason::cond_wait, 1));
  cv.notify_one();
  waiter.join();
}

// A lock that its user does not hold makes unlock() throw.
WEFT_WORLD_TEST(Lifetimes, AWaitWhoseUnlockThrowsLeavesTheQueue) {
  mutex m;
  condition_variable cv;
  std::unique_lock<mutex> nothing(m, std::defer_lock);
  EXPECT_THROW(cv.wait(nothing), std::system_error);
  EXPECT_THROW(static_cast<void>(cv.wait(nothing, background())), std::system_error);
  auto waiter = spawn([&] {
    std::unique_lock mine(m);
    cv.wait(mine);
  });
  ASSERT_TRUE(test::eventually_waiting(sched::wait_reason::cond_wait, 1));
  cv.notify_one();
  waiter.join();
}

// The context dies after the task's locals could, and what its values leave there dies as well.
WEFT_WORLD_TEST(Lifetimes, LocalsMadeByADyingContextDieWithTheTask) {
  static task_local<std::shared_ptr<int>> local;
  struct maker {
    std::shared_ptr<int> p;
    explicit maker(std::shared_ptr<int> v) : p(std::move(v)) {}
    maker(const maker&) = delete;
    ~maker() { local.get() = p; }
  };
  static const context_key<maker> key;
  auto alive = std::make_shared<int>(1);
  chan<int> gate(0);
  with_context(with_value(background(), key, alive), [&] { go([gate] { gate.recv(); }); });
  EXPECT_EQ(alive.use_count(), 2);
  gate.send(1);
  EXPECT_TRUE(test::eventually([&] { return alive.use_count() == 1; }));
  EXPECT_EQ(local.get_if(), nullptr);
  spawn([] { EXPECT_EQ(local.get_if(), nullptr); }).join();
}

// The last reference to the value goes away inside the cancellation that its end asks for again.
WEFT_WORLD_TEST(Lifetimes, ADyingContextValueMayCancelAnAncestor) {
  struct canceller {
    cancel_function cancel;
    explicit canceller(cancel_function f) : cancel(std::move(f)) {}
    canceller(const canceller&) = delete;
    ~canceller() { cancel(); }
  };
  static const context_key<canceller> key;
  auto [root, cancel] = with_cancel(background());
  chan<int> ran(1);
  {
    auto [child, unused] = with_cancel(with_value(root, key, cancel));
    // The function keeps the child alive until the child is cancelled.
    after_func(child, [ran] { ran.send(1); });
  }
  cancel();
  EXPECT_EQ(ran.recv(), 1);
  EXPECT_EQ(root.err(), errc::canceled);
}

WEFT_WORLD_TEST(Lifetimes, TheFunctionIsGoneWhenTheWaitReturns) {
  std::atomic<int> ends{0};
  EXPECT_EQ(spawn([e = slow_end(ends)] { return 3; }).join(), 3);
  EXPECT_EQ(ends, 1);
  EXPECT_THROW(spawn([e = slow_end(ends)] { throw 1; }).join(), int);
  EXPECT_EQ(ends, 2);
  wait_group wg;
  wg.go([e = slow_end(ends)] {});
  wg.wait();
  EXPECT_EQ(ends, 3);
  task_group g;
  g.go([e = slow_end(ends)] {});
  g.wait();
  EXPECT_EQ(ends, 4);
}

// Before its locals, which its end may use.
WEFT_WORLD_TEST(Lifetimes, TheFunctionsEndMayUseLocals) {
  static task_local<std::shared_ptr<int>> local;
  struct uses_local {
    std::shared_ptr<int> p;
    explicit uses_local(std::shared_ptr<int> v) : p(std::move(v)) {}
    uses_local(uses_local&&) noexcept = default;
    ~uses_local() {
      if (p != nullptr) local.get() = std::move(p);
    }
  };
  auto alive = std::make_shared<int>(1);
  spawn([e = uses_local(alive)] {}).join();
  EXPECT_EQ(alive.use_count(), 1);
  wait_group wg;
  wg.go([e = uses_local(alive)] {});
  wg.wait();
  EXPECT_EQ(alive.use_count(), 1);
}

// The last to arrive lets the others go, who may destroy it before that call has returned.
WEFT_WORLD_TEST(Lifetimes, ABarrierMayDieWhenAllWaitsHaveReturned) {
  for (int i = 0; i < test::sized(3000, 300); ++i) {
    alignas(barrier<>) std::byte room[sizeof(barrier<>)];
    auto* b = new (room) barrier<>(2);
    auto token = b->arrive();
    auto last = spawn([b] { b->arrive_and_wait(); });
    b->wait(std::move(token));
    b->~barrier();
    std::memset(room, 0xff, sizeof room);  // its lock looks taken now, for ever
    last.join();
  }
}

WEFT_WORLD_TEST(Lifetimes, LocalsAreGoneWhenTheWaitReturns) {
  static task_local<slow_end> local;
  std::atomic<int> ends{0};
  {
    task_group g;
    for (int i = 0; i < 4; ++i) g.go([&] { local.get() = slow_end(ends); });
    g.wait();
    EXPECT_EQ(ends, 4);
  }
  wait_group wg;
  for (int i = 0; i < 4; ++i) wg.go([&] { local.get() = slow_end(ends); });
  wg.wait();
  EXPECT_EQ(ends, 8);
}

// The place of creation is the user's line, not one inside the group.
WEFT_WORLD_TEST(Lifetimes, TasksOfGroupsKnowWhereTheyWereStarted) {
  chan<int> gate(0);
  auto body = [gate] {
    this_task::set_name("of a group");
    gate.recv();
  };
  task_group g;
  g.go(body);
  g.go(body);
  EXPECT_TRUE(g.try_go(body));
  wait_group wg;
  wg.go(body);
  wg.go(body);
  ASSERT_TRUE(test::eventually_waiting(sched::wait_reason::chan_receive, 5));
  std::multiset<uintptr_t> places;
  sched::for_each_task(
      [](sched::task& t, void* arg) {
        if (t.name != nullptr && std::strcmp(t.name, "of a group") == 0)
          static_cast<std::multiset<uintptr_t>*>(arg)->insert(t.created_by);
      },
      &places);
  EXPECT_EQ(places.size(), 5u);
  for (uintptr_t p : places) EXPECT_EQ(places.count(p), 1u);
  for (int i = 0; i < 5; ++i) gate.send(1);
  g.wait();
  wg.wait();
}

WEFT_WORLD_TEST(Lifetimes, AFunctionThatCannotBeCopiedStartsNothing) {
  const throws_when_copied f;
  task_group g;
  g.set_limit(1);
  EXPECT_THROW(g.go(f), std::runtime_error);
  EXPECT_THROW(static_cast<void>(g.try_go(f)), std::runtime_error);
  wait_group wg;
  EXPECT_THROW(wg.go(f), std::runtime_error);
  ASSERT_TRUE(wg.wait_for(0ns));
  std::atomic<int> ran{0};
  ASSERT_TRUE(g.try_go([&] { ++ran; })) << "its place is still taken";
  g.wait();
  EXPECT_EQ(ran, 1);
}

}  // namespace
}  // namespace weft
