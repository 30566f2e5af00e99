// Tasks that wait for the collector, in the dump and in the wait profile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>
#include <weft/gc/gc.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <array>
#include <atomic>
#include <sstream>
#include <string>

#include "gc/stress.h"
#include "tests/conformance/world.h"
#include "tests/unit/profiler/profile_check.h"
#include "tests/unit/profiler/profile_sums.h"
#include "tests/unit/profiler/wait_world.h"

namespace weft::prof {
namespace {

using test::bytes_of;
using test::decode_profile;
using test::labels_text;
using weft::test::eventually_waiting;
using weft::test::in_world;

struct block {
  gc::ref<block> next;
  std::array<uint64_t, 7> data;
};

std::atomic<bool> g_held{false};

// Nanoseconds that the wait profile has of the task with the label who=outgrows, for this reason.
int64_t waited(std::string_view reason) {
  const pb::Profile p = decode_profile(bytes_of("wait"));
  int64_t ns = 0;
  for (const pb::Sample& one : p.sample()) {
    if (labels_text(p, one) == "reason=" + std::string(reason) + " who=outgrows")
      ns += one.value(1);
  }
  return ns;
}

// The collector is held before it marks its first object; the heap grows to its limit.
using GcWaits = test::WaitProfiles;

TEST_F(GcWaits, ATaskThatOutgrowsTheGoalWaitsForAssistCredit) {
  set_wait_profile_rate(1);
  in_world(2, [] {
    gc::root<block> kept(gc::make<block>());
    gc::collect();
    g_held = true;
    gc::g_stress_hooks.before_scan = []() noexcept {
      for (timespec pause{0, 20'000}; g_held.load();) ::nanosleep(&pause, nullptr);
    };
    gc::g_options.yield_mark = true;
    std::atomic<bool> enough{false};
    auto allocating = with_labels(labels{{"who", "outgrows"}}, [&] {
      return spawn([&] {
        while (!enough.load()) gc::keep(gc::make<block>());
      });
    });
    EXPECT_TRUE(eventually_waiting(sched::wait_reason::gc_assist, 1));
    std::ostringstream dump;
    pprof::lookup("goroutine")->write_to(dump, 2);
    EXPECT_THAT(std::move(dump).str(), testing::HasSubstr("[GC assist wait"));
    const int64_t under_way = waited("GC assist wait");
    EXPECT_GT(under_way, 0);
    enough = true;
    g_held = false;
    allocating.join();
    EXPECT_GE(waited("GC assist wait"), under_way);
    auto asks =
        with_labels(labels{{"who", "outgrows"}}, [&] { return spawn([] { gc::collect(); }); });
    asks.join();
    EXPECT_GT(waited("wait for GC cycle"), 0);
    gc::g_options.yield_mark = false;
    gc::g_stress_hooks = {};
  });
}

}  // namespace
}  // namespace weft::prof
