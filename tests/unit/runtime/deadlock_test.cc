// find_deadlocks(): which waits form a cycle and which do not. Each deadlock is broken at the end
// by a task that unlocks what it does not hold, which weft's mutex allows.
#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/deadlock.h>
#include <weft/mutex.h>
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
