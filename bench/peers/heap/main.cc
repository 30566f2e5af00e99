// bench_boehm, bench_malloc, bench_mimalloc: the rows of weft's collector that make sense for a
// heap without tasks. One source for three allocators: Boehm's collector (BENCH_BOEHM), or malloc
// and free, which are mimalloc's where that library is linked. What a collector finds by itself is
// freed by hand with the others, as a program with them would. Usage and exit codes as
// bench_boost's.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "bench/common/args.h"
#include "bench/common/histogram.h"
#include "bench/common/process.h"

#ifdef BENCH_BOEHM
#include <gc/gc.h>
#include <gc/gc_allocator.h>
#else
#include <memory>
#endif

namespace {

#ifdef BENCH_BOEHM
constexpr bool collected = true;
void set_up() {
  // The figures are CPU time, of which more markers than one cost more.
  setenv("GC_MARKERS", "1", 0);
  GC_INIT();
}
void* allocate(size_t size) { return GC_MALLOC(size); }
void* allocate_plain(size_t size) { return GC_MALLOC_ATOMIC(size); }
void release(void*) {}
long collections() { return static_cast<long>(GC_get_gc_no()); }
template <class T>
using allocator = gc_allocator<T>;
#else
constexpr bool collected = false;
void set_up() {}
void* allocate(size_t size) { return std::calloc(1, size); }
void* allocate_plain(size_t size) { return std::malloc(size); }
void release(void* p) { std::free(p); }
long collections() { return 0; }
template <class T>
using allocator = std::allocator<T>;
#endif

struct config {
  std::string row;
  long n;
};

[[noreturn]] void fail(const config& c, const char* why) {
  std::fprintf(stderr, "%s: %s\n", c.row.c_str(), why);
  std::_Exit(1);
}

std::uint64_t cpu_ns() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  auto ns = [](const timeval& t) {
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(t.tv_usec) * 1000;
  };
  return ns(use.ru_utime) + ns(use.ru_stime);
}

double peak_mb() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  return static_cast<double>(use.ru_maxrss) / 1024;
}

class meter {
 public:
  void per_op(const config& c, long n) const {
    const auto cpu = static_cast<double>(cpu_ns() - cpu_);
    const auto wall = static_cast<double>(bench::monotonic_ns() - start_);
    std::printf(
        "row=%s workers=1 n=%ld cpu_ns_per_op=%.3f cpu_ms=%.3f ms_total=%.3f collections=%ld "
        "peak_mb=%.1f\n",
        c.row.c_str(), c.n, cpu / static_cast<double>(n), cpu / 1e6, wall / 1e6, collections(),
        peak_mb());
  }

 private:
  std::uint64_t cpu_ = cpu_ns(), start_ = bench::monotonic_ns();
};

struct node {
  node* left;
  node* right;
};

node* make_tree(long depth) {
  auto* t = static_cast<node*>(allocate(sizeof(node)));
  if (depth > 0) {
    t->left = make_tree(depth - 1);
    t->right = make_tree(depth - 1);
  }
  return t;
}

long count(const node* t) { return t->left == nullptr ? 1 : 1 + count(t->left) + count(t->right); }

template <class Node>
void drop(Node* t) {
  if constexpr (!collected) {
    if (t == nullptr) return;
    drop(t->left);
    drop(t->right);
    release(t);
  }
}

void run_trees(const config& c) {
  meter m;
  node* stretch = make_tree(c.n + 1);
  long nodes = count(stretch);
  drop(stretch);
  node* long_lived = make_tree(c.n);
  for (long depth = 4; depth <= c.n; depth += 2) {
    for (long i = 1L << (c.n - depth + 4); i > 0; --i) {
      node* t = make_tree(depth);
      nodes += count(t);
      drop(t);
    }
  }
  const long kept = count(long_lived);
  if (kept != (1L << (c.n + 1)) - 1) fail(c, "the long-lived tree changed");
  m.per_op(c, nodes + kept);
  drop(long_lived);
}

struct payload_node {
  payload_node* left;
  payload_node* right;
  long i, j;
};

payload_node* make_payload() { return static_cast<payload_node*>(allocate(sizeof(payload_node))); }

void populate(long depth, payload_node* at) {
  if (depth <= 0) return;
  at->left = make_payload();
  at->right = make_payload();
  populate(depth - 1, at->left);
  populate(depth - 1, at->right);
}

payload_node* bottom_up(long depth) {
  if (depth <= 0) return make_payload();
  payload_node* left = bottom_up(depth - 1);
  payload_node* right = bottom_up(depth - 1);
  payload_node* t = make_payload();
  t->left = left;
  t->right = right;
  return t;
}

void run_gcbench(const config& c) {
  meter m;
  auto size = [](long depth) { return (1L << (depth + 1)) - 1; };
  long total = size(c.n);
  drop(bottom_up(c.n));
  payload_node* long_lived = make_payload();
  populate(c.n - 2, long_lived);
  constexpr size_t doubles = 500'000;
  auto* array = static_cast<double*>(allocate_plain(doubles * sizeof(double)));
  for (size_t i = 0; i < doubles / 2; ++i) array[i] = 1 / static_cast<double>(i + 1);
  total += size(c.n - 2);
  for (long depth = 4; depth <= c.n - 2; depth += 2) {
    const long rounds = 2 * size(c.n) / size(depth);
    for (long i = 0; i < rounds; ++i) {
      payload_node* t = make_payload();
      populate(depth, t);
      drop(t);
    }
    for (long i = 0; i < rounds; ++i) drop(bottom_up(depth));
    total += 2 * rounds * size(depth);
  }
  if (long_lived->left == nullptr || array[1000] != 1 / static_cast<double>(1001))
    fail(c, "the long-lived data changed");
  m.per_op(c, total);
  drop(long_lived);
  release(array);
}

// What the loops allocate is reachable for 256 allocations.
void* g_ring[256];

template <size_t Size, bool Plain>
void run_alloc(const config& c) {
  meter m;
  for (long i = 0; i < c.n; ++i) {
    void*& slot = g_ring[i & 255];
    release(slot);
    void* p = Plain ? allocate_plain(Size) : allocate(Size);
    *static_cast<long*>(p) = 0;
    slot = p;
  }
  m.per_op(c, c.n);
}

void run_lru(const config& c) {
  constexpr long window = 200'000;
  std::unordered_map<long, unsigned char*, std::hash<long>, std::equal_to<>,
                     allocator<std::pair<const long, unsigned char*>>>
      messages;
  messages.reserve(window);
  bench::histogram times;
  const std::uint64_t cpu = cpu_ns();
  for (long i = 0; i < c.n; ++i) {
    const std::uint64_t start = bench::monotonic_ns();
    auto* message = static_cast<unsigned char*>(allocate_plain(1024));
    std::fill_n(message, 1024, static_cast<unsigned char>(i));
    if (i >= window) {
      auto old = messages.find(i - window);
      release(old->second);
      messages.erase(old);
    }
    messages[i] = message;
    times.add(bench::monotonic_ns() - start);
  }
  auto us = [](std::uint64_t ns) { return static_cast<double>(ns) / 1e3; };
  std::printf(
      "row=%s workers=1 n=%ld p99_us=%.2f p999_us=%.2f p9999_us=%.2f max_us=%.2f cpu_ms=%.1f "
      "collections=%ld peak_mb=%.1f\n",
      c.row.c_str(), c.n, us(times.quantile(0.99)), us(times.quantile(0.999)),
      us(times.quantile(0.9999)), us(times.max()), static_cast<double>(cpu_ns() - cpu) / 1e6,
      collections(), peak_mb());
}

struct row {
  std::string_view name;
  long n;  // default, equal to weft's
  void (*run)(const config&);
};

constexpr row rows[] = {
    {"gc_trees", 16, run_trees},
    {"gc_gcbench", 18, run_gcbench},
    {"gc_alloc16", 20'000'000, run_alloc<16, false>},
    {"gc_alloc64", 20'000'000, run_alloc<64, false>},
    {"gc_noscan64", 20'000'000, run_alloc<64, true>},
    {"gc_lru", 1'000'000, run_lru},
};

}  // namespace

int main(int argc, char** argv) {
  const row* chosen = nullptr;
  for (const row& r : rows) {
    if (argc > 1 && r.name == argv[1]) chosen = &r;
  }
  if (chosen == nullptr) {
    if (argc > 1 && argv[1][0] != '-') {
      std::fprintf(stderr, "no row %s without tasks\n", argv[1]);
      return 4;
    }
    std::fprintf(stderr, "usage: %s ROW [--n=N]\nrows:", argv[0]);
    for (const row& r : rows) std::fprintf(stderr, " %s", r.name.data());
    std::fprintf(stderr, "\n");
    return 2;
  }
  bench::args flags(argc, argv, 2);
  config c;
  c.row = chosen->name;
  c.n = flags.num("n", chosen->n, 4, 1'000'000'000);
  const long workers = flags.num("workers", 1, 1, 1024);
  flags.str("stack", "default");
  flags.finish();
  // One task works in gc_lru, whatever the number of workers.
  if (workers != 1 && chosen->name != "gc_lru") {
    std::fprintf(stderr, "no row %s with %ld workers without tasks\n", argv[1], workers);
    return 4;
  }
  set_up();
  chosen->run(c);
}
