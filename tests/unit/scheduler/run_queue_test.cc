#include "scheduler/run_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"

namespace weft::sched {
namespace {

// The queue only passes pointers on; what they point to is never looked at.
struct numbered_tasks {
  explicit numbered_tasks(size_t n) : records(std::make_unique<char[]>(n)), count(n) {}
  task* at(size_t i) { return reinterpret_cast<task*>(records.get() + i); }
  size_t index(task* t) { return static_cast<size_t>(reinterpret_cast<char*>(t) - records.get()); }
  std::unique_ptr<char[]> records;
  size_t count;
};

TEST(RunQueue, IsFifoForItsOwner) {
  numbered_tasks tasks(10);
  run_queue q;
  EXPECT_TRUE(q.empty());
  EXPECT_EQ(q.pop(), nullptr);
  for (size_t i = 0; i < 10; ++i) EXPECT_TRUE(q.push(tasks.at(i)));
  EXPECT_EQ(q.size(), 10u);
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(q.pop(), tasks.at(i));
  EXPECT_EQ(q.pop(), nullptr);
}

TEST(RunQueue, TakesExactlyItsCapacity) {
  numbered_tasks tasks(run_queue::capacity + 1);
  run_queue q;
  for (size_t i = 0; i < run_queue::capacity; ++i) ASSERT_TRUE(q.push(tasks.at(i)));
  EXPECT_FALSE(q.push(tasks.at(run_queue::capacity)));
  EXPECT_EQ(q.pop(), tasks.at(0));
  EXPECT_TRUE(q.push(tasks.at(run_queue::capacity)));
  for (size_t i = 1; i <= run_queue::capacity; ++i) EXPECT_EQ(q.pop(), tasks.at(i));
}

TEST(RunQueue, IndicesWrapAround) {
  numbered_tasks tasks(3);
  run_queue q;
  for (int round = 0; round < 10'000; ++round) {
    for (size_t i = 0; i < 3; ++i) ASSERT_TRUE(q.push(tasks.at(i)));
    for (size_t i = 0; i < 3; ++i) ASSERT_EQ(q.pop(), tasks.at(i));
  }
}

TEST(RunQueue, ThievesTakeHalfRoundedUpOldestFirst) {
  for (uint32_t n = 0; n <= run_queue::capacity; ++n) {
    numbered_tasks tasks(n + 1);
    run_queue q;
    for (uint32_t i = 0; i < n; ++i) ASSERT_TRUE(q.push(tasks.at(i)));
    task* out[run_queue::capacity];
    uint32_t got = q.grab_half(out, run_queue::capacity);
    ASSERT_EQ(got, n - n / 2);
    for (uint32_t i = 0; i < got; ++i) ASSERT_EQ(out[i], tasks.at(i));
    ASSERT_EQ(q.size(), n / 2);
  }
}

TEST(RunQueue, ThievesTakeAtMostWhatTheyAskFor) {
  numbered_tasks tasks(100);
  run_queue q;
  for (size_t i = 0; i < 100; ++i) ASSERT_TRUE(q.push(tasks.at(i)));
  task* out[7];
  EXPECT_EQ(q.grab_half(out, 7), 7u);
  EXPECT_EQ(q.size(), 93u);
  EXPECT_EQ(q.pop(), tasks.at(7));
}

// Every task that the owner pushed is taken exactly once, by the owner or by one thief.
TEST(RunQueue, NoTaskIsLostOrTakenTwiceAmongThieves) {
  const auto total = static_cast<size_t>(test::sized(400'000, 60'000));
  numbered_tasks tasks(total);
  std::vector<std::atomic<uint8_t>> taken(total);
  run_queue q;
  std::atomic<bool> pushed_all{false};
  auto take = [&](task* t) { taken[tasks.index(t)].fetch_add(1, std::memory_order_relaxed); };

  std::vector<std::thread> thieves;
  for (uint32_t width : {1u, 16u, run_queue::capacity / 2}) {
    thieves.emplace_back([&, width] {
      task* out[run_queue::capacity / 2];
      for (;;) {
        bool last = pushed_all.load(std::memory_order_acquire);
        uint32_t n = q.grab_half(out, width);
        for (uint32_t i = 0; i < n; ++i) take(out[i]);
        if (n == 0 && last) return;
        if (n == 0) std::this_thread::yield();
      }
    });
  }
  for (size_t i = 0; i < total;) {
    if (q.push(tasks.at(i))) {
      ++i;
      if (i % 5 != 0) continue;
    }
    if (task* t = q.pop()) take(t);
  }
  pushed_all.store(true, std::memory_order_release);
  while (task* t = q.pop()) take(t);
  for (std::thread& t : thieves) t.join();
  size_t wrong = 0;
  for (auto& n : taken) wrong += n.load() != 1 ? 1 : 0;
  EXPECT_EQ(wrong, 0u);
  EXPECT_TRUE(q.empty());
}

TEST(TaskList, IsFifoAndAppendsInOrder) {
  std::vector<std::unique_ptr<task>> tasks;
  for (int i = 0; i < 5; ++i) tasks.push_back(std::make_unique<task>());
  task_list a;
  task_list b;
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(a.pop_front(), nullptr);
  a.append(b);
  EXPECT_TRUE(a.empty());
  a.push_back(tasks[0].get());
  a.push_back(tasks[1].get());
  b.push_back(tasks[2].get());
  b.push_back(tasks[3].get());
  a.append(b);
  EXPECT_TRUE(b.empty());
  EXPECT_EQ(b.size(), 0u);
  EXPECT_EQ(a.size(), 4u);
  a.push_back(tasks[4].get());
  for (auto& t : tasks) EXPECT_EQ(a.pop_front(), t.get());
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(a.size(), 0u);
}

}  // namespace
}  // namespace weft::sched
