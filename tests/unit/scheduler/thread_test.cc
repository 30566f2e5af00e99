// Records of OS threads, which are reused for the life of the process.
#include "scheduler/thread.h"

#include <gtest/gtest.h>

#include <vector>

#include "scheduler/task.h"

namespace weft::sched {
namespace {

// What a thread left behind, as one that ended while its task was locked to it, during a blocking
// call, or as a service thread does, is not seen by the thread that gets the record next.
TEST(ThreadRecord, IsResetWhenItIsReused) {
  thread* first = make_thread_record();
  task other;
  first->crit.store(1);
  first->steal.store(2);
  first->declared_blocking.store(true);
  first->asleep.store(true);
  first->service.store(true);
  first->locked_task = &other;
  first->lock_depth = 3;
  first->picked = &other;
  first->own_task = &other;
  first->current.store(&other);
  first->foreign = true;
  first->spinning = true;
  first->p.store(nullptr);
  first->crit.store(0);
  recycle_thread_record(first);

  thread* again = nullptr;
  std::vector<thread*> taken;
  while (again != first) {  // the free list may hold others
    again = make_thread_record();
    taken.push_back(again);
    ASSERT_LT(taken.size(), 10'000u);
  }
  EXPECT_EQ(again->crit.load(), 0);
  EXPECT_EQ(again->steal.load(), 0);
  EXPECT_EQ(again->p.load(), nullptr);
  EXPECT_EQ(again->current.load(), nullptr);
  EXPECT_FALSE(again->declared_blocking.load());
  EXPECT_FALSE(again->asleep.load());
  EXPECT_FALSE(again->service.load());
  EXPECT_EQ(again->locked_task, nullptr);
  EXPECT_EQ(again->lock_depth, 0u);
  EXPECT_EQ(again->picked, nullptr);
  EXPECT_EQ(again->own_task, nullptr);
  EXPECT_FALSE(again->foreign);
  EXPECT_FALSE(again->spinning);
  for (thread* th : taken) recycle_thread_record(th);
}

}  // namespace
}  // namespace weft::sched
