// Rows of the collected heap. Read beside bench/peers/go/gc.go; the heaps without tasks are in
// bench/peers/heap.
#include <sys/resource.h>
#include <weft/gc/gc.h>
#include <weft/mem_stats.h>
#include <weft/weft.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "bench/common/core_wait.h"
#include "bench/common/process.h"
#include "bench/rows.h"

namespace bench {

namespace gc = weft::gc;

namespace {

std::uint64_t peak_bytes() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  return static_cast<std::uint64_t>(use.ru_maxrss) * 1024;
}

// Of the CPU time that was available, helping tasks included, as Go's GCCPUFraction.
double gc_share(const config& c, double wall_ns) {
  const gc::heap_stats s = gc::stats();
  return static_cast<double>(s.gc_cpu_ns + s.assist_ns) /
         (wall_ns * static_cast<double>(c.workers));
}

class meter {
 public:
  std::uint64_t cpu_ns() const { return process_cpu_ns(0) - cpu_; }
  std::uint64_t wall_ns() const { return monotonic_ns() - start_; }
  // CPU and wall time since the beginning, in all and for each of n operations.
  void print(const config& c, long n) const {
    const auto cpu = static_cast<double>(cpu_ns()), wall = static_cast<double>(wall_ns());
    const gc::heap_stats s = gc::stats();
    print_prefix(c);
    std::printf(
        "cpu_ns_per_op=%.3f cpu_ms=%.3f ms_total=%.3f collections=%llu peak_mb=%.1f gc_cpu=%.4f\n",
        cpu / static_cast<double>(n), cpu / 1e6, wall / 1e6,
        static_cast<unsigned long long>(s.cycles), static_cast<double>(peak_bytes()) / (1 << 20),
        gc_share(c, wall));
  }

 private:
  std::uint64_t cpu_ = process_cpu_ns(0), start_ = monotonic_ns();
};

struct node {
  gc::ref<node> left, right;
};

node* make_tree(long depth) {
  node* n = gc::make<node>();
  if (depth > 0) {
    n->left = make_tree(depth - 1);
    n->right = make_tree(depth - 1);
  }
  return n;
}

long count(const node* n) {
  return n->left == nullptr ? 1 : 1 + count(n->left.get()) + count(n->right.get());
}

struct payload_node {
  gc::ref<payload_node> left, right;
  long i = 0, j = 0;
};

void populate(long depth, payload_node* at) {
  if (depth <= 0) return;
  at->left = gc::make<payload_node>();
  at->right = gc::make<payload_node>();
  populate(depth - 1, at->left.get());
  populate(depth - 1, at->right.get());
}

payload_node* bottom_up(long depth) {
  payload_node* n = gc::make<payload_node>();
  if (depth > 0) {
    n->left = bottom_up(depth - 1);
    n->right = bottom_up(depth - 1);
  }
  return n;
}

struct small {
  gc::ref<small> next, other;
};
struct large {
  gc::ref<large> next;
  std::array<std::uint64_t, 7> data{};
};
struct plain {
  std::array<std::uint64_t, 8> data{};
};

// What the loop allocates is reachable for 256 allocations.
template <class T>
void allocate(long n) {
  T* ring[256] = {};
  for (long i = 0; i < n; ++i) {
    ring[i & 255] = gc::make<T>();
    asm volatile("" : : "r"(ring) : "memory");
  }
}

double quantile(const std::vector<std::uint64_t>& sorted, double q) {
  const auto i = static_cast<std::size_t>(q * static_cast<double>(sorted.size()));
  return static_cast<double>(sorted[std::min(i, sorted.size() - 1)]);
}

[[gnu::noinline]] void wait_deep(weft::chan<bool>& gate, weft::wait_group& ready, char* frame) {
  frame[0] = 1;
  ready.done();
  gate.recv();
  frame[1] = 1;
  asm volatile("" : : "r"(frame) : "memory");
}

// n tasks that wait with about 4 KB of stack in use, until the end of its life.
class parked_tasks {
 public:
  explicit parked_tasks(long n) {
    ready_.add(n);
    done_.add(n);
    for (long i = 0; i < n; ++i) {
      weft::go([this] {
        char frame[3 << 10];
        wait_deep(gate_, ready_, frame);
        done_.done();
      });
    }
    ready_.wait();
  }
  ~parked_tasks() {
    gate_.close();
    done_.wait();
  }

 private:
  weft::chan<bool> gate_{0};
  weft::wait_group ready_, done_;
};

// Collects `rounds` times for times and stops, and as often again while another task looks at the
// clock all the time, for the longest time that it lost.
void pauses(const config& c, int rounds) {
  const meter m;
  std::vector<std::uint64_t> stops;
  for (int i = 0; i < rounds; ++i) {
    gc::collect();
    const gc::heap_stats s = gc::stats();
    stops.push_back(s.last_pause_ns[0] + s.last_pause_ns[1]);
  }
  const auto cpu = static_cast<double>(m.cpu_ns()), wall = static_cast<double>(m.wall_ns());
  std::sort(stops.begin(), stops.end());
  std::atomic<bool> stop{false};
  auto looking = weft::spawn([&] {
    return longest_stall_of_caller([&] { return !stop.load(std::memory_order_relaxed); }, [] {});
  });
  for (int i = 0; i < rounds; ++i) gc::collect();
  stop.store(true);
  const stall longest = looking.join();
  print_prefix(c);
  std::printf(
      "stw_p50_us=%.2f stw_p99_us=%.2f stall_max_us=%.2f stall_own_us=%.2f cycle_ms=%.3f "
      "cycle_cpu_ms=%.3f\n",
      quantile(stops, 0.5) / 1e3, quantile(stops, 0.99) / 1e3,
      static_cast<double>(longest.wall) / 1e3, static_cast<double>(longest.own) / 1e3,
      wall / 1e6 / rounds, cpu / 1e6 / rounds);
}

struct record {
  gc::ref<record> next, other;
  std::array<std::uint64_t, 6> data{};
};

// A list of records of 64 bytes, n MiB in all.
record* live(long mib) {
  record* first = nullptr;
  for (long i = 0; i < (mib << 20) / 64; ++i) {
    record* r = gc::make<record>();
    r->next = first;
    r->other = first;
    first = r;
  }
  return first;
}

struct message {
  std::array<unsigned char, 1024> bytes;
};

// From long to message, as Go's map: open addressing, erased entries closed up.
class message_map {
 public:
  explicit message_map(std::size_t least) {
    while (size_ < 2 * least) size_ *= 2;
    entries_ = gc::make_array<entry>(size_);
  }
  void insert(long key, message* value) {
    std::size_t at = home(key);
    while (entries_.get()[at].value != nullptr) at = next(at);
    entries_.get()[at].key = key;
    entries_.get()[at].value = value;
  }
  void erase(long key) {
    entry* e = entries_.get();
    std::size_t hole = home(key);
    while (e[hole].key != key || e[hole].value == nullptr) hole = next(hole);
    for (std::size_t at = next(hole); e[at].value != nullptr; at = next(at)) {
      // Stays if its home lies behind the hole.
      if (((at - home(e[at].key)) & (size_ - 1)) < ((at - hole) & (size_ - 1))) continue;
      e[hole].key = e[at].key;
      e[hole].value = e[at].value.get();
      hole = at;
    }
    e[hole].value = nullptr;
  }

 private:
  struct entry {
    long key = 0;
    gc::ref<message> value;
  };
  std::size_t home(long key) const {
    return (static_cast<std::uint64_t>(key) * 0x9e3779b97f4a7c15 >> 20) & (size_ - 1);
  }
  std::size_t next(std::size_t at) const { return (at + 1) & (size_ - 1); }
  std::size_t size_ = 16;
  gc::root<entry> entries_;
};

}  // namespace

// Binary trees of the benchmarks game, to depth n.
void run_gc_trees(const config& c) {
  const meter m;
  long nodes = count(make_tree(c.n + 1));
  node* long_lived = make_tree(c.n);
  for (long depth = 4; depth <= c.n; depth += 2) {
    for (long i = 1L << (c.n - depth + 4); i > 0; --i) nodes += count(make_tree(depth));
  }
  const long kept = count(long_lived);
  if (kept != (1L << (c.n + 1)) - 1)
    fail(c, "the long-lived tree has " + std::to_string(kept) + " nodes");
  m.print(c, nodes + kept);
}

// GCBench (Ellis, Kovac, Boehm). n is the stretch depth.
void run_gc_gcbench(const config& c) {
  const meter m;
  const auto size = [](long depth) { return (1L << (depth + 1)) - 1; };
  long total = size(c.n);
  bottom_up(c.n);
  payload_node* long_lived = gc::make<payload_node>();
  populate(c.n - 2, long_lived);
  double* array = gc::make_array<double>(500'000);
  for (int i = 0; i < 250'000; ++i) array[i] = 1.0 / (i + 1);
  total += size(c.n - 2);
  for (long depth = 4; depth <= c.n - 2; depth += 2) {
    const long rounds = 2 * size(c.n) / size(depth);
    for (long i = 0; i < rounds; ++i) populate(depth, gc::make<payload_node>());
    for (long i = 0; i < rounds; ++i) bottom_up(depth);
    total += 2 * rounds * size(depth);
  }
  if (long_lived->left == nullptr || array[1000] != 1.0 / 1001)
    fail(c, "the long-lived data changed");
  m.print(c, total);
}

void run_gc_alloc16(const config& c) {
  const meter m;
  allocate<small>(c.n);
  m.print(c, c.n);
}

void run_gc_alloc64(const config& c) {
  const meter m;
  allocate<large>(c.n);
  m.print(c, c.n);
}

void run_gc_noscan64(const config& c) {
  const meter m;
  allocate<plain>(c.n);
  m.print(c, c.n);
}

// The fast path alone: 16 bytes, collector off, in memory that a first round has touched and one
// collection has swept.
void run_gc_make16(const config& c) {
  gc::set_percent(-1);
  allocate<small>(c.n);
  gc::collect();
  const meter m;
  allocate<small>(c.n);
  m.print(c, c.n);
}

// n allocations of 64 bytes, shared evenly by as many tasks as workers.
void run_gc_two(const config& c) {
  weft::wait_group done;
  const meter m;
  for (long w = 0; w < c.workers; ++w) {
    done.add(1);
    weft::go([&] {
      allocate<large>(c.n / c.workers);
      done.done();
    });
  }
  done.wait();
  m.print(c, c.n);
}

// What a plain store costs over one to a ref while nothing is marked. n stores of each.
void run_gc_store(const config& c) {
  struct holder {
    gc::ref<small> to;
  };
  holder* h = gc::make<holder>();
  small* values[2] = {gc::make<small>(), gc::make<small>()};
  std::atomic<small*> word{nullptr};
  const auto measured = [&](auto store) {
    const auto start = process_cpu_ns(0);
    for (long i = 0; i < c.n; ++i) {
      store(values[i & 1]);
      asm volatile("" : : "r"(values) : "memory");
    }
    return static_cast<double>(process_cpu_ns(0) - start) / static_cast<double>(c.n);
  };
  const auto plain_store = [&](small* p) { word.store(p, std::memory_order_release); };
  const auto ref_store = [&](small* p) { h->to = p; };
  measured(plain_store);
  measured(ref_store);
  double plain_ns = 1e9, ref_ns = 1e9;  // the least of five: the rest is the machine's
  for (int i = 0; i < 5; ++i) {
    plain_ns = std::min(plain_ns, measured(plain_store));
    ref_ns = std::min(ref_ns, measured(ref_store));
  }
  print_prefix(c);
  std::printf("store_over_plain_ns=%.3f plain_ns=%.3f ref_ns=%.3f\n", ref_ns - plain_ns, plain_ns,
              ref_ns);
}

// What a switch between two tasks costs more once the heap exists, while nothing is marked. n
// yields each time.
void run_gc_switch(const config& c) {
  const auto measured = [&] {
    std::atomic<bool> stop{false};
    auto other = weft::spawn([&] {
      while (!stop.load(std::memory_order_relaxed)) weft::this_task::yield();
    });
    const auto start = process_cpu_ns(0);
    for (long i = 0; i < c.n / 2; ++i) weft::this_task::yield();
    const auto ns = static_cast<double>(process_cpu_ns(0) - start) / static_cast<double>(c.n);
    stop.store(true);
    other.join();
    return ns;
  };
  measured();
  double before = 1e9, after = 1e9;  // the least of five: the rest is the machine's
  for (int i = 0; i < 5; ++i) before = std::min(before, measured());
  gc::root<small> exists(gc::make<small>());
  gc::collect();
  for (int i = 0; i < 5; ++i) after = std::min(after, measured());
  print_prefix(c);
  std::printf("added_ns=%.3f before_ns=%.3f after_ns=%.3f\n", std::max(after - before, 0.0), before,
              after);
}

// Scherer's latency experiment: a map keeps the last 200 000 of n messages of 1 KiB; how long does
// a push take?
void run_gc_lru(const config& c) {
  constexpr long window = 200'000;
  message_map messages(window);
  std::vector<std::uint64_t> times(static_cast<std::size_t>(c.n));
  const meter m;
  for (long i = 0; i < c.n; ++i) {
    const auto start = monotonic_ns();
    message* msg = gc::make<message>();
    msg->bytes.fill(static_cast<unsigned char>(i));
    asm volatile("" : : "r"(msg) : "memory");
    if (i >= window) messages.erase(i - window);
    messages.insert(i, msg);
    times[static_cast<std::size_t>(i)] = monotonic_ns() - start;
  }
  const auto cpu = static_cast<double>(m.cpu_ns()), wall = static_cast<double>(m.wall_ns());
  std::sort(times.begin(), times.end());
  const gc::heap_stats s = gc::stats();
  const weft::mem_stats memory = weft::read_mem_stats();
  const auto tables = static_cast<double>(memory.gc_sys + memory.mspan_sys + memory.mcache_sys);
  print_prefix(c);
  std::printf(
      "p99_us=%.2f p999_us=%.2f p9999_us=%.2f max_us=%.2f cpu_ms=%.1f collections=%llu "
      "gc_cpu=%.4f peak_mb=%.1f metadata_percent=%.3f\n",
      quantile(times, 0.99) / 1e3, quantile(times, 0.999) / 1e3, quantile(times, 0.9999) / 1e3,
      static_cast<double>(times.back()) / 1e3, cpu / 1e6, static_cast<unsigned long long>(s.cycles),
      gc_share(c, wall), static_cast<double>(peak_bytes()) / (1 << 20),
      100 * tables / static_cast<double>(memory.heap_sys));
}

// Collections with n parked tasks.
void run_gc_parked(const config& c) {
  gc::root<small> exists(gc::make<small>());
  parked_tasks parked(c.n);
  pauses(c, 30);
}

// Collections with n MiB alive and 100 000 parked tasks.
void run_gc_live(const config& c) {
  gc::root<record> data(live(c.n));
  parked_tasks parked(100'000);
  pauses(c, 10);
}

// n MiB live, then a tenth of that: resident bytes over the heap goal once a minute has passed.
void run_gc_shrink(const config& c) {
  gc::root<record> kept(live(c.n / 10));
  gc::root<record> data(live(c.n - c.n / 10));
  gc::collect();
  data = nullptr;
  gc::collect();
  weft::this_task::sleep_for(std::chrono::seconds(60));
  const gc::heap_stats s = gc::stats();
  const double goal = static_cast<double>(std::max<std::uint64_t>(2 * s.marked_bytes, 4 << 20));
  const auto resident = static_cast<double>(resident_bytes(0));
  print_prefix(c);
  std::printf("rss_over_goal=%.3f rss_mb=%.1f\n", resident / goal, resident / (1 << 20));
}

namespace {

[[gnu::noinline]] double make_and_drop_graph(long n, const std::function<double()>& heap) {
  gc::root<gc::ref<record>> graph(gc::make_array<gc::ref<record>>(static_cast<std::size_t>(n)));
  for (long i = 0; i < n; ++i) graph.get()[i] = gc::make<record>();
  for (long i = 0; i < n; ++i) {
    graph.get()[i]->next = graph.get()[(i * 7919 + 1) % n].get();
    graph.get()[i]->other = graph.get()[(i + 1) % n].get();
  }
  return heap();
}

}  // namespace

// A graph of n nodes is dropped while 1 000 tasks are parked: what is left after two collections,
// in per cent of it.
void run_gc_reclaim(const config& c) {
  parked_tasks parked(1'000);
  const std::function<double()> heap = [] {
    const gc::heap_stats s = gc::stats();
    return static_cast<double>(s.allocated_bytes) - static_cast<double>(s.freed_bytes);
  };
  gc::make<small>();
  gc::collect();
  const double before = heap();
  const double full = make_and_drop_graph(c.n, heap);
  gc::collect();
  gc::collect();
  print_prefix(c);
  std::printf("left_percent=%.4f\n", std::max(0.0, 100 * (heap() - before) / (full - before)));
}

}  // namespace bench
