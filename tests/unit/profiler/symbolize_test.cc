// Names, lines and inlined frames of addresses in this very file, in libc and in the vdso; the
// mapping list; and the cache under many threads.
#include "profiler/symbolize.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "profiler/backtrace_sort.h"

// The return address of the call that this macro's user makes, minus one: inside the call.
#define WEFT_TEST_HERE() weft_test::call_site(__LINE__)

namespace weft_test {

struct site {
  uintptr_t pc;
  int line;
};

[[gnu::noinline]] site call_site(int line) {
  return {reinterpret_cast<uintptr_t>(__builtin_return_address(0)) - 1, line};
}

site g_inner;
volatile int g_keep;

// Three levels, of which the compiler must inline two.
[[gnu::always_inline]] inline void innermost(int x) {
  g_inner = WEFT_TEST_HERE();
  g_keep = x;
}
[[gnu::always_inline]] inline void middle(int x) {
  innermost(x + 1);
  g_keep = x;
}
[[gnu::noinline]] int physical(int x) {
  middle(x + 2);
  g_keep = x;
  return x;
}

template <typename T>
struct holder {
  [[gnu::noinline]] static site method(const T& value) {
    site s = WEFT_TEST_HERE();
    g_keep = static_cast<int>(sizeof value);
    return s;
  }
};

}  // namespace weft_test

extern "C" [[gnu::noinline]] weft_test::site weft_test_c_function() {
  weft_test::site s = WEFT_TEST_HERE();
  weft_test::g_keep = 1;
  return s;
}

namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;
using weft::prof::frame;
using weft::prof::mapping;
using weft::prof::symbolize;
using weft_test::site;

uintptr_t address_of(const void* function) { return reinterpret_cast<uintptr_t>(function); }

const mapping* mapping_of(const std::vector<mapping>& mappings, uintptr_t pc) {
  auto it = std::find_if(mappings.begin(), mappings.end(),
                         [&](const mapping& m) { return pc >= m.start && pc < m.limit; });
  return it == mappings.end() ? nullptr : &*it;
}

// libc's own function: a plain dlsym would find a sanitizer's.
void* libc_function(const char* name) {
  static void* const libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
  return libc == nullptr ? nullptr : dlsym(libc, name);
}

TEST(Symbolize, NamesFileAndLineOfThisFile) {
  site s = weft_test::holder<int>::method(3);
  const std::vector<frame>& frames = symbolize(s.pc);
  ASSERT_FALSE(frames.empty());
  const frame& f = frames.back();
  EXPECT_EQ(f.name, "weft_test::holder<int>::method(int const&)");
  EXPECT_EQ(f.system_name, "_ZN9weft_test6holderIiE6methodERKi");
  EXPECT_THAT(f.file, EndsWith("symbolize_test.cc"));
  EXPECT_EQ(f.line, s.line);
  EXPECT_EQ(f.entry, address_of(reinterpret_cast<void*>(&weft_test::holder<int>::method)));
  EXPECT_FALSE(f.inlined);
}

TEST(Symbolize, NameOfCFunctionIsItsSystemName) {
  site s = weft_test_c_function();
  const frame& f = symbolize(s.pc).back();
  EXPECT_EQ(f.name, "weft_test_c_function");
  EXPECT_EQ(f.system_name, f.name);
  EXPECT_EQ(f.line, s.line);
}

TEST(Symbolize, StartLineIsTheDefinitionOrUnknown) {
  site s = weft_test_c_function();
  const frame& f = symbolize(s.pc).back();
  // The definition is one line above the call; 0 is the documented "unknown".
  EXPECT_TRUE(f.start_line == 0 || f.start_line == s.line - 1) << f.start_line << " vs " << s.line;
}

TEST(Symbolize, ExpandsInlinedFrames) {
  weft_test::physical(1);
  const std::vector<frame>& frames = symbolize(weft_test::g_inner.pc);
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_THAT(frames[0].name, HasSubstr("innermost"));
  EXPECT_THAT(frames[1].name, HasSubstr("middle"));
  EXPECT_EQ(frames[2].name, "weft_test::physical(int)");
  EXPECT_EQ(frames[0].line, weft_test::g_inner.line);
  EXPECT_GT(frames[1].line, frames[0].line);
  EXPECT_GT(frames[2].line, frames[1].line);
  EXPECT_TRUE(frames[0].inlined);
  EXPECT_TRUE(frames[1].inlined);
  EXPECT_FALSE(frames[2].inlined);
  auto entry = address_of(reinterpret_cast<void*>(&weft_test::physical));
  for (const frame& f : frames) EXPECT_EQ(f.entry, entry);
}

TEST(Symbolize, FindsLibcFunctions) {
  void* qsort_address = libc_function("qsort");
  ASSERT_NE(qsort_address, nullptr);
  const frame& f = symbolize(address_of(qsort_address) + 1).back();
  EXPECT_EQ(f.name, "qsort");
  EXPECT_EQ(f.entry, address_of(qsort_address));
}

TEST(Symbolize, DemanglesLibraryFunctions) {
  // An exported symbol of libstdc++, found by name so that its address is the library's.
  const char* mangled = "_ZNSo5flushEv";
  void* address = dlsym(RTLD_DEFAULT, mangled);
  ASSERT_NE(address, nullptr);
  const frame& f = symbolize(address_of(address)).back();
  EXPECT_EQ(f.system_name, mangled);
  EXPECT_THAT(f.name, StartsWith("std::"));
  EXPECT_THAT(f.name, HasSubstr("flush()"));
}

TEST(Symbolize, NamesVdsoFunctions) {
  auto base = getauxval(AT_SYSINFO_EHDR);
  if (base == 0) GTEST_SKIP() << "no vdso";
  void* vdso = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (vdso == nullptr) GTEST_SKIP() << "the vdso is not in the dynamic linker's list";
  void* clock = dlsym(vdso, "__vdso_clock_gettime");
  ASSERT_NE(clock, nullptr);
  EXPECT_THAT(symbolize(address_of(clock)).back().name, HasSubstr("clock_gettime"));
  dlclose(vdso);
}

TEST(Symbolize, UnknownPcGivesOneEmptyFrame) {
  for (uintptr_t pc : {uintptr_t{0}, uintptr_t{1}, uintptr_t{0x10000}, ~uintptr_t{0}}) {
    const std::vector<frame>& frames = symbolize(pc);
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_EQ(frames[0].name, "");
    EXPECT_EQ(frames[0].file, "");
    EXPECT_EQ(frames[0].entry, 0u);
  }
}

TEST(Symbolize, CachesByPc) {
  site s = weft_test_c_function();
  const std::vector<frame>* first = &symbolize(s.pc);
  size_t size = weft::prof::symbol_cache_size();
  EXPECT_EQ(&symbolize(s.pc), first);
  EXPECT_EQ(weft::prof::symbol_cache_size(), size);
  symbolize(s.pc + 1);
  EXPECT_EQ(weft::prof::symbol_cache_size(), size + 1);
}

TEST(Symbolize, SeesModulesLoadedLater) {
  symbolize(weft_test_c_function().pc);  // the state of now exists
  void* library = dlopen(WEFT_TEST_LATE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  void* function = dlsym(library, "weft_late_call");
  ASSERT_NE(function, nullptr);
  const std::vector<frame>& frames = symbolize(address_of(function) + 1);
  EXPECT_EQ(frames.back().name, "weft_late_call");
  EXPECT_THAT(frames.back().file, EndsWith("late_library.cc"));
  const frame copy = frames.back();

  // Its mapping is there with the library's name, and gone with the library.
  std::vector<mapping> mappings = weft::prof::current_mappings();
  const mapping* m = mapping_of(mappings, address_of(function));
  ASSERT_NE(m, nullptr);
  EXPECT_THAT(m->filename, HasSubstr("late"));

  dlclose(library);
  void* still = dlopen(WEFT_TEST_LATE_LIBRARY, RTLD_NOW | RTLD_NOLOAD);
  ASSERT_EQ(still, nullptr) << "the library did not unload";
  EXPECT_EQ(symbolize(address_of(function) + 1).back().name, "");
  EXPECT_EQ(mapping_of(weft::prof::current_mappings(), address_of(function)), nullptr);
  // References outlive the module.
  EXPECT_EQ(frames.back().name, copy.name);
  EXPECT_EQ(frames.back().file, copy.file);
}

TEST(Mappings, HoldTheExecutableWithItsBuildId) {
  std::vector<mapping> mappings = weft::prof::current_mappings();
  const mapping* self = mapping_of(mappings, address_of(reinterpret_cast<void*>(&mapping_of)));
  ASSERT_NE(self, nullptr);
  char path[4096] = {};
  ASSERT_GT(readlink("/proc/self/exe", path, sizeof path - 1), 0);
  EXPECT_EQ(self->filename, path);
  EXPECT_GE(self->build_id.size(), 16u);
  EXPECT_EQ(self->build_id.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(self->build_id.size() % 2, 0u);

  void* in_libc = libc_function("qsort");
  ASSERT_NE(in_libc, nullptr);
  const mapping* libc = mapping_of(mappings, address_of(in_libc));
  ASSERT_NE(libc, nullptr);
  EXPECT_THAT(libc->filename, HasSubstr("libc"));
  EXPECT_NE(libc->build_id, self->build_id);
}

TEST(Mappings, AreTheNamedExecutableOnesInFileOrder) {
  std::vector<mapping> mappings = weft::prof::current_mappings();
  ASSERT_FALSE(mappings.empty());
  for (const mapping& m : mappings) {
    EXPECT_LT(m.start, m.limit);
    EXPECT_FALSE(m.filename.empty());
    EXPECT_THAT(m.filename, testing::Not(EndsWith(" (deleted)")));
  }
  EXPECT_TRUE(std::is_sorted(mappings.begin(), mappings.end(),
                             [](const mapping& a, const mapping& b) { return a.start < b.start; }));
  size_t named_executable = 0;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    named_executable += line.find('x') == line.find(' ') + 3 && line.size() > 73;
  }
  EXPECT_EQ(mappings.size(), named_executable);
}

TEST(Symbolize, IsThreadSafe) {
  // Overlapping sets of pcs of the executable and of libc, in a different order in every thread.
  std::vector<uintptr_t> pcs;
  auto add = [&](const void* function) {
    for (uintptr_t i = 0; i < 40; ++i) pcs.push_back(address_of(function) + i);
  };
  add(reinterpret_cast<void*>(&weft_test::physical));
  add(reinterpret_cast<void*>(&mapping_of));
  add(libc_function("qsort"));
  add(libc_function("printf"));
  add(dlsym(RTLD_DEFAULT, "_ZNSo5flushEv"));
  constexpr size_t threads = 8, rounds = 50;
  std::vector<std::vector<const std::vector<frame>*>> seen(threads);
  std::atomic<size_t> ready{0};
  std::vector<std::thread> running;
  for (size_t t = 0; t < threads; ++t) {
    running.emplace_back([&, t] {
      seen[t].resize(pcs.size());
      ready.fetch_add(1);
      while (ready.load() < threads) std::this_thread::yield();
      for (size_t round = 0; round < rounds; ++round) {
        for (size_t i = 0; i < pcs.size(); ++i) {
          size_t index = (i * 7 + t * 13) % pcs.size();
          seen[t][index] = &symbolize(pcs[index]);
        }
      }
    });
  }
  for (std::thread& thread : running) thread.join();
  for (size_t t = 1; t < threads; ++t) EXPECT_EQ(seen[t], seen[0]);
  EXPECT_EQ(seen[0][0]->back().name, "weft_test::physical(int)");
}

// The elements and orders of libbacktrace's arrays.
struct range {
  uintptr_t low, high;
  const char* unit;
};
int compare_ranges(const void* a, const void* b) {
  const range &x = *static_cast<const range*>(a), &y = *static_cast<const range*>(b);
  if (x.low != y.low) return x.low < y.low ? -1 : 1;
  if (x.high != y.high) return x.high < y.high ? 1 : -1;
  return 0;
}
struct line {
  uintptr_t pc;
  const char* file;
  int number, index;
};
int compare_lines(const void* a, const void* b) {
  const line &x = *static_cast<const line*>(a), &y = *static_cast<const line*>(b);
  if (x.pc != y.pc) return x.pc < y.pc ? -1 : 1;
  return x.index < y.index ? -1 : x.index > y.index;
}
struct symbol {
  const char* name;
  uintptr_t address, size;
};
int compare_symbols(const void* a, const void* b) {
  const symbol &x = *static_cast<const symbol*>(a), &y = *static_cast<const symbol*>(b);
  return x.address < y.address ? -1 : x.address > y.address;
}

TEST(BacktraceSort, EveryPcIsInTheLastRangeThatStartsBeforeIt) {
  std::vector<range> ranges = {{100, 200, "a"}, {300, 900, "b"},  {350, 400, "c"}, {350, 380, "d"},
                               {500, 600, "e"}, {550, 580, "f"},  {850, 950, "g"}, {300, 310, "h"},
                               {20, 30, "i"},   {900, 1000, "j"}, {910, 940, "k"}};
  std::vector<range> given = ranges;
  backtrace_qsort(ranges.data(), ranges.size(), sizeof(range), compare_ranges);
  ASSERT_EQ(ranges.size(), given.size());
  for (uintptr_t pc = 0; pc < 1100; ++pc) {
    auto covers = [&](const range& r) { return pc >= r.low && pc < r.high; };
    // libbacktrace's search: the last range with low <= pc, then those with the same low.
    const range* found = nullptr;
    for (const range& r : ranges) {
      if (r.low <= pc && (found == nullptr || r.low > found->low || !covers(*found))) found = &r;
    }
    bool expected = std::any_of(given.begin(), given.end(), covers);
    EXPECT_EQ(found != nullptr && covers(*found), expected) << pc;
  }
}

TEST(BacktraceSort, LeavesOtherArraysWhole) {
  std::vector<line> lines = {{300, "x", 3, 2}, {100, "x", 1, 0}, {300, "y", 2, 1}};
  backtrace_qsort(lines.data(), lines.size(), sizeof(line), compare_lines);
  EXPECT_EQ(lines[0].number, 1);
  EXPECT_EQ(lines[1].number, 2);
  EXPECT_EQ(lines[2].number, 3);
  std::vector<symbol> symbols = {{"b", 200, 500}, {"a", 100, 900}, {"c", 250, 10}};
  backtrace_qsort(symbols.data(), symbols.size(), sizeof(symbol), compare_symbols);
  EXPECT_EQ(symbols[0].address, 100u);
  EXPECT_EQ(symbols[1].address, 200u);
  EXPECT_EQ(symbols[2].address, 250u);
  backtrace_qsort(nullptr, 0, sizeof(symbol), compare_symbols);
}

}  // namespace
