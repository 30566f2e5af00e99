// bench_alloc_glibc, bench_alloc_mimalloc, bench_alloc_weft [--rate=BYTES]: the price of an
// allocation, in processes that differ in their allocator only. One line per row and size, CPU
// time, best of the rounds; bench/README.md has the rows.
#include <malloc.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#ifdef BENCH_ALLOC_WEFT
#include <weft/pprof.h>
#endif

namespace {

double cpu_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

void* opaque(void* p) {
  asm volatile("" : "+r"(p) : : "memory");
  return p;
}

constexpr int rounds = 15;

// malloc and free of the same block, again and again.
double pair_ns(size_t size) {
  const int n = size > 100'000 ? 20'000 : 500'000;
  double best = 1e18;
  for (int round = 0; round < rounds; ++round) {
    const double start = cpu_ns();
    for (int i = 0; i < n; ++i) std::free(opaque(std::malloc(size)));
    best = std::min(best, (cpu_ns() - start) / n);
  }
  return best;
}

struct split {
  double malloc_ns, free_ns;
};

// 4096 blocks, freed in another order than they were allocated in.
split batch_ns(size_t size) {
  constexpr size_t n = 4096;
  static void* blocks[n];
  static size_t order[n];
  for (size_t i = 0; i < n; ++i) order[i] = i;
  unsigned random = 12345;
  for (size_t i = n - 1; i > 0; --i) {
    random = random * 1664525 + 1013904223;
    std::swap(order[i], order[(random >> 8) % (i + 1)]);
  }
  split best{1e18, 1e18};
  for (int round = 0; round < rounds; ++round) {
    double allocating = 0, freeing = 0;
    constexpr int batches = 50;
    for (int batch = 0; batch < batches; ++batch) {
      const double start = cpu_ns();
      for (void*& p : blocks) p = opaque(std::malloc(size));
      const double between = cpu_ns();
      for (size_t i : order) std::free(blocks[i]);
      freeing += cpu_ns() - between;
      allocating += between - start;
    }
    best.malloc_ns = std::min(best.malloc_ns, allocating / batches / n);
    best.free_ns = std::min(best.free_ns, freeing / batches / n);
  }
  return best;
}

double new_pair_ns() {
  constexpr int n = 500'000;
  double best = 1e18;
  for (int round = 0; round < rounds; ++round) {
    const double start = cpu_ns();
    for (int i = 0; i < n; ++i) operator delete (opaque(operator new(48)), size_t{48});
    best = std::min(best, (cpu_ns() - start) / n);
  }
  return best;
}

// Blocks that another thread frees.
double passed_on_ns() {
  constexpr size_t n = 100'000;
  std::vector<void*> blocks(n);
  double best = 1e18;
  for (int round = 0; round < rounds; ++round) {
    double start = cpu_ns();
    for (void*& p : blocks) p = opaque(std::malloc(100));
    double spent = cpu_ns() - start;
    std::thread([&] {
      const double begin = cpu_ns();
      for (void* p : blocks) std::free(p);
      spent += cpu_ns() - begin;
    }).join();
    best = std::min(best, spent / n);
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
#ifdef BENCH_ALLOC_WEFT
    if (std::strncmp(argv[i], "--rate=", 7) == 0) {
      weft::set_mem_profile_rate(std::atoll(argv[i] + 7));
      continue;
    }
#endif
    std::fprintf(stderr, "%s: unknown argument %s\n", argv[0], argv[i]);
    return 1;
  }
  for (size_t size : {16, 64, 200, 1024, 8192, 1 << 20})
    std::printf("row=alloc_pair size=%zu ns_per_op=%.2f\n", size, pair_ns(size));
  for (size_t size : {16, 64, 200, 1024}) {
    const split s = batch_ns(size);
    std::printf("row=alloc_batch size=%zu malloc_ns=%.2f free_ns=%.2f\n", size, s.malloc_ns,
                s.free_ns);
  }
  std::printf("row=alloc_new size=48 ns_per_op=%.2f\n", new_pair_ns());
  std::printf("row=alloc_passed_on size=100 ns_per_op=%.2f\n", passed_on_ns());
  return 0;
}
