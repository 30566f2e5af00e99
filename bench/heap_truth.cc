// Read beside runGCInuse in peers/go/gc.go.
#include "bench/heap_truth.h"

#include <weft/gc/gc.h>
#include <weft/weft.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>

#include "profiler/profile_registry.h"

namespace bench {
namespace {

namespace gc = weft::gc;

constexpr int rounds = 16;

// Sizes that are size classes, so that what is asked for is what is taken.
template <std::size_t bytes>
struct block {
  gc::ref<block> next;
  std::array<std::uint64_t, bytes / 8 - 1> data;
};

template <std::size_t bytes>
[[gnu::noinline]] block<bytes>* chain(long total) {
  block<bytes>* first = nullptr;
  for (long made = 0; made < total; made += static_cast<long>(bytes)) {
    auto* b = gc::make<block<bytes>>();
    b->next = first;
    first = b;
  }
  return first;
}

struct set {
  gc::root<block<64>> small;
  gc::root<block<512>> medium;
  gc::root<block<4096>> large;
  gc::root<block<16384>> huge;
  // Four equal parts.
  void make(long total) {
    small = chain<64>(total / 4);
    medium = chain<512>(total / 4);
    large = chain<4096>(total / 4);
    huge = chain<16384>(total / 4);
  }
};

// Collects first.
double profiled_bytes_in_use() {
  constexpr std::size_t inuse_space = 3;
  double sum = 0;
  for (const auto& s : weft::prof::find_profile("heap")->collect({.gc = true}).samples) {
    if (std::find(s.labels.begin(), s.labels.end(),
                  weft::prof::label_list::value_type("heap", "gc")) != s.labels.end())
      sum += static_cast<double>(s.values[inuse_space]);
  }
  return sum;
}

}  // namespace

int measure_heap_truth(const char* row, long workers, long n) {
  const auto truth = static_cast<double>(n << 20);
  double sum = 0, worst = 0;
  for (int i = 0; i < rounds; ++i) {
    set s;
    // On a stack that is gone afterwards.
    weft::spawn([&] { s.make(n << 20); }).join();
    const double shown = profiled_bytes_in_use();
    sum += shown;
    worst = std::max(worst, std::abs(shown / truth - 1));
    weft::spawn([&] { s = {}; }).join();
  }
  std::printf("row=%s workers=%ld n=%ld error_percent=%.3f worst_percent=%.3f\n", row, workers, n,
              std::abs(sum / rounds / truth - 1) * 100, worst * 100);
  return 0;
}

}  // namespace bench
