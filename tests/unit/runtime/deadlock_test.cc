// find_deadlocks(): which waits form a cycle and which do not. Each deadlock is broken at the end
// by a task that unlocks what it does not hold, which weft's mutex allows.
#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/context.h>
#include <weft/deadlock.h>
#include <weft/mutex.h>
#include <weft/recursive_mutex.h>
#include <weft/shared_mutex.h>
#include <weft/task_group.h>
#include <weft/wait_group.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using sched::wait_reason;
using test::eventually;

// The deadlocks, once there are n of them.
std::vector<deadlock> wait_for_deadlocks(size_t n) {
  std::vector<deadlock> found;
  EXPECT_TRUE(eventually([&] {
    found = find_deadlocks();
    return found.size() == n;
  })) << found.size();
  for (const deadlock& d : found) {
    for (size_t i = 0; i < d.waits.size(); ++i)
      EXPECT_EQ(d.waits[i].waits_for, d.waits[(i + 1) % d.waits.size()].task);
  }
  return found;
}

std::set<std::string> names(const deadlock& d) {
  std::set<std::string> s;
  for (const deadlock_wait& w : d.waits) s.insert(w.name);
  return s;
}

WEFT_WORLD_TEST(FindDeadlocks, TwoTasksAndTwoMutexes) {
  mutex a;
  mutex b;
  chan<int> locked(0);
  chan<int> step(0);
  wait_group wg;
  auto first = [&](mutex& x, mutex& y) {
    wg.add(1);
    return [&x, &y, locked, step, &wg] {
      x.lock();
      locked.send(1);
      step.recv();
      y.lock();
      y.unlock();
      wg.done();
    };
  };
  go({.name = "left"}, first(a, b));
  go({.name = "right"}, first(b, a));
  locked.recv();
  locked.recv();
  EXPECT_TRUE(find_deadlocks().empty());
  step.send(1);
  // One waits for the other, which waits for this task: no cycle yet.
  EXPECT_TRUE(test::eventually_waiting(wait_reason::mutex_lock, 1));
  EXPECT_TRUE(find_deadlocks().empty());
  step.send(1);
  std::vector<deadlock> found = wait_for_deadlocks(1);
  if (!found.empty()) {
    EXPECT_EQ(names(found[0]), (std::set<std::string>{"left", "right"}));
    std::set<const void*> objects;
    for (const deadlock_wait& w : found[0].waits) {
      objects.insert(w.object);
      EXPECT_EQ(w.reason, "sync.Mutex.Lock");
    }
    EXPECT_EQ(objects, (std::set<const void*>{&a, &b}));
  }
  a.unlock();
  b.unlock();
  wg.wait();
  EXPECT_TRUE(find_deadlocks().empty());
}

WEFT_WORLD_TEST(FindDeadlocks, AMutexLockedTwiceByItsOwner) {
  mutex m;
  auto h = spawn({.name = "twice"}, [&m] {
    m.lock();
    m.lock();
    m.unlock();
  });
  std::vector<deadlock> found = wait_for_deadlocks(1);
  if (!found.empty()) {
    EXPECT_EQ(found[0].waits.size(), 1u);
    EXPECT_EQ(found[0].waits[0].name, "twice");
    EXPECT_EQ(found[0].waits[0].object, &m);
  }
  m.unlock();
  h.join();
  EXPECT_TRUE(find_deadlocks().empty());
}

// One holds x and wants y, the other holds y and wants x. Both joined by whoever breaks it.
template <class LockX, class LockY, class LockYAgain, class LockXAgain>
auto start_cycle(wait_group& wg, LockX lock_x, LockY lock_y, LockYAgain want_y, LockXAgain want_x) {
  chan<int> locked(0);
  chan<int> step(0);
  auto first = [&](const char* name, auto hold, auto want) {
    wg.add(1);
    go({.name = name}, [=, &wg] {
      hold();
      locked.send(1);
      step.recv();
      want();
      wg.done();
    });
  };
  first("left", lock_x, want_y);
  first("right", lock_y, want_x);
  locked.recv();
  locked.recv();
  step.send(1);
  step.send(1);
}

WEFT_WORLD_TEST(FindDeadlocks, ThroughTheWriterOfASharedMutex) {
  shared_mutex s;
  mutex m;
  wait_group wg;
  // A reader waits for the writer, which waits for what the reader holds.
  start_cycle(
      wg, [&] { s.lock(); }, [&] { m.lock(); }, [&] { m.lock(); }, [&] { s.lock_shared(); });
  std::vector<deadlock> found = wait_for_deadlocks(1);
  if (!found.empty()) {
    EXPECT_EQ(names(found[0]), (std::set<std::string>{"left", "right"}));
    for (const deadlock_wait& w : found[0].waits) {
      EXPECT_EQ(w.object, w.name == "left" ? static_cast<const void*>(&m) : &s);
      EXPECT_EQ(w.reason, w.name == "left" ? "sync.Mutex.Lock" : "sync.RWMutex.RLock");
    }
  }
  m.unlock();
  s.unlock();
  wg.wait();
  EXPECT_TRUE(find_deadlocks().empty());
}

WEFT_WORLD_TEST(FindDeadlocks, TwoWritersOfTwoSharedMutexes) {
  shared_mutex a;
  shared_mutex b;
  wait_group wg;
  start_cycle(
      wg, [&] { a.lock(); }, [&] { b.lock(); }, [&] { b.lock(); }, [&] { a.lock(); });
  std::vector<deadlock> found = wait_for_deadlocks(1);
  if (!found.empty()) {
    EXPECT_EQ(names(found[0]), (std::set<std::string>{"left", "right"}));
    for (const deadlock_wait& w : found[0].waits) EXPECT_EQ(w.reason, "sync.RWMutex.Lock");
  }
  a.unlock();
  b.unlock();
  wg.wait();
}

WEFT_WORLD_TEST(FindDeadlocks, AWriterThatLocksTwiceButNotOneThatWaitsForReaders) {
  shared_mutex s;
  s.lock_shared();
  auto writer = spawn({.name = "writer"}, [&s] {
    s.lock();
    s.lock();
    s.unlock();
  });
  EXPECT_TRUE(test::eventually_waiting(wait_reason::rwmutex_lock, 1));
  EXPECT_TRUE(find_deadlocks().empty());
  s.unlock_shared();
  std::vector<deadlock> found = wait_for_deadlocks(1);
  if (!found.empty()) {
    EXPECT_EQ(names(found[0]), (std::set<std::string>{"writer"}));
    EXPECT_EQ(found[0].waits[0].object, &s);
  }
  s.unlock();
  writer.join();
  EXPECT_TRUE(find_deadlocks().empty());
}

// A recursive mutex belongs to its owner, so nobody breaks the cycle from outside: one of its waits
// has a limit, which a context sets.
WEFT_WORLD_TEST(FindDeadlocks, TwoRecursiveMutexes) {
  recursive_mutex a;
  recursive_mutex b;
  wait_group wg;
  const auto cancellable = with_cancel(background());
  start_cycle(
      wg,
      [&] {
        a.lock();
        a.lock();
      },
      [&] { b.lock(); },
      [&] {
        EXPECT_FALSE(b.lock(cancellable.first));
        a.unlock();
        a.unlock();
      },
      [&] {
        a.lock();
        a.unlock();
        b.unlock();
      });
  std::vector<deadlock> found = wait_for_deadlocks(1);
  if (!found.empty()) {
    EXPECT_EQ(names(found[0]), (std::set<std::string>{"left", "right"}));
    for (const deadlock_wait& w : found[0].waits) EXPECT_EQ(w.object, w.name == "left" ? &b : &a);
  }
  cancellable.second();
  wg.wait();
  EXPECT_TRUE(find_deadlocks().empty());
}

WEFT_WORLD_TEST(FindDeadlocks, AJoinUnderALockThatTheJoinedTaskWants) {
  mutex m;
  auto h = spawn({.name = "joiner"}, [&m] {
    std::lock_guard hold(m);
    spawn({.name = "joined"}, [&m] { m.lock(); }).join();
  });
  std::vector<deadlock> found = wait_for_deadlocks(1);
  if (!found.empty()) {
    EXPECT_EQ(names(found[0]), (std::set<std::string>{"joined", "joiner"}));
  }
  m.unlock();
  h.join();
}

WEFT_WORLD_TEST(FindDeadlocks, AWaitGroupOneOfWhoseTasksIsStuck) {
  mutex m;
  chan<int> gate(0);
  auto h = spawn({.name = "waiter"}, [&m, gate] {
    std::unique_lock hold(m);
    wait_group wg;
    for (int i = 0; i < 3; ++i) wg.go([gate] { gate.recv(); });
    wg.go([&m] {
      this_task::set_name("stuck");
      m.lock();
    });
    wg.wait();
    hold.release();
  });
  std::vector<deadlock> found = wait_for_deadlocks(1);
  if (!found.empty()) {
    EXPECT_EQ(names(found[0]), (std::set<std::string>{"stuck", "waiter"}));
  }
  m.unlock();
  for (int i = 0; i < 3; ++i) gate.send(1);
  h.join();
}

WEFT_WORLD_TEST(FindDeadlocks, ATaskGroupOneOfWhoseTasksIsStuck) {
  mutex m;
  chan<int> gate(0);
  auto h = spawn({.name = "owner"}, [&m, gate] {
    std::unique_lock hold(m);
    task_group g;
    for (int i = 0; i < 3; ++i) g.go([gate] { gate.recv(); });
    g.go({.name = "stuck"}, [&m] { m.lock(); });
    g.wait();
    hold.release();
  });
  std::vector<deadlock> found = wait_for_deadlocks(1);
  if (!found.empty()) {
    EXPECT_EQ(names(found[0]), (std::set<std::string>{"owner", "stuck"}));
  }
  m.unlock();
  for (int i = 0; i < 3; ++i) gate.send(1);
  h.join();
  EXPECT_TRUE(find_deadlocks().empty());
}

WEFT_WORLD_TEST(FindDeadlocks, AThreadThatIsNoTaskCanBePartOfOne) {
  mutex m;
  chan<int> locked(0);
  std::optional<join_handle<void>> h;
  std::thread thread([&] {
    std::lock_guard hold(m);
    h = spawn({.name = "wants what the thread holds"}, [&m] { m.lock(); });
    locked.send(1);
    h->join();
  });
  locked.recv();
  std::vector<deadlock> found = wait_for_deadlocks(1);
  if (!found.empty()) {
    EXPECT_EQ(found[0].waits.size(), 2u);
  }
  m.unlock();
  blocking([&] { thread.join(); });
}

// Locks that change hands all the time, always in order: whatever is seen of them, no cycle is.
WEFT_WORLD_TEST(FindDeadlocks, NoneWhereLocksAreTakenInOrder) {
  mutex m[3];
  std::atomic<bool> stop{false};
  wait_group wg;
  for (int i = 0; i < 6; ++i) {
    wg.go([&, i] {
      while (!stop) {
        std::lock_guard first(m[i % 2]);
        std::lock_guard second(m[2]);
        this_task::yield();
      }
    });
  }
  for (int i = 0; i < test::sized(2000, 200); ++i) {
    EXPECT_TRUE(find_deadlocks().empty());
    if (i % 8 == 0) this_task::yield();
  }
  stop = true;
  wg.wait();
}

}  // namespace
}  // namespace weft
