// The table unwinder against libgcc's on thousands of stacks interrupted at arbitrary instructions:
// qsort callbacks, streams, formatted output, realigned and alloca frames, the vdso, malloc, libm,
// exceptions. Each handler unwinds twice and compares; 99.9 % of the samples must be equal.
#include <alloca.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>
#include <weft/detail/config.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <ostream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <thread>
#include <vector>

#include "profiler/unwind.h"
#include "tests/unit/profiler/own_stack.h"

namespace {

using weft::prof::stack_range;
using weft::prof::unwind_end;
using weft::prof::test::own_stack;

constexpr size_t max_depth = 256;
constexpr int wanted_samples = 10000;

// ---- the interrupted work --------------------------------------------------------------------

volatile double g_sink;

struct discarding_buffer : std::streambuf {
  size_t bytes = 0;
  std::streamsize xsputn(const char* s, std::streamsize n) override {
    for (std::streamsize i = 0; i < n; ++i) bytes += static_cast<unsigned char>(s[i]) & 1;
    return n;
  }
  int overflow(int c) override {
    ++bytes;
    return c;
  }
};

int compare_ints(const void* a, const void* b) {
  double x = *static_cast<const int*>(a), y = *static_cast<const int*>(b);
  g_sink = std::sin(x) + y;
  return x < y ? -1 : x > y;
}

[[gnu::noinline]] void sort_with_callbacks(unsigned seed) {
  std::array<int, 64> values;
  for (int& v : values) v = static_cast<int>((seed = seed * 1664525 + 1013904223) >> 8);
  std::qsort(values.data(), values.size(), sizeof(int), compare_ints);
  std::sort(values.begin(), values.end(), [](int a, int b) { return (a ^ 5) > (b ^ 5); });
  g_sink = values[3];
}

[[gnu::noinline]] void print_to_stream(unsigned seed) {
  discarding_buffer buffer;
  std::ostream out(&buffer);
  out << "value " << seed << ' ' << 1.5 * seed << std::hex << seed << '\n';
  char text[128];
  std::snprintf(text, sizeof text, "%u %.17g %s %p", seed, seed / 3.0, "text",
                static_cast<void*>(text));
  g_sink = static_cast<double>(buffer.bytes) + text[2];
}

[[gnu::noinline]] void use_alloca(unsigned seed) {
  size_t size = 16 + seed % 4000;
  auto* memory = static_cast<char*>(alloca(size));
  std::memset(memory, static_cast<int>(seed), size);
  std::snprintf(memory, 16, "%u", seed);
  g_sink = memory[seed % 16];
}

struct alignas(64) wide {
  double lanes[8];
};

[[gnu::noinline]] void fill(wide& w, double x) {
  for (int i = 0; i < 8; ++i) w.lanes[i] = std::pow(x, i);
}

// Over-aligned locals beside alloca: gcc addresses such a frame through a dereferenced rbp slot.
[[gnu::noinline]] void realigned_frame(unsigned seed, int a, int b, int c, int d, int e, int f,
                                       int on_stack) {
  wide w;
  auto* memory = static_cast<char*>(alloca(seed % 256 + 16));
  fill(w, seed % 7);
  std::snprintf(memory, 16, "%d", a + b + c + d + e + f + on_stack);
  g_sink = w.lanes[seed % 8] + memory[0];
}

[[gnu::noinline]] void large_frame(unsigned seed) {
  volatile char block[100000];
  block[seed % sizeof block] = 1;
  std::snprintf(const_cast<char*>(&block[0]), 64, "%u", seed);
  g_sink = block[seed % 3];
}

[[gnu::noinline]] void throw_deep(int depth) {
  std::string owned(static_cast<size_t>(20 + depth), 'x');
  if (depth == 0) throw std::runtime_error("thrown " + owned);
  throw_deep(depth - 1);
  g_sink = owned[0];
}

[[gnu::noinline]] void exceptions(unsigned seed) {
  try {
    throw_deep(static_cast<int>(seed % 5));
  } catch (const std::exception& e) {
    g_sink = e.what()[0];
  }
}

[[gnu::noinline]] void allocations(unsigned seed) {
  std::array<void*, 32> blocks;
  for (void*& block : blocks) block = std::malloc((seed = seed * 69069 + 1) % 3000 + 1);
  for (void* block : blocks) std::free(block);
}

[[gnu::noinline]] void clocks() {
  timespec t;
  for (int i = 0; i < 20; ++i) clock_gettime(CLOCK_MONOTONIC, &t);
  g_sink = static_cast<double>(t.tv_nsec);
}

[[gnu::noinline]] void work(unsigned seed, int depth) {
  if (depth > 0) {
    work(seed, depth - 1);
    g_sink = depth;
    return;
  }
  sort_with_callbacks(seed);
  print_to_stream(seed);
  use_alloca(seed);
  realigned_frame(seed, 1, 2, 3, 4, 5, 6, 7);
  large_frame(seed);
  if (seed % 8 == 0) exceptions(seed);
  allocations(seed);
  clocks();
}

// ---- the sampler -----------------------------------------------------------------------------

struct trace {
  std::array<uintptr_t, max_depth> pcs;
  size_t depth;
};

struct mismatch {
  trace table;
  trace libgcc;
  unwind_end end;
};

struct sampler {
  stack_range range{};
  stack_range libgcc_text{};
  std::atomic<int> samples{0};
  std::atomic<int> equal{0};
  std::atomic<int> in_throw{0};
  std::atomic<int> from_timer{0};
  std::atomic<size_t> frames{0};
  std::array<int, 4> ends{};
  std::array<mismatch, 64> mismatches{};
  std::atomic<size_t> mismatch_count{0};
  std::array<uintptr_t, 64> cut_off{};  // the last pc of traces that did not reach the bottom
  std::atomic<size_t> cut_off_count{0};
  trace table{};
  trace libgcc{};
};
sampler* g_sampler;

struct libgcc_walk {
  uintptr_t from;  // the interrupted pc: frames before it are the handler's
  bool started;
  trace* out;
};

_Unwind_Reason_Code on_frame(_Unwind_Context* context, void* arg) {
  auto& walk = *static_cast<libgcc_walk*>(arg);
  int exact = 0;
  uintptr_t pc = _Unwind_GetIPInfo(context, &exact);
  if (!walk.started && exact != 0 && pc == walk.from) walk.started = true;
  if (walk.started && pc != 0 && walk.out->depth < max_depth) {
    walk.out->pcs[walk.out->depth++] = pc;
  }
  return _URC_NO_REASON;
}

void on_sample(int signal, siginfo_t* /*info*/, void* ucontext) {
  sampler& s = *g_sampler;
  weft::prof::regs start = weft::prof::regs_from_ucontext(ucontext);
  weft::prof::unwind_result result = weft::prof::unwind(start, s.range, s.table.pcs);
  s.table.depth = result.depth;
  ++s.ends[static_cast<size_t>(result.end)];
  if (result.end != unwind_end::outermost && result.depth != 0) {
    size_t index = s.cut_off_count.fetch_add(1, std::memory_order_relaxed);
    if (index < s.cut_off.size()) s.cut_off[index] = s.table.pcs[result.depth - 1];
  }
  s.frames.fetch_add(result.depth, std::memory_order_relaxed);
  if (signal == SIGPROF) s.from_timer.fetch_add(1, std::memory_order_relaxed);
  // While an exception is in flight, libgcc writes the landing pad's registers over the ones that
  // its own frames have saved; its backtrace then follows them into the void and crashes. No oracle
  // there.
  for (size_t i = 0; i < result.depth; ++i) {
    if (s.table.pcs[i] >= s.libgcc_text.lo && s.table.pcs[i] < s.libgcc_text.hi) {
      s.in_throw.fetch_add(1, std::memory_order_relaxed);
      s.samples.fetch_add(1, std::memory_order_release);
      return;
    }
  }
  s.libgcc.depth = 0;
  libgcc_walk walk{start.rip, false, &s.libgcc};
  _Unwind_Backtrace(on_frame, &walk);
  bool same =
      s.table.depth == s.libgcc.depth &&
      std::equal(s.table.pcs.begin(), s.table.pcs.begin() + s.table.depth, s.libgcc.pcs.begin());
  if (same) {
    s.equal.fetch_add(1, std::memory_order_relaxed);
  } else {
    size_t index = s.mismatch_count.fetch_add(1, std::memory_order_relaxed);
    if (index < s.mismatches.size()) s.mismatches[index] = {s.table, s.libgcc, result.end};
  }
  s.samples.fetch_add(1, std::memory_order_release);
}

// The executable segment that holds _Unwind_Backtrace: libgcc_s, or all of a static executable.
int find_libgcc(dl_phdr_info* info, size_t /*size*/, void* out) {
  const auto wanted = reinterpret_cast<uintptr_t>(&_Unwind_Backtrace);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    uintptr_t lo = info->dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_LOAD && wanted >= lo && wanted - lo < header.p_memsz) {
      *static_cast<stack_range*>(out) = {lo, lo + header.p_memsz};
      return 1;
    }
  }
  return 0;
}

std::string describe(uintptr_t pc) {
  Dl_info info{};
  if (pc == 0 || dladdr(reinterpret_cast<void*>(pc), &info) == 0) return "?";
  std::string module = info.dli_fname == nullptr ? "?" : info.dli_fname;
  char offset[32];
  std::snprintf(offset, sizeof offset, "+0x%zx", pc - reinterpret_cast<uintptr_t>(info.dli_fbase));
  return module + offset + (info.dli_sname == nullptr ? "" : std::string(" ") + info.dli_sname);
}

// Groups the mismatches by the frame after which the two unwinders part, and lists the traces that
// neither of them could complete.
void print_mismatches(const sampler& s) {
  std::map<std::string, int> groups;
  size_t kept = std::min(s.mismatch_count.load(), s.mismatches.size());
  for (size_t i = 0; i < kept; ++i) {
    const mismatch& m = s.mismatches[i];
    size_t common = 0;
    while (common < m.table.depth && common < m.libgcc.depth &&
           m.table.pcs[common] == m.libgcc.pcs[common]) {
      ++common;
    }
    std::string group = "end " + std::to_string(static_cast<int>(m.end)) + ", after ";
    group += common == 0 ? "start" : describe(m.table.pcs[common - 1]);
    group += ", table " + std::to_string(m.table.depth) + " frames, libgcc " +
             std::to_string(m.libgcc.depth);
    ++groups[group];
  }
  size_t cut_off = std::min(s.cut_off_count.load(), s.cut_off.size());
  for (size_t i = 0; i < cut_off; ++i) ++groups["cut off at " + describe(s.cut_off[i])];
  for (const auto& [group, count] : groups) std::printf("  %4d x %s\n", count, group.c_str());
}

TEST(UnwindSampling, EqualsLibgccOnInterruptedStacks) {
#if WEFT_TSAN
  GTEST_SKIP() << "ThreadSanitizer delays signals, so the context no longer describes the stack";
#endif
  weft::prof::unwind_refresh();
  auto owned = std::make_unique<sampler>();
  sampler& s = *owned;
  g_sampler = &s;

  // libgcc's first use may load and bind; both must not happen inside the handler.
  libgcc_walk warm{0, false, &s.libgcc};
  _Unwind_Backtrace(on_frame, &warm);
  ASSERT_EQ(dl_iterate_phdr(find_libgcc, &s.libgcc_text), 1);

  struct sigaction action {};
  action.sa_sigaction = on_sample;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGPROF);
  sigaddset(&action.sa_mask, SIGUSR2);
  struct sigaction old_prof {
  }, old_usr2{};
  sigaction(SIGPROF, &action, &old_prof);
  sigaction(SIGUSR2, &action, &old_usr2);

  std::atomic<pid_t> worker_tid{0};
  std::atomic<bool> stop{false};
  std::thread worker([&] {
    s.range = own_stack();
    pid_t tid = gettid();
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGPROF;
    event._sigev_un._tid = tid;
    timer_t timer{};
    ASSERT_EQ(timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer), 0);
    itimerspec every{{0, 1000000}, {0, 1000000}};
    ASSERT_EQ(timer_settime(timer, 0, &every, nullptr), 0);
    worker_tid.store(tid);
    for (unsigned i = 0; !stop.load(std::memory_order_relaxed); ++i) {
      work(i * 2654435761u, static_cast<int>(i % 20));
    }
    timer_delete(timer);
  });
  while (worker_tid.load() == 0) std::this_thread::yield();

  // The CPU timer is bound to the kernel's tick (250 Hz); a second thread provides the thousands.
  // It waits for each sample, then a random moment, so the interrupted instruction is arbitrary.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  unsigned random = 12345;
  while (s.samples.load(std::memory_order_acquire) < wanted_samples &&
         std::chrono::steady_clock::now() < deadline) {
    int before = s.samples.load(std::memory_order_acquire);
    syscall(SYS_tgkill, getpid(), worker_tid.load(), SIGUSR2);
    while (s.samples.load(std::memory_order_acquire) == before &&
           std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::microseconds(10));
    }
    random = random * 1664525 + 1013904223;
    std::this_thread::sleep_for(std::chrono::nanoseconds((random >> 8) % 60000));
  }
  stop = true;
  worker.join();
  sigaction(SIGPROF, &old_prof, nullptr);
  sigaction(SIGUSR2, &old_usr2, nullptr);

  const int total = s.samples.load();
  const int compared = total - s.in_throw.load();
  const double percent = 100.0 * s.equal.load() / std::max(compared, 1);
  std::printf(
      "%d samples (%d from the CPU timer), %.1f frames each, %d inside a throw; %d compared, %d "
      "equal = %.3f %%; ends: outermost %d, truncated %d, no table %d, bad frame %d\n",
      total, s.from_timer.load(), static_cast<double>(s.frames.load()) / std::max(total, 1),
      s.in_throw.load(), compared, s.equal.load(), percent, s.ends[0], s.ends[1], s.ends[2],
      s.ends[3]);
  print_mismatches(s);
  RecordProperty("samples", total);
  RecordProperty("equal", s.equal.load());
  EXPECT_GE(compared, 5000);
  EXPECT_GT(s.from_timer.load(), 0);
  EXPECT_GE(percent, 99.9);
  EXPECT_GT(s.frames.load(), static_cast<size_t>(total) * 5);
}

}  // namespace
