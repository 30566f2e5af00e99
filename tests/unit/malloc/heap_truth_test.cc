// The heap profile against allocations whose truth is known: through malloc, new and containers, in
// tasks and threads, read back from the encoded profile and by `go tool pprof`.
#include <gtest/gtest.h>
#include <malloc.h>
#include <stdlib.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <cmath>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/alloc_sampling.h"
#include "profiler/heap_profile.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/profile_check.h"
#include "tests/unit/profiler/profile_sums.h"

namespace heap_truth {

// Each kind of allocation in a function of its own. The pointers go to `out`.
using pointers = std::vector<void*>;

[[gnu::noinline]] void by_malloc(size_t n, size_t size, pointers& out) {
  for (size_t i = 0; i < n; ++i) out.push_back(malloc(size));
}
[[gnu::noinline]] void by_calloc(size_t n, size_t size, pointers& out) {
  for (size_t i = 0; i < n; ++i) out.push_back(calloc(1, size));
}
[[gnu::noinline]] void by_new(size_t n, size_t size, pointers& out) {
  for (size_t i = 0; i < n; ++i) out.push_back(operator new(size));
}
[[gnu::noinline]] void by_aligned_new(size_t n, size_t size, pointers& out) {
  for (size_t i = 0; i < n; ++i) out.push_back(operator new(size, std::align_val_t(64)));
}
[[gnu::noinline]] std::vector<std::vector<int>> by_vector(size_t n, size_t ints) {
  std::vector<std::vector<int>> all(n);
  for (auto& v : all) v.resize(ints);
  return all;
}
[[gnu::noinline]] void by_realloc(size_t n, size_t size, pointers& out) {
  for (size_t i = 0; i < n; ++i) {
    void* p = nullptr;
    for (size_t s = size / 8; s <= size; s *= 2) p = realloc(p, s);
    out.push_back(p);
  }
}
// One for every seed: the table remembers what came before.
[[gnu::noinline]] void in_a_trial(size_t n, size_t size, pointers& out) {
  for (size_t i = 0; i < n; ++i) out.push_back(malloc(size));
}
// The same function as seen by the tool.
[[gnu::noinline]] void for_the_tool(size_t n, size_t size, pointers& out) {
  for (size_t i = 0; i < n; ++i) out.push_back(malloc(size));
}
[[gnu::noinline]] void with_a_label(size_t n, size_t size, pointers& out) {
  for (size_t i = 0; i < n; ++i) out.push_back(malloc(size));
}

void free_all(pointers& all) {
  for (void* p : all) free(p);
  all.clear();
}

}  // namespace heap_truth

namespace weft::prof {
namespace {

using heap_truth::pointers;
using test::go_tool;
using test::sums_by_function;
using test::tool_result;
using test::valid_profile;

struct amounts {
  int64_t all_objects, all_bytes, live_objects, live_bytes;
};

std::string heap_bytes() {
  std::ostringstream out;
  pprof::write_heap_profile(out);
  return std::move(out).str();
}

amounts of(const std::string& function) {
  const std::vector<int64_t> v = sums_by_function(heap_bytes(), "heap_truth::" + function + "(");
  return {v.at(0), v.at(1), v.at(2), v.at(3)};
}

constexpr int64_t million = 1'000'000;

class HeapTruth : public testing::Test {
 protected:
  // A seed that was not looked for: any should do, and the test of 50 says so.
  HeapTruth() { base::seed_sample_rngs(2024); }
  ~HeapTruth() override { base::set_mem_profile_rate(512 * 1024); }
};

void expect_near(int64_t got, int64_t want, double tolerance) {
  EXPECT_NEAR(static_cast<double>(got), static_cast<double>(want),
              static_cast<double>(want) * tolerance);
}

// A set of 100 MB at the default rate is some 200 samples of small objects: 7 % is one standard
// deviation of its estimate, larger objects are nearer. So the sets here are of 1 GB in steps that
// are freed at once, and what stays in use is checked at a finer rate below.
TEST_F(HeapTruth, AllocationsAtTheDefaultRate) {
  pointers all;
  all.reserve(1'000'000);
  const auto in_steps = [&](void (*allocate)(size_t, size_t, pointers&), size_t size) {
    for (int step = 0; step < 100; ++step) {
      allocate(10 * million / size, size, all);
      heap_truth::free_all(all);
    }
  };
  in_steps(heap_truth::by_malloc, 100);
  in_steps(heap_truth::by_new, 2000);
  in_steps(heap_truth::by_calloc, 40'000);
  const amounts m = of("by_malloc"), n = of("by_new"), c = of("by_calloc");
  expect_near(m.all_bytes, 1000 * million, 0.1);
  expect_near(m.all_objects, 10 * million, 0.1);
  expect_near(n.all_bytes, 1000 * million, 0.1);
  expect_near(c.all_bytes, 1000 * million, 0.1);
  expect_near(c.all_objects, 25'000, 0.1);
  EXPECT_EQ(m.live_bytes, 0);
  EXPECT_EQ(n.live_bytes, 0);
  EXPECT_EQ(c.live_objects, 0);
}

TEST_F(HeapTruth, AHundredMegabytesInUseAtTheDefaultRate) {
  pointers large;
  large.reserve(1000);
  heap_truth::by_aligned_new(50, 2 * million, large);
  std::vector<std::vector<int>> vectors = heap_truth::by_vector(400, 62'500);
  const amounts a = of("by_aligned_new"), v = of("by_vector");
  expect_near(a.live_bytes, 100 * million, 0.1);
  expect_near(v.live_bytes, 100 * million, 0.1);
  for (void* p : large) operator delete(p, std::align_val_t(64));
  vectors.clear();
  vectors.shrink_to_fit();
  EXPECT_EQ(of("by_aligned_new").live_bytes, 0);
  EXPECT_EQ(of("by_vector").live_bytes, 0);
  EXPECT_EQ(of("by_vector").all_bytes, v.all_bytes);
}

TEST_F(HeapTruth, UnbiasedOverFiftySeeds) {
  // Each trial is 20 MB of mixed sizes; the profile's bytes for it are one estimate.
  constexpr int trials = 50;
  constexpr double truth = 20.0 * million;
  double sum = 0, squares = 0;
  amounts before = of("in_a_trial");
  pointers all;
  all.reserve(1'000'000);
  for (uint64_t seed = 1; seed <= trials; ++seed) {
    base::seed_sample_rngs(seed);
    heap_truth::in_a_trial(100'000, 48, all);  // 4.8 MB
    heap_truth::in_a_trial(7'600, 1000, all);  // 7.6 MB
    heap_truth::in_a_trial(100, 76'000, all);  // 7.6 MB
    heap_truth::free_all(all);
    const amounts after = of("in_a_trial");
    const auto estimate = static_cast<double>(after.all_bytes - before.all_bytes);
    sum += estimate;
    squares += estimate * estimate;
    before = after;
  }
  const double mean = sum / trials;
  const double deviation = std::sqrt((squares - sum * mean) / (trials - 1));
  // 4 standard errors; the seeds are fixed, so this cannot fail by chance.
  EXPECT_NEAR(mean, truth, 4 * deviation / std::sqrt(trials));
  // Of an estimate that is unbiased and no wilder than Poisson sampling makes it.
  const double expected_variance = truth * 512 * 1024;
  EXPECT_LT(deviation * deviation, 2 * expected_variance);
  EXPECT_GT(deviation * deviation, expected_variance / 4);
  EXPECT_EQ(before.live_bytes, 0);
}

TEST_F(HeapTruth, RateOneIsExact) {
  base::set_mem_profile_rate(1);
  pointers all;
  all.reserve(10'000);
  heap_truth::by_realloc(100, 8000, all);
  const amounts r = of("by_realloc");
  EXPECT_EQ(r.live_objects, 100);
  EXPECT_EQ(r.live_bytes, 800'000);
  EXPECT_EQ(r.all_objects, 400);
  EXPECT_EQ(r.all_bytes, 100 * (1000 + 2000 + 4000 + 8000));
  std::thread([&] { heap_truth::free_all(all); }).join();
  EXPECT_EQ(of("by_realloc").live_objects, 0);
}

TEST_F(HeapTruth, LabelsOfTasks) {
  base::set_mem_profile_rate(1);
  pointers all;
  all.reserve(10'000);
  run([&] {
    with_labels({{"route", "/a"}}, [&] { heap_truth::with_a_label(30, 1000, all); });
    with_labels({{"route", "/b"}}, [&] {
      wait_group child;
      child.go([&] { heap_truth::with_a_label(70, 1000, all); });
      child.wait();
    });
  });
  base::set_mem_profile_rate(0);
  const std::string bytes = heap_bytes();
  const pb::Profile p = test::decode_profile(bytes);
  int64_t a = 0, b = 0;
  for (const pb::Sample& s : p.sample()) {
    if (!test::goes_through(p, s, "heap_truth::with_a_label")) continue;
    const std::string labels = test::labels_text(p, s);
    if (labels == "bytes:1024 heap=malloc route=/a") a += s.value(2);
    if (labels == "bytes:1024 heap=malloc route=/b") b += s.value(2);
  }
  EXPECT_EQ(a, 30);
  EXPECT_EQ(b, 70);

  go_tool go;
  const std::string file = go.write("heap.pb.gz", bytes);
  const tool_result tags =
      go.pprof({"-sample_index=inuse_objects", "-focus=with_a_label", "-tags"}, file);
  EXPECT_TRUE(tags.has("route: Total 100")) << tags.out;
  EXPECT_TRUE(tags.has("heap: Total 100")) << tags.out;
  const tool_result focused = go.pprof(
      {"-sample_index=inuse_objects", "-focus=with_a_label", "-tagfocus=route=/b", "-top"}, file);
  EXPECT_TRUE(focused.has("70")) << focused.out;
  heap_truth::free_all(all);
}

TEST_F(HeapTruth, TheToolReadsWhatWasAllocated) {
  base::set_mem_profile_rate(1);
  pointers all;
  all.reserve(10'000);
  heap_truth::for_the_tool(100, 10'000, all);
  base::set_mem_profile_rate(512 * 1024);
  const std::string bytes = heap_bytes();
  EXPECT_TRUE(valid_profile(bytes));
  go_tool go;
  const std::string file = go.write("heap.pb.gz", bytes);
  const tool_result top = go.pprof({"-focus=for_the_tool", "-unit=B", "-top"}, file);
  EXPECT_EQ(top.exit_status, 0) << top.out;
  EXPECT_TRUE(top.has("Type: inuse_space")) << top.out;
  // The leaf is the function that allocated, not malloc.
  EXPECT_TRUE(top.has("1000000B")) << top.out;
  EXPECT_TRUE(top.has("heap_truth::for_the_tool")) << top.out;
  EXPECT_FALSE(top.has("malloc\n")) << top.out;
  EXPECT_FALSE(top.has("weft::heap")) << top.out;
  EXPECT_FALSE(top.has("stack_here")) << top.out;
  const tool_result objects =
      go.pprof({"-sample_index=alloc_objects", "-focus=for_the_tool", "-top"}, file);
  EXPECT_TRUE(objects.has("Type: alloc_objects")) << objects.out;
  EXPECT_TRUE(objects.has("       100 ")) << objects.out;
  const tool_result raw = go.pprof({"-raw"}, file);
  EXPECT_TRUE(raw.has("PeriodType: space bytes")) << raw.out.substr(0, 300);
  EXPECT_TRUE(raw.has("Period: 524288")) << raw.out.substr(0, 300);
  EXPECT_TRUE(raw.has("bytes:[10240]") || raw.has("bytes:[10kB]") || raw.has("bytes:[10.00kB]"))
      << raw.out.substr(0, 3000);
  heap_truth::free_all(all);
}

}  // namespace
}  // namespace weft::prof
