// The heap profile of the collected heap against truth: what is made, what lives, what died.
#include <gtest/gtest.h>
#include <weft/gc/gc.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <array>
#include <cmath>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/alloc_sampling.h"
#include "profiler/heap_profile.h"
#include "profiler/pprof_encoder.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/profile_check.h"
#include "tests/unit/profiler/profile_sums.h"

namespace gc_truth {

template <size_t words>
struct cell {
  weft::gc::ref<cell> next;
  std::array<uint64_t, words - 1> rest;
};

// A list of n, each kind in a function of its own.
template <int test, size_t words>
[[gnu::noinline]] cell<words>* chain(int n) {
  cell<words>* head = nullptr;
  for (int i = 0; i < n; ++i) {
    auto* c = weft::gc::make<cell<words>>();
    c->next = head;
    head = c;
  }
  return head;
}

// On a stack that is gone afterwards: what lies about in dead frames keeps objects alive.
template <class F>
void elsewhere(F f) {
  weft::spawn([&] { f(); }).join();
}

}  // namespace gc_truth

namespace weft::prof {
namespace {

using test::go_tool;
using test::sums_by_function;
using test::tool_result;
using test::valid_profile;

struct amounts {
  int64_t all_objects, all_bytes, live_objects, live_bytes;
};

std::string heap_bytes(bool collect_first) {
  return gzip(encode(find_profile("heap")->collect({.gc = collect_first, .abandoned = {}})));
}

amounts of(int test, bool collect_first) {
  const std::vector<int64_t> v =
      sums_by_function(heap_bytes(collect_first), "gc_truth::chain<" + std::to_string(test) + ",");
  return {v.at(0), v.at(1), v.at(2), v.at(3)};
}

class GcHeapProfile : public testing::Test {
 protected:
  GcHeapProfile() {
    install_heap_profile();
    base::seed_sample_rngs(7);
  }
  ~GcHeapProfile() override { base::set_mem_profile_rate(512 * 1024); }
};

void expect_near(int64_t got, int64_t want, double tolerance) {
  EXPECT_NEAR(static_cast<double>(got), static_cast<double>(want),
              static_cast<double>(want) * tolerance);
}

TEST_F(GcHeapProfile, WhatLivesAndWhatDied) {
  base::set_mem_profile_rate(4096);
  run([] {
    gc::root<gc_truth::cell<8>> kept;
    gc_truth::elsewhere([&] { kept = gc_truth::chain<1, 8>(50'000); });
    gc_truth::elsewhere([] { gc_truth::chain<1, 8>(100'000); });
    const amounts a = of(1, true);
    // 64-byte objects, one in 64 sampled: 2300 samples, 2 % each way.
    expect_near(a.all_objects, 150'000, 0.1);
    expect_near(a.all_bytes, 150'000 * 64, 0.1);
    expect_near(a.live_bytes, 50'000 * 64, 0.12);
    gc_truth::elsewhere([&] { kept = nullptr; });
    const amounts b = of(1, true);
    EXPECT_EQ(b.all_objects, a.all_objects);
    EXPECT_LT(b.live_bytes, 50'000 * 64 / 10);
  });
}

TEST_F(GcHeapProfile, AHundredMegabytesAtTheDefaultRate) {
  run([] {
    // 195 samples, 7 % each time; the mean of 16 rounds is within 10 % but once in ten million.
    constexpr int rounds = 16;
    constexpr int64_t each = 6250 * 16384;
    int64_t live = 0;
    for (int i = 0; i < rounds; ++i) {
      gc::root<gc_truth::cell<2048>> kept;
      gc_truth::elsewhere([&] { kept = gc_truth::chain<2, 2048>(6250); });
      live += of(2, true).live_bytes;
      gc_truth::elsewhere([&] { kept = nullptr; });
    }
    expect_near(live, rounds * each, 0.1);
    expect_near(of(2, true).all_bytes, rounds * each, 0.1);
  });
}

TEST_F(GcHeapProfile, ManyCollectionsDoNotMakeTheEstimateLeanToOneSide) {
  // Runs that a collection takes back must neither lose nor repeat samples: two sizes, so that
  // several runs are open, and a collection every few dozen samples.
  base::set_mem_profile_rate(16 * 1024);
  run([] {
    constexpr int rounds = 300;
    for (int i = 0; i < rounds; ++i) {
      for (int k = 0; k < 20; ++k) {
        gc_truth::chain<3, 4>(200);   // 32 bytes
        gc_truth::chain<4, 16>(100);  // 128 bytes
      }
      gc::collect();
    }
    const amounts small = of(3, true), large = of(4, true);
    const double n_small = 20.0 * 200 * rounds, n_large = 20.0 * 100 * rounds;
    // 2300 and 4700 samples: 4 standard deviations are 8.3 and 5.9 %.
    expect_near(small.all_bytes, static_cast<int64_t>(32 * n_small), 0.083);
    expect_near(large.all_bytes, static_cast<int64_t>(128 * n_large), 0.059);
  });
}

TEST_F(GcHeapProfile, LabelsAndTheHeapsName) {
  base::set_mem_profile_rate(1);
  run([] {
    gc::collect();  // ends the runs that were opened at another rate
    gc::root<gc_truth::cell<8>> kept;
    with_labels({{"route", "/a"}}, [&] { kept = gc_truth::chain<5, 8>(1000); });
    const std::string bytes = heap_bytes(true);
    EXPECT_TRUE(valid_profile(bytes));
    const pb::Profile p = test::decode_profile(bytes);
    int64_t live = 0;
    for (const pb::Sample& s : p.sample()) {
      if (!test::goes_through(p, s, "gc_truth::chain<5")) continue;
      EXPECT_EQ(test::labels_text(p, s), "bytes:64 heap=gc route=/a");
      live += s.value(2);
    }
    EXPECT_EQ(live, 1000);
    go_tool go;
    const std::string file = go.write("gc.pb.gz", bytes);
    const tool_result top = go.pprof({"-focus=chain<5", "-tagfocus=heap=gc", "-top"}, file);
    EXPECT_EQ(top.exit_status, 0) << top.out;
    EXPECT_TRUE(top.has("gc_truth::chain<5")) << top.out;
    EXPECT_FALSE(top.has("weft::gc::make")) << top.out;
    kept = nullptr;
  });
}

TEST_F(GcHeapProfile, AThreadOutsideTheRuntimeMayAskForACollection) {
  base::set_mem_profile_rate(1024);
  run([] {
    gc_truth::elsewhere([] { gc_truth::chain<6, 8>(20'000); });
    amounts a{};
    std::thread reader([&] { a = of(6, true); });
    while (!reader.joinable()) this_task::yield();
    blocking([&] { reader.join(); });
    expect_near(a.all_bytes, 20'000 * 64, 0.2);
    EXPECT_LT(a.live_bytes, 20'000 * 64 / 5);
  });
}

}  // namespace
}  // namespace weft::prof
