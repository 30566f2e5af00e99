// The invariants of Go's TestMemStats, and the text that heap profiles end in.
#include <gtest/gtest.h>
#include <weft/gc/gc.h>
#include <weft/mem_stats.h>
#include <weft/weft.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <utility>

namespace weft::test {
namespace {

struct item {
  gc::ref<item> next;
  std::array<long, 7> payload = {};
};

void expect_consistent(const mem_stats& m) {
  EXPECT_EQ(m.sys, m.heap_sys + m.stack_sys + m.mspan_sys + m.mcache_sys + m.buck_hash_sys +
                       m.gc_sys + m.other_sys);
  EXPECT_EQ(m.heap_sys, m.heap_idle + m.heap_inuse);
  EXPECT_LE(m.heap_released, m.heap_idle);
  EXPECT_EQ(m.alloc, m.heap_alloc);
  EXPECT_LE(m.heap_alloc, m.heap_inuse);
  EXPECT_EQ(m.heap_objects, m.mallocs - m.frees);
  EXPECT_GE(m.stack_sys, m.stack_inuse);
  EXPECT_GE(m.mspan_sys, m.mspan_inuse);
  EXPECT_GE(m.mcache_sys, m.mcache_inuse);
  EXPECT_LE(m.num_forced_gc, m.num_gc);
  EXPECT_EQ(m.lookups, 0u);
  EXPECT_TRUE(m.enable_gc);
  EXPECT_FALSE(m.debug_gc);
  EXPECT_GE(m.gc_cpu_fraction, 0);
  EXPECT_LT(m.gc_cpu_fraction, 1);
  EXPECT_EQ(m.last_gc, m.pause_end[(m.num_gc + 255) % 256]);
  if (m.num_gc < 256) {
    EXPECT_EQ(m.pause_total_ns, std::accumulate(m.pause_ns.begin(), m.pause_ns.end(), uint64_t{0}));
    for (size_t i = m.num_gc; i < 256; ++i) {
      EXPECT_EQ(m.pause_ns[i], 0u) << i;
      EXPECT_EQ(m.pause_end[i], 0u) << i;
    }
  }
  uint64_t mallocs = 0, frees = 0;
  for (const auto& c : m.by_size) {
    mallocs += c.mallocs;
    frees += c.frees;
  }
  EXPECT_GE(mallocs, frees);
  if (m.num_gc != 0) {
    EXPECT_NE(m.pause_end[(m.num_gc + 255) % 256], 0u);
  }
  EXPECT_EQ(m.by_size[0].size, 0u);
  EXPECT_EQ(m.by_size[60].size, 18432u);
  for (const auto& c : m.by_size) EXPECT_GE(c.mallocs, c.frees);
}

void expect_no_counter_fell(const mem_stats& before, const mem_stats& after) {
  EXPECT_GE(after.total_alloc, before.total_alloc);
  EXPECT_GE(after.mallocs, before.mallocs);
  EXPECT_GE(after.frees, before.frees);
  EXPECT_GE(after.num_gc, before.num_gc);
  EXPECT_GE(after.pause_total_ns, before.pause_total_ns);
}

TEST(MemStats, HoldsGosInvariants) {
  weft::run([] {
    gc::root<item> kept(gc::make<item>());
    gc::collect();
    const mem_stats first = read_mem_stats();
    expect_consistent(first);
    for (const uint64_t v :
         {first.alloc, first.total_alloc, first.sys, first.mallocs, first.heap_sys,
          first.heap_inuse, first.stack_inuse, first.mspan_inuse, first.mcache_inuse, first.gc_sys,
          first.next_gc, first.last_gc, first.max_rss, uint64_t{first.num_gc}})
      EXPECT_NE(v, 0u);
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 100'000; ++i) gc::keep(gc::make<item>());
      gc::make_array<char>(1 << 20);
      const mem_stats before = read_mem_stats();
      expect_consistent(before);
      gc::collect();
      const mem_stats after = read_mem_stats();
      expect_consistent(after);
      expect_no_counter_fell(before, after);
      EXPECT_GT(after.num_gc, before.num_gc);
      EXPECT_GT(after.num_forced_gc, before.num_forced_gc);
    }
    const mem_stats last = read_mem_stats();
    EXPECT_GE(last.total_alloc - first.total_alloc, 300'000 * sizeof(item));
    EXPECT_GE(last.frees - first.frees, 290'000u);
    // An item has 64 bytes.
    const auto at = std::find_if(last.by_size.begin(), last.by_size.end(),
                                 [](const auto& c) { return c.size == sizeof(item); });
    ASSERT_NE(at, last.by_size.end());
    EXPECT_GE(at->mallocs, 300'000u);
    EXPECT_GE(at->frees, 290'000u);
  });
}

// Nothing that Go's test demands is 0 after one collection. Those that may be: pages without
// objects, what was given back, pauses too short for the clock; the profiles' tables, which are
// above the heap and not linked here; and what is resident beyond the estimates of all others.
TEST(MemStats, EverythingIsCountedAfterOneCollection) {
  weft::run([] {
    gc::root<item> kept(gc::make<item>());
    for (int i = 0; i < 1000; ++i) gc::keep(gc::make<item>());
    gc::collect();
    const mem_stats m = read_mem_stats();
    const std::pair<const char*, uint64_t> fields[] = {{"Alloc", m.alloc},
                                                       {"TotalAlloc", m.total_alloc},
                                                       {"Sys", m.sys},
                                                       {"Mallocs", m.mallocs},
                                                       {"Frees", m.frees},
                                                       {"HeapAlloc", m.heap_alloc},
                                                       {"HeapSys", m.heap_sys},
                                                       {"HeapInuse", m.heap_inuse},
                                                       {"HeapObjects", m.heap_objects},
                                                       {"StackInuse", m.stack_inuse},
                                                       {"StackSys", m.stack_sys},
                                                       {"MSpanInuse", m.mspan_inuse},
                                                       {"MSpanSys", m.mspan_sys},
                                                       {"MCacheInuse", m.mcache_inuse},
                                                       {"MCacheSys", m.mcache_sys},
                                                       {"GCSys", m.gc_sys},
                                                       {"NextGC", m.next_gc},
                                                       {"LastGC", m.last_gc},
                                                       {"NumGC", m.num_gc},
                                                       {"NumForcedGC", m.num_forced_gc}};
    for (const auto& [name, value] : fields) EXPECT_NE(value, 0u) << name;
    EXPECT_GT(m.gc_cpu_fraction, 0);
    // A time of day, in this century.
    EXPECT_GT(m.last_gc, 1'000'000'000'000'000'000u);
  });
}

// The ring holds the last 256 collections; the totals go on.
TEST(MemStats, PausesOfMoreThan256Collections) {
  weft::run([] {
    gc::make<item>();
    uint64_t last_end = 0;
    while (read_mem_stats().num_gc < 260) {
      gc::collect();
      const mem_stats m = read_mem_stats();
      EXPECT_EQ(m.last_gc, m.pause_end[(m.num_gc + 255) % 256]);
      EXPECT_GE(m.last_gc, last_end);
      last_end = m.last_gc;
    }
    const mem_stats m = read_mem_stats();
    expect_consistent(m);
    for (const uint64_t end : m.pause_end) EXPECT_NE(end, 0u);
    EXPECT_GE(m.pause_total_ns, std::accumulate(m.pause_ns.begin(), m.pause_ns.end(), uint64_t{0}));
  });
}

// What is held is in Alloc and HeapObjects, and leaves both when it is let go.
TEST(MemStats, AllocIsWhatIsAlive) {
  weft::run([] {
    constexpr uint64_t n = 50'000;
    gc::collect();
    const mem_stats before = read_mem_stats();
    gc::root<item> list;
    spawn([&] {
      for (uint64_t i = 0; i < n; ++i) {
        item* it = gc::make<item>();
        it->next = list.get();
        list = it;
      }
    }).join();
    gc::collect();
    const mem_stats held = read_mem_stats();
    EXPECT_GE(held.alloc, before.alloc + n * sizeof(item) * 99 / 100);
    EXPECT_GE(held.heap_objects, before.heap_objects + n * 99 / 100);
    spawn([&] { list = nullptr; }).join();  // whose stack may show what it was
    gc::collect();
    const mem_stats after = read_mem_stats();
    EXPECT_LE(after.alloc, held.alloc - n * sizeof(item) * 99 / 100);
    EXPECT_LE(after.heap_objects, held.heap_objects - n * 99 / 100);
    EXPECT_GE(after.frees - held.frees, n * 99 / 100);
    EXPECT_GE(after.total_alloc, held.total_alloc);
  });
}

TEST(MemStats, MayBeReadByManyWhileOthersAllocate) {
  weft::run([] {
    task_group g;
    for (int t = 0; t < 4; ++t) {
      g.go([] {
        for (int i = 0; i < 20'000; ++i) gc::keep(gc::make<item>());
      });
      g.go([] {
        mem_stats before = read_mem_stats();
        for (int i = 0; i < 50; ++i) {
          const mem_stats m = read_mem_stats();
          expect_consistent(m);
          expect_no_counter_fell(before, m);
          before = m;
          this_task::yield();
        }
      });
    }
    g.wait();
  });
}

TEST(MemStats, TextIsGos) {
  mem_stats m;
  m.alloc = 64;
  m.stack_inuse = 8192;
  m.stack_sys = 16384;
  m.pause_ns[0] = 7;
  m.pause_end[255] = 9;
  m.gc_cpu_fraction = 3.1320849407545695e-05;
  m.max_rss = 4096;
  const std::string text = mem_stats_text(m);
  EXPECT_TRUE(
      text.starts_with("\n# runtime.MemStats\n# Alloc = 64\n# TotalAlloc = 0\n# Sys = 0\n"));
  EXPECT_NE(
      text.find("\n# Stack = 8192 / 16384\n# MSpan = 0 / 0\n# MCache = 0 / 0\n# BuckHashSys = "),
      std::string::npos);
  EXPECT_NE(text.find("\n# PauseNs = [7 0 0"), std::string::npos);
  EXPECT_NE(text.find(" 0 9]\n# NumGC = 0\n"), std::string::npos);
  EXPECT_TRUE(text.ends_with(
      "# GCCPUFraction = 3.1320849407545695e-05\n# DebugGC = false\n# MaxRSS = 4096\n"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 29);
  m.gc_cpu_fraction = 0.25;
  EXPECT_NE(mem_stats_text(m).find("# GCCPUFraction = 0.25\n"), std::string::npos);
}

}  // namespace
}  // namespace weft::test
