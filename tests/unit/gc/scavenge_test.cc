// Memory that the heap does not need goes back by itself.
#include "gc/scavenge.h"

#include <weft/gc/gc.h>
#include <weft/weft.h>

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
    const uint64_t goal = gc::stats().heap_in_use_bytes + (uint64_t{10} << 20);
    while (gc::scavenge(goal) != INT64_MAX) {
    }
    EXPECT_LE(held(), goal + goal / 10);
    EXPECT_GE(held(), std::min<uint64_t>(goal, held()));
    EXPECT_EQ(gc::scavenge(UINT64_MAX), INT64_MAX);  // no goal: nothing
    while (gc::scavenge(0) != INT64_MAX) {
    }
    EXPECT_EQ(gc::stats().heap_free_bytes, 0u);
  });
}

TEST(Scavenge, RunsInTheBackground) {
  weft::run([] {
    gc::root<char> keeps(gc::make_array<char>(size_t{64} << 20));
    keeps.reset();
    gc::collect();
    EXPECT_TRUE(eventually([&] {
      const auto s = gc::stats();
      return s.heap_in_use_bytes + s.heap_free_bytes <= s.trigger_bytes + s.trigger_bytes / 10;
    }));
  });
}

}  // namespace
}  // namespace weft::test
