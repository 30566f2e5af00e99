#include <gtest/gtest.h>
#include <weft/labels.h>
#include <weft/wait_group.h>

#include <stdexcept>
#include <thread>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using pairs = std::vector<labels::pair>;

TEST(Labels, AreSortedAndTheLastOfEqualKeysWins) {
  labels l{{"b", "1"}, {"a", "2"}, {"b", "3"}};
  EXPECT_EQ(l.pairs(), (pairs{{"a", "2"}, {"b", "3"}}));
  EXPECT_TRUE(labels{}.empty());
  EXPECT_TRUE(labels{}.pairs().empty());
}

TEST(Labels, WithMergesAndOverwrites) {
  labels base{{"a", "1"}, {"b", "2"}};
  EXPECT_EQ(base.with({{"b", "3"}, {"c", "4"}}).pairs(),
            (pairs{{"a", "1"}, {"b", "3"}, {"c", "4"}}));
  EXPECT_EQ(base.pairs(), (pairs{{"a", "1"}, {"b", "2"}}));
  EXPECT_EQ(base.with({}).node(), base.node());
  EXPECT_EQ(labels{}.with(base).node(), base.node());
}

WEFT_WORLD_TEST(Labels, AreRestoredAfterTheCallAlsoWhenItThrows) {
  EXPECT_TRUE(this_task::labels().empty());
  with_labels({{"a", "1"}}, [] {
    EXPECT_THROW(
        with_labels({{"a", "2"}, {"b", "3"}},
                    [] {
                      EXPECT_EQ(this_task::labels().pairs(), (pairs{{"a", "2"}, {"b", "3"}}));
                      throw std::runtime_error("x");
                    }),
        std::runtime_error);
    EXPECT_EQ(this_task::labels().pairs(), (pairs{{"a", "1"}}));
  });
  EXPECT_TRUE(this_task::labels().empty());
}

WEFT_WORLD_TEST(Labels, AreInheritedAtCreationAndLiveAsLongAsTheTask) {
  wait_group wg;
  with_labels({{"user", "alice"}}, [&] {
    for (int i = 0; i < 10; ++i) {
      wg.go([] {
        this_task::yield();
        EXPECT_EQ(this_task::labels().pairs(), (pairs{{"user", "alice"}}));
      });
    }
  });
  EXPECT_TRUE(this_task::labels().empty());
  wg.wait();
  // Records are reused: a new task has its creator's labels, not its predecessor's.
  for (int i = 0; i < 10; ++i) spawn([] { EXPECT_TRUE(this_task::labels().empty()); }).join();
}

WEFT_WORLD_TEST(Labels, FollowTheTaskOverParks) {
  wait_group wg;
  for (int i = 0; i < 8; ++i) {
    wg.go([i] {
      with_labels({{"i", std::to_string(i)}}, [i] {
        for (int k = 0; k < 20; ++k) {
          this_task::yield();
          ASSERT_EQ(this_task::labels().pairs(), (pairs{{"i", std::to_string(i)}}));
        }
      });
    });
  }
  wg.wait();
}

TEST(Labels, ForeignThreadsHaveTheirOwn) {
  test::in_world(1, [] {
    with_labels({{"a", "1"}}, [] {
      std::thread([] {
        EXPECT_TRUE(this_task::labels().empty());
        with_labels({{"t", "x"}}, [] {
          EXPECT_EQ(this_task::labels().pairs(), (pairs{{"t", "x"}}));
        });
        EXPECT_TRUE(this_task::labels().empty());
      }).join();
    });
  });
}

// A foreign thread that ended with a name and labels once left them to the next task in its record.
TEST(TaskName, DoesNotOutliveItsThread) {
  test::in_world(1, [] {
    std::thread([] { this_task::set_name("left over"); }).join();
    wait_group wg;
    for (int i = 0; i < 600; ++i) wg.go([] { EXPECT_EQ(this_task::name(), ""); });
    wg.wait();
    std::thread([] { EXPECT_EQ(this_task::name(), ""); }).join();
  });
}

WEFT_WORLD_TEST(TaskName, IsGivenAtSpawnOrLater) {
  EXPECT_EQ(this_task::name(), "");
  spawn_options o;
  o.name = "reader";
  EXPECT_EQ(spawn(o, [] { return this_task::name(); }).join(), "reader");
  EXPECT_EQ(spawn([] {
              this_task::set_name("first");
              this_task::set_name("second");
              return this_task::name();
            }).join(),
            "second");
  EXPECT_EQ(spawn(o,
                  [] {
                    this_task::set_name("");
                    return this_task::name();
                  })
                .join(),
            "");
}

}  // namespace
}  // namespace weft
