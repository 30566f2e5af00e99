#include "base/events.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "scheduler/task_state.h"
#include "tests/conformance/world.h"

namespace weft::base {
namespace {

constexpr uint32_t bit(event_kind k) { return 1u << static_cast<int>(k); }

void count(const event&, void* context) noexcept {
  static_cast<std::atomic<int>*>(context)->fetch_add(1);
}

TEST(Events, ReachOnlySinksThatAskedForThem) {
  std::atomic<int> states{0};
  std::atomic<int> locks{0};
  ASSERT_TRUE(add_sink(bit(event_kind::task_state), count, &states));
  ASSERT_TRUE(add_sink(bit(event_kind::lock_contended), count, &locks));
  EXPECT_TRUE(wants(event_kind::task_state));
  EXPECT_FALSE(wants(event_kind::task_create));
  emit(event_kind::lock_contended, 1, 2);
  emit(event_kind::task_create, 1, 2);
  EXPECT_EQ(locks.load(), 1);
  remove_sink(count, &locks);
  emit(event_kind::lock_contended, 1, 2);
  EXPECT_EQ(locks.load(), 1);
  EXPECT_EQ(states.load(), 0);
  remove_sink(count, &states);
  EXPECT_FALSE(wants(event_kind::task_state));
}

TEST(Events, NinthSinkIsRefused) {
  std::vector<std::atomic<int>> counts(9);
  for (int i = 0; i < 8; ++i)
    ASSERT_TRUE(add_sink(bit(event_kind::lock_contended), count, &counts[static_cast<size_t>(i)]));
  EXPECT_FALSE(add_sink(bit(event_kind::lock_contended), count, &counts[8]));
  emit(event_kind::lock_contended, 0, 0);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(counts[static_cast<size_t>(i)].load(), 1);
    remove_sink(count, &counts[static_cast<size_t>(i)]);
  }
  EXPECT_EQ(counts[8].load(), 0);
  EXPECT_TRUE(add_sink(bit(event_kind::lock_contended), count, &counts[8]));
  remove_sink(count, &counts[8]);
}

TEST(Events, NamesComeFromTheTable) {
  EXPECT_STREQ(event_name(event_kind::task_create), "task_create");
  EXPECT_STREQ(event_name(event_kind::lock_contended), "lock_contended");
  for (int i = 0; i < static_cast<int>(event_kind::count); ++i)
    EXPECT_GT(std::strlen(event_name(static_cast<event_kind>(i))), 0u);
}

// Every change of state that the scheduler reports is a legal one, creation and end balance.
TEST(Events, SchedulerReportsOnlyLegalChanges) {
  struct tally {
    std::atomic<int> changes{0}, illegal{0}, begun{0}, ended{0};
  };
  static tally t;
  for (auto* n : {&t.changes, &t.illegal, &t.begun, &t.ended}) *n = 0;
  auto sink = [](const event& e, void*) noexcept {
    auto from = static_cast<sched::task_status>((e.b >> 16) & 0xff);
    auto to = static_cast<sched::task_status>((e.b >> 8) & 0xff);
    t.changes.fetch_add(1);
    if (!sched::legal(from, to)) t.illegal.fetch_add(1);
    if (from == sched::task_status::free && to == sched::task_status::runnable)
      t.begun.fetch_add(1);
    if (from == sched::task_status::running && to == sched::task_status::free) t.ended.fetch_add(1);
  };
  ASSERT_TRUE(add_sink(bit(event_kind::task_state), sink, nullptr));
  test::in_world(2, [] {
    for (int i = 0; i < 100; ++i) go([] { this_task::yield(); });
    EXPECT_TRUE(test::eventually([] { return num_tasks() == 1; }));
  });
  remove_sink(sink, nullptr);
  EXPECT_GE(t.changes.load(), 400);
  EXPECT_EQ(t.illegal.load(), 0);
  EXPECT_EQ(t.begun.load(), 101);
  EXPECT_GE(t.ended.load(), 100);  // the main task's end may come after run() has returned
}

}  // namespace
}  // namespace weft::base
