// Memory that the heap does not need goes back by itself.
#include "gc/scavenge.h"

#include <weft/gc/gc.h>
#include <weft/weft.h>

#include "gc/page_heap.h"
#include "tests/conformance/world.h"
#include "tests/unit/gc/heap_world.h"

namespace weft::test {
namespace {

TEST(Scavenge, KeepsATenthOverTheGoal) {
  weft::run([] {
    elsewhere([] {
      for (int i = 0; i < 64; ++i) gc::make_array<char>(1 << 20)[7] = 1;
    });
    gc::collect();
    const auto held = [] {
      const auto s = gc::stats();
      return s.heap_in_use_bytes + s.heap_free_bytes;
    };
    const uint64_t before = held();
    const uint64_t goal = gc::stats().heap_in_use_bytes + (uint64_t{10} << 20);
    while (gc::scavenge(goal) != INT64_MAX) {
    }
    EXPECT_LE(held(), goal + goal / 10);
    EXPECT_GE(held(), std::min(goal, before));
    EXPECT_EQ(gc::scavenge(UINT64_MAX), INT64_MAX);  // no goal: nothing
    while (gc::scavenge(0) != INT64_MAX) {
    }
    EXPECT_EQ(gc::stats().heap_free_bytes, 0u);
  });
}

TEST(Scavenge, RunsReturnedAndNotReturnedServeOneAllocation) {
  weft::run([] {
    gc::make<char>();  // there is a heap
    gc::free_os_memory();
    constexpr size_t pages = 1024;  // 8 MiB, more than is returned at once
    gc::span* s = gc::take_pages(pages);
    gc::give_pages(*s);
    const auto all = [] {
      const gc::page_statistics p = gc::page_counters();
      return p.in_use_bytes + p.free_bytes + p.returned_bytes;
    };
    const size_t had = all(), returned = gc::page_counters().returned_bytes;
    EXPECT_EQ(gc::return_free_pages(size_t{3} << 20), size_t{3} << 20);
    EXPECT_EQ(gc::page_counters().returned_bytes, returned + (size_t{3} << 20));
    EXPECT_EQ(all(), had);
    gc::span* again = gc::take_pages(pages);
    EXPECT_EQ(all(), had);
    gc::give_pages(*again);
  });
}

TEST(Scavenge, RunsInTheBackground) {
  weft::run([] {
    gc::root<char> keeps(gc::make_array<char>(size_t{64} << 20));
    keeps.reset();
    gc::collect();
    EXPECT_TRUE(eventually([&] {
      const auto s = gc::stats();
      return s.heap_in_use_bytes + s.heap_free_bytes <= s.goal_bytes + s.goal_bytes / 10;
    }));
  });
}

}  // namespace
}  // namespace weft::test
