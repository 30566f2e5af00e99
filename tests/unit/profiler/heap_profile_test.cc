// The heap profile between the port that heaps call and what readers get: cycles, scaling, labels.
// What real allocations give is tests/unit/malloc/heap_truth_test.cc.
#include "profiler/heap_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <weft/labels.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "base/alloc_sampling.h"
#include "profiler/pprof_encoder.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/profile_check.h"
#include "tests/unit/profiler/profile_sums.h"

namespace heap_test {

// Every test allocates in a function of its own, by which it finds its samples again.
template <int test>
[[gnu::noinline]] void* allocate(size_t size, weft::base::heap_kind kind, int64_t rate) {
  void* token = weft::base::current_alloc_port().allocated(size, kind, rate);
  asm volatile("" : "+r"(token));
  return token;
}

}  // namespace heap_test

namespace weft::prof {
namespace {

using base::heap_kind;
using test::decode_profile;
using test::go_tool;
using test::sums_by_function;
using test::valid_profile;
using values = std::vector<int64_t>;

constexpr heap_kind ordinary = heap_kind::ordinary;
constexpr heap_kind collected = heap_kind::collected;

class HeapProfile : public testing::Test {
 protected:
  HeapProfile() { install_heap_profile(); }
  const base::alloc_port& port() { return base::current_alloc_port(); }

  static std::string bytes_of(std::string_view name) {
    std::ostringstream out;
    pprof::lookup(name)->write_to(out, 0);
    return std::move(out).str();
  }
  // The values of the samples whose stacks go through allocate<test>().
  static values sums(int test) {
    return sums_by_function(bytes_of("heap"), "heap_test::allocate<" + std::to_string(test) + ">");
  }
  void cycle() {
    port().cycle_ended();
    port().sweep_ended();
  }
};

TEST(ScaleHeapSample, IsGos) {
  // Vectors of Go's runtime/pprof at 524288.
  constexpr int64_t rate = 524'288;
  EXPECT_EQ(scale_heap_sample({4, 4096}, rate), (heap_amount{2050, 2'099'200}));
  EXPECT_EQ(scale_heap_sample({3, 3072}, rate), (heap_amount{1537, 1'574'400}));
  EXPECT_EQ(scale_heap_sample({1, 524'288}, rate), (heap_amount{1, 829'411}));
  EXPECT_EQ(scale_heap_sample({0, 0}, rate), (heap_amount{0, 0}));
  EXPECT_EQ(scale_heap_sample({5, 0}, rate), (heap_amount{0, 0}));
  EXPECT_EQ(scale_heap_sample({7, 700}, 1), (heap_amount{7, 700}));
  EXPECT_EQ(scale_heap_sample({7, 700}, 0), (heap_amount{7, 700}));
}

TEST_F(HeapProfile, TheOrdinaryHeapCountsAtOnce) {
  void* a = heap_test::allocate<1>(1000, ordinary, 1);
  void* b = heap_test::allocate<1>(500, ordinary, 1);
  EXPECT_EQ(sums(1), (values{2, 1500, 2, 1500}));
  port().freed(a);
  EXPECT_EQ(sums(1), (values{2, 1500, 1, 500}));
  port().freed(b);
  EXPECT_EQ(sums(1), (values{2, 1500, 0, 0}));
}

TEST_F(HeapProfile, TheCollectedHeapIsAsOfTheLastCollection) {
  void* early = heap_test::allocate<2>(100, collected, 1);
  void* kept = heap_test::allocate<2>(1000, collected, 1);
  static_cast<void>(kept);
  port().cycle_ended();  // finds `early` dead
  void* late = heap_test::allocate<2>(10, collected, 1);
  port().freed(early);
  port().sweep_ended();
  // What came after the mark termination is not there yet: that collection says nothing of it.
  EXPECT_EQ(sums(2), (values{2, 1100, 1, 1000}));
  // A sweep's frees and the allocations that they belong to appear together.
  port().cycle_ended();
  EXPECT_EQ(sums(2), (values{2, 1100, 1, 1000}));
  port().freed(late);
  EXPECT_EQ(sums(2), (values{2, 1100, 1, 1000}));
  port().sweep_ended();
  EXPECT_EQ(sums(2), (values{3, 1110, 1, 1000}));
  cycle();
  EXPECT_EQ(sums(2), (values{3, 1110, 1, 1000}));
}

TEST_F(HeapProfile, NothingIsLostWhenAllocationGoesOnThroughCycles) {
  std::vector<void*> live, dead;
  int64_t objects = 0;
  for (int i = 0; i < 30; ++i) {
    for (int n = 0; n < 10; ++n, ++objects)
      live.push_back(heap_test::allocate<3>(64, collected, 1));
    port().cycle_ended();
    for (void* d : dead) port().freed(d);
    dead.assign(live.begin(), live.begin() + 5);
    live.erase(live.begin(), live.begin() + 5);
    for (int n = 0; n < 3; ++n, ++objects) live.push_back(heap_test::allocate<3>(64, collected, 1));
    port().sweep_ended();
  }
  port().cycle_ended();
  for (void* d : dead) port().freed(d);
  port().sweep_ended();
  cycle();
  const auto in_use = static_cast<int64_t>(live.size());
  EXPECT_EQ(sums(3), (values{objects, 64 * objects, in_use, 64 * in_use}));
}

TEST_F(HeapProfile, SamplesKeepTheWeightOfTheRateTheyWereTakenAt) {
  heap_test::allocate<4>(1024, ordinary, 1);
  for (int i = 0; i < 4; ++i) heap_test::allocate<4>(1024, ordinary, 524'288);
  base::set_mem_profile_rate(100);
  EXPECT_EQ(sums(4), (values{1 + 2050, 1024 + 2'099'200, 1 + 2050, 1024 + 2'099'200}));
  base::set_mem_profile_rate(524'288);
}

TEST_F(HeapProfile, SaysWhichHeapAndCarriesTheLabelsOfTheTask) {
  run([] {
    with_labels({{"user", "alice"}, {"a", "b"}}, [] {
      heap_test::allocate<5>(10'000, ordinary, 1);
      weft::wait_group child;
      child.go([] { heap_test::allocate<5>(10'000, collected, 1); });
      child.wait();
    });
    heap_test::allocate<5>(30'000, ordinary, 1);
  });
  cycle();
  const pb::Profile p = decode_profile(bytes_of("heap"));
  std::vector<std::string> found;
  for (const pb::Sample& s : p.sample()) {
    if (!test::goes_through(p, s, "heap_test::allocate<5>")) continue;
    found.push_back(test::labels_text(p, s));
  }
  EXPECT_THAT(found, testing::UnorderedElementsAre("a=b bytes:10240 heap=malloc user=alice",
                                                   "a=b bytes:10240 heap=gc user=alice",
                                                   "bytes:30720 heap=malloc"));
}

TEST_F(HeapProfile, TypesAndPeriodAreGos) {
  heap_test::allocate<6>(1000, ordinary, 1);
  for (std::string_view name : {"heap", "allocs"}) {
    const std::string bytes = bytes_of(name);
    EXPECT_TRUE(valid_profile(bytes));
    const pb::Profile p = decode_profile(bytes);
    const auto text = [&](int64_t i) { return p.string_table(static_cast<int>(i)); };
    std::string types;
    for (const pb::ValueType& t : p.sample_type())
      types += text(t.type()) + "/" + text(t.unit()) + " ";
    EXPECT_EQ(types,
              "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes ");
    EXPECT_EQ(text(p.period_type().type()), "space");
    EXPECT_EQ(text(p.period_type().unit()), "bytes");
    EXPECT_EQ(p.period(), 524'288);
    EXPECT_EQ(text(p.default_sample_type()), name == "heap" ? "" : "alloc_space");
    EXPECT_NE(p.time_nanos(), 0);
    EXPECT_EQ(p.duration_nanos(), 0);
  }
}

TEST_F(HeapProfile, TheTextIsRawAndTheToolScalesItToTheSame) {
  for (int i = 0; i < 40; ++i) heap_test::allocate<7>(4096, ordinary, 524'288);
  std::ostringstream out;
  pprof::lookup("heap")->write_to(out, 1);
  const std::string text = std::move(out).str();
  EXPECT_TRUE(text.starts_with("heap profile: ")) << text.substr(0, 100);
  EXPECT_NE(text.find("] @ heap/1048576\n"), std::string::npos) << text.substr(0, 100);
  EXPECT_NE(text.find("\n40: 163840 [40: 163840] @ 0x"), std::string::npos);
  go_tool go;
  const std::string file = go.write("heap.txt", text);
  const test::tool_result top = go.pprof({"-sample_index=inuse_objects", "-top", "-unit=B"}, file);
  EXPECT_EQ(top.exit_status, 0) << top.out;
}

TEST_F(HeapProfile, TheTextShowsOtherRatesAsIfTakenAtThisOne) {
  heap_test::allocate<8>(3'000'000, ordinary, 1);  // 3 MB, certain at either rate
  for (int i = 0; i < 512; ++i) heap_test::allocate<8>(1024, ordinary, 1);  // as one of 512 KiB
  base::set_mem_profile_rate(524'288);
  std::ostringstream out;
  pprof::lookup("heap")->write_to(out, 1);
  // 512 objects of 1 KiB that were all sampled: a reader who multiplies by 512.5 must find one.
  EXPECT_NE(std::move(out).str().find("1: 1023 [1: 1023] @"), std::string::npos);
}

TEST_F(HeapProfile, TheTextEndsInTheMemoryStatistics) {
  heap_test::allocate<8>(1024, ordinary, 1);
  std::ostringstream out;
  pprof::lookup("allocs")->write_to(out, 1);
  const std::string text = std::move(out).str();
  const size_t at = text.find("\n\n# runtime.MemStats\n# Alloc = ");
  ASSERT_NE(at, std::string::npos) << text;
  // The last line, and the tables of the profile are counted.
  EXPECT_TRUE(std::regex_search(text.substr(at), std::regex("\n# MaxRSS = [1-9][0-9]+\n$")));
  EXPECT_TRUE(std::regex_search(text.substr(at), std::regex("\n# BuckHashSys = [1-9][0-9]+\n")));
}

TEST_F(HeapProfile, ADeltaHasWhatChanged) {
  void* before = heap_test::allocate<9>(100, ordinary, 1);
  const std::optional<profile_data> delta = find_profile("heap")->collect_over(
      [&] {
        port().freed(before);
        heap_test::allocate<9>(200, ordinary, 1);
        heap_test::allocate<9>(200, ordinary, 1);
        return true;
      },
      {});
  ASSERT_TRUE(delta.has_value());
  EXPECT_EQ(sums_by_function(gzip(encode(*delta)), "heap_test::allocate<9>"),
            (values{2, 400, 1, 300}));
  EXPECT_GT(delta->duration_nanos, 0);
}

}  // namespace
}  // namespace weft::prof
