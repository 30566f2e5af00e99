#include "scheduler/stack.h"

#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/wait_group.h>

#include <csignal>
#include <cstring>
#include <set>
#include <vector>

#include "tests/conformance/world.h"
#include "tests/unit/scheduler/descend.h"

namespace weft::sched {
namespace {

using test::descend;

void descend_in_a_task(weft::stack_class cls, size_t bytes) {
  test::in_world(1, [=] {
    spawn_options o;
    o.stack = cls;
    auto h = spawn(o, [bytes] { return descend(bytes); });
    EXPECT_EQ(h.join(), bytes / 1024);
  });
}

TEST(Stack, IsReusedLastInFirstOut) {
  stack* a = acquire_stack(stack_class::compact);
  stack* b = acquire_stack(stack_class::compact);
  EXPECT_NE(a, b);
  release_stack(a);
  release_stack(b);
  EXPECT_EQ(acquire_stack(stack_class::compact), b);
  EXPECT_EQ(acquire_stack(stack_class::compact), a);
  release_stacks(nullptr);
  b->next = a;
  a->next = nullptr;
  release_stacks(b);
  int count = 0;
  stack* first = acquire_stacks(stack_class::compact, 2, count);
  EXPECT_EQ(count, 2);
  EXPECT_EQ(first, b);
  EXPECT_EQ(first->next, a);
  EXPECT_EQ(a->next, nullptr);
  release_stacks(first);
}

TEST(Stack, StatisticsBalance) {
  stack_stats before = stack_statistics();
  std::vector<stack*> held;
  for (int i = 0; i < 300; ++i) held.push_back(acquire_stack(stack_class::compact));
  EXPECT_EQ(std::set<stack*>(held.begin(), held.end()).size(), 300u);
  stack_stats during = stack_statistics();
  EXPECT_EQ(during.in_use, before.in_use + 300);
  EXPECT_GE(during.reserved_bytes, 300 * stack_reserve(stack_class::compact));
  for (stack* s : held) release_stack(s);
  EXPECT_EQ(stack_statistics().in_use, before.in_use);
}

TEST(Stack, BoundsLieWithinTheReservation) {
  for (stack_class cls : {stack_class::standard, stack_class::compact}) {
    stack* s = acquire_stack(cls);
    EXPECT_EQ(s->cls, cls);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(s->hi) % 16, 0u);
    auto usable = static_cast<size_t>(s->hi - s->lo);
    EXPECT_LT(usable, stack_reserve(cls));
    size_t overhead = cls == stack_class::standard ? size_t{68} << 10 : size_t{8} << 10;
    EXPECT_GE(usable, stack_reserve(cls) - overhead);
    s->lo[0] = 1;  // the lowest usable byte
    s->hi[-1] = 1;
    release_stack(s);
  }
}

TEST(Stack, GuardBelowItKillsTheProcess) {
  for (stack_class cls : {stack_class::standard, stack_class::compact}) {
    EXPECT_EXIT(
        {
          std::signal(SIGSEGV, SIG_DFL);
          stack* s = acquire_stack(cls);
          static_cast<volatile char*>(s->lo)[0] = 1;
          static_cast<volatile char*>(s->lo)[-1] = 1;
          ::_exit(0);
        },
        testing::KilledBySignal(SIGSEGV), "");
  }
}

TEST(Stack, OverflowDiesInsteadOfCorrupting) {
  EXPECT_EXIT(
      {
        std::signal(SIGSEGV, SIG_DFL);
        run([] {
          spawn_options o;
          o.stack = weft::stack_class::compact;
          spawn(o, [] { descend(size_t{512} << 10); }).join();
        });
        ::_exit(0);
      },
      [](int status) {
        return (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) ||
               (WIFEXITED(status) && WEXITSTATUS(status) == 2);
      },
      "");
}

TEST(Stack, DefaultTaskRecursesTensOfMegabytesDeep) {
  descend_in_a_task(weft::stack_class::standard,
                    test::sanitized ? size_t{512} << 10 : size_t{32} << 20);
}

TEST(Stack, CompactTaskHasFiftyKilobytes) {
  descend_in_a_task(weft::stack_class::compact, size_t{50} << 10);
}

TEST(Stack, DefaultTaskRecursesDeepAgainOnAReusedStack) {
  test::in_world(1, [] {
    for (int i = 0; i < 5; ++i)
      EXPECT_EQ(spawn([] { return descend(size_t{400} << 10); }).join(), 400u);
  });
}

// Bytes of resident memory and page tables that one parked task costs, its record included.
int64_t cost_of_parked_task(weft::stack_class cls, int tasks) {
  int64_t cost = 0;
  test::in_world(1, [&] {
    chan<int> gate(0);
    wait_group wg;
    int64_t before = test::memory_in_use();
    spawn_options o;
    o.stack = cls;
    wg.add(tasks);
    for (int i = 0; i < tasks; ++i) {
      go(o, [&] {
        gate.recv();
        wg.done();
      });
    }
    EXPECT_TRUE(test::eventually_waiting(wait_reason::chan_receive, tasks));
    cost = (test::memory_in_use() - before) / tasks;
    gate.close();
    wg.wait();
  });
  return cost;
}

// The bars of a parked task plus a tenth for what the allocator and the first slabs add at this
// number.
TEST(Stack, ParkedCompactTaskFitsItsBudget) {
  if (test::sanitized) GTEST_SKIP() << "sanitizers fatten every stack";
  EXPECT_LE(cost_of_parked_task(weft::stack_class::compact, 10'000), 4840);
}

TEST(Stack, ParkedDefaultTaskFitsItsBudget) {
  if (test::sanitized) GTEST_SKIP() << "sanitizers fatten every stack";
  EXPECT_LE(cost_of_parked_task(weft::stack_class::standard, 10'000), 9460);
}

}  // namespace
}  // namespace weft::sched
