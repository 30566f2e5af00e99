// The unwinder's edges: where a trace starts and ends, what it does with bad input, modules that
// come and go, fibers, and handlers on alternate stacks. unwind_sampling_test.cc has the comparison
// with libgcc.
#include "profiler/unwind.h"

#include <alloca.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unwind.h>
#include <weft/detail/config.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "profiler/symbolize.h"
#include "profiler/unwind_table.h"
#include "tests/unit/profiler/own_stack.h"

// switch_to(&saved_rsp, new_rsp): the least a fiber switch can be. entry: a fiber's first frame,
// whose caller is declared undefined, calling the function in rbx.
asm(R"(
  .text
  .p2align 4
  .globl weft_test_switch_to
  .type weft_test_switch_to, @function
weft_test_switch_to:
  .cfi_startproc
  push %rbp
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %rbp, 0
  push %rbx
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %rbx, 0
  push %r12
  .cfi_adjust_cfa_offset 8
  push %r13
  .cfi_adjust_cfa_offset 8
  push %r14
  .cfi_adjust_cfa_offset 8
  push %r15
  .cfi_adjust_cfa_offset 8
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  .cfi_adjust_cfa_offset -8
  pop %r14
  .cfi_adjust_cfa_offset -8
  pop %r13
  .cfi_adjust_cfa_offset -8
  pop %r12
  .cfi_adjust_cfa_offset -8
  pop %rbx
  .cfi_adjust_cfa_offset -8
  .cfi_restore %rbx
  pop %rbp
  .cfi_adjust_cfa_offset -8
  .cfi_restore %rbp
  ret
  .cfi_endproc
  .size weft_test_switch_to, . - weft_test_switch_to

  .p2align 4
  .globl weft_test_fiber_entry
  .type weft_test_fiber_entry, @function
weft_test_fiber_entry:
  .cfi_startproc
  .cfi_undefined rip
  xor %ebp, %ebp
  sub $8, %rsp
  call *%rbx
  hlt
  .cfi_endproc
  .size weft_test_fiber_entry, . - weft_test_fiber_entry
)");
extern "C" void weft_test_switch_to(void** saved_rsp, void* new_rsp);
extern "C" void weft_test_fiber_entry();

namespace {

using weft::prof::regs;
using weft::prof::stack_range;
using weft::prof::unwind;
using weft::prof::unwind_end;
using weft::prof::unwind_here;
using weft::prof::unwind_refresh;
using weft::prof::unwind_result;
using weft::prof::test::own_stack;

// After a call: something left to do, so that the call is not a tail call and its frame stays.
[[gnu::always_inline]] inline void keep_frame() { asm volatile("" ::: "memory"); }

uintptr_t address_of(const void* p) { return reinterpret_cast<uintptr_t>(p); }

// Whether the return address `pc` lies in the function that starts at `function`.
bool within(uintptr_t pc, const void* function) {
  return weft::prof::symbolize(pc - 1).back().entry == address_of(function);
}

[[gnu::noinline]] std::vector<uintptr_t> libgcc_here() {
  std::vector<uintptr_t> pcs;
  _Unwind_Backtrace(
      [](_Unwind_Context* context, void* out) {
        if (uintptr_t pc = _Unwind_GetIP(context)) {
          static_cast<std::vector<uintptr_t>*>(out)->push_back(pc);
        }
        return _URC_NO_REASON;
      },
      &pcs);
  return pcs;
}

struct here {
  std::array<uintptr_t, 512> pcs{};
  unwind_result result{};
  std::span<uintptr_t> trace() { return std::span(pcs).first(result.depth); }
};

class Unwind : public testing::Test {
 protected:
  void SetUp() override { unwind_refresh(); }
};

void recurse(int depth, const stack_range& range, here& out);
// Called through a volatile pointer, so that the optimizer cannot unroll the recursion.
void (*volatile g_recurse)(int, const stack_range&, here&) = recurse;

[[gnu::noinline]] void recurse(int depth, const stack_range& range, here& out) {
  if (depth == 0) {
    out.result = unwind_here(range, out.pcs);
  } else {
    g_recurse(depth - 1, range, out);
  }
  keep_frame();
}

TEST_F(Unwind, HereStartsAtTheCallerAndEqualsLibgcc) {
  here h;
  h.result = unwind_here(own_stack(), h.pcs);
  std::vector<uintptr_t> expected = libgcc_here();
  EXPECT_EQ(h.result.end, unwind_end::outermost);
  // libgcc's list starts inside libgcc_here(); from this function's caller on both must agree.
  ASSERT_GE(h.result.depth, 3u);
  auto first_common = std::find(expected.begin(), expected.end(), h.pcs[1]);
  ASSERT_NE(first_common, expected.end());
  EXPECT_TRUE(std::equal(first_common, expected.end(), h.pcs.begin() + 1, h.trace().end().base()));
  EXPECT_EQ(first_common - expected.begin(), 2);  // libgcc_here() and this function
}

TEST_F(Unwind, FollowsRecursion) {
  here h;
  recurse(40, own_stack(), h);
  EXPECT_EQ(h.result.end, unwind_end::outermost);
  auto frames = std::count_if(h.trace().begin(), h.trace().end(), [](uintptr_t pc) {
    return within(pc, reinterpret_cast<void*>(&recurse));
  });
  EXPECT_EQ(frames, 41);
  EXPECT_TRUE(within(h.pcs[0], reinterpret_cast<void*>(&recurse)));
}

TEST_F(Unwind, TruncationKeepsTheLeafSideAndIsMarked) {
  struct truncated_walk {
    static void run(int depth, std::span<uintptr_t> pcs, unwind_result& result) {
      if (depth == 0) {
        result = unwind_here(own_stack(), pcs);
      } else {
        run(depth - 1, pcs, result);
      }
      keep_frame();
    }
  };
  size_t depth = 0;
  std::vector<uintptr_t> whole;
  // One call site for all, so that the traces differ in nothing but their room. The first round,
  // with room to spare, tells the depth.
  for (int round = 0; round < 5; ++round) {
    const size_t room[] = {512, depth, depth - 1, 7, 1};
    std::vector<uintptr_t> pcs(room[round]);
    unwind_result result{};
    truncated_walk::run(20, pcs, result);
    if (round == 0) {
      depth = result.depth;
      whole = pcs;
      ASSERT_GT(depth, 8u);
    }
    // Exactly enough room is not a truncation; one less is.
    const bool enough = room[round] >= depth;
    EXPECT_EQ(result.end, enough ? unwind_end::outermost : unwind_end::truncated) << room[round];
    EXPECT_EQ(result.depth, enough ? depth : room[round]);
    EXPECT_TRUE(
        std::equal(pcs.begin(), pcs.begin() + static_cast<ptrdiff_t>(result.depth), whole.begin()));
  }
  EXPECT_EQ(unwind_here(own_stack(), {}).end, unwind_end::truncated);
  EXPECT_EQ(unwind_here(own_stack(), {}).depth, 0u);
}

TEST_F(Unwind, GarbageRegistersEndCleanly) {
  // Every combination of nonsense, with a good pc: the trace ends, without touching memory outside
  // the range (which holds nothing but zeros and small numbers).
  alignas(16) std::array<uintptr_t, 64> memory{};
  for (size_t i = 0; i < memory.size(); i += 3) memory[i] = i;
  stack_range range{address_of(memory.data()), address_of(memory.data() + memory.size())};
  const uintptr_t pcs_in[] = {address_of(reinterpret_cast<void*>(&recurse)) + 20,
                              address_of(reinterpret_cast<void*>(&libgcc_here)) + 30,
                              address_of(dlsym(RTLD_DEFAULT, "qsort")) + 50};
  const uintptr_t values[] = {0,
                              1,
                              8,
                              range.lo,
                              range.lo + 1,
                              range.lo + 64,
                              range.hi,
                              range.hi - 8,
                              range.hi - 4,
                              ~uintptr_t{0},
                              uintptr_t{1} << 47};
  std::array<uintptr_t, 128> pcs{};
  for (uintptr_t pc : pcs_in) {
    for (uintptr_t rsp : values) {
      for (uintptr_t rbp : values) {
        unwind_result result = unwind({pc, rsp, rbp}, range, pcs);
        EXPECT_GE(result.depth, 1u);
        EXPECT_LE(result.depth, pcs.size());
        EXPECT_EQ(pcs[0], pc);
      }
    }
  }
  EXPECT_EQ(unwind({pcs_in[0], 0, 0}, range, pcs).end, unwind_end::bad_frame);
  EXPECT_EQ(unwind({pcs_in[0], range.lo, range.lo}, {range.lo, range.lo + 7}, pcs).end,
            unwind_end::bad_frame);
  EXPECT_EQ(unwind({pcs_in[0], range.lo, range.lo}, {range.hi, range.lo}, pcs).end,
            unwind_end::bad_frame);
}

TEST_F(Unwind, PcOutsideModulesEndsWithNoTable) {
  std::array<uintptr_t, 16> pcs{};
  stack_range range = own_stack();
  for (uintptr_t pc :
       {uintptr_t{0}, uintptr_t{1}, uintptr_t{0x1000}, address_of(&range), ~uintptr_t{0}}) {
    unwind_result result = unwind({pc, range.lo, range.lo}, range, pcs);
    EXPECT_EQ(result.depth, 1u);
    EXPECT_EQ(result.end, unwind_end::no_table) << std::hex << pc;
    EXPECT_EQ(pcs[0], pc);
  }
}

// ---- modules ---------------------------------------------------------------------------------

struct late_state {
  stack_range range;
  here before_refresh;
  here after_refresh;
};

int late_callback(void* argument) {
  auto& state = *static_cast<late_state*>(argument);
  state.before_refresh.result = unwind_here(state.range, state.before_refresh.pcs);
  unwind_refresh();
  state.after_refresh.result = unwind_here(state.range, state.after_refresh.pcs);
  return 0;
}

TEST_F(Unwind, RefreshSeesLoadedAndUnloadedLibraries) {
  const size_t modules = weft::prof::unwind_statistics().modules;
  size_t bytes_after_first = 0;
  for (int round = 0; round < 20; ++round) {
    void* library = dlopen(WEFT_TEST_LATE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    void* symbol = dlsym(library, "weft_late_call");
    ASSERT_NE(symbol, nullptr);
    int (*late_call)(int (*)(void*), void*) = nullptr;
    std::memcpy(&late_call, &symbol, sizeof symbol);
    late_state state{own_stack(), {}, {}};
    late_call(late_callback, &state);
    EXPECT_EQ(state.before_refresh.result.end, unwind_end::no_table);
    ASSERT_EQ(state.before_refresh.result.depth, 2u);
    EXPECT_GT(state.before_refresh.pcs[1], address_of(symbol));
    EXPECT_LT(state.before_refresh.pcs[1], address_of(symbol) + 500);
    EXPECT_EQ(state.after_refresh.result.end, unwind_end::outermost);
    EXPECT_GE(state.after_refresh.result.depth, 4u);
    EXPECT_EQ(weft::prof::unwind_statistics().modules, modules + 1);
    dlclose(library);
    unwind_refresh();
    EXPECT_EQ(weft::prof::unwind_statistics().modules, modules);
    std::array<uintptr_t, 4> pcs{};
    EXPECT_EQ(unwind({address_of(symbol), state.range.lo, 0}, state.range, pcs).end,
              unwind_end::no_table);
    // A library that comes back finds its table: no growth.
    if (round == 0) bytes_after_first = weft::prof::unwind_statistics().bytes;
    EXPECT_EQ(weft::prof::unwind_statistics().bytes, bytes_after_first);
  }
}

// Between two refreshes: what is newer than the tables is known to be so, and what has gone is not
// walked by the table of what was there.
TEST_F(Unwind, TablesAreNotUsedForModulesThatHaveGone) {
  unwind_refresh();
  void* library = dlopen(WEFT_TEST_LATE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  const uintptr_t code = address_of(dlsym(library, "weft_late_call"));
  ASSERT_NE(code, 0u);
  const stack_range range = own_stack();
  const uintptr_t here = address_of(__builtin_frame_address(0));
  std::array<uintptr_t, 4> pcs{};
  EXPECT_TRUE(weft::prof::unwind_is_behind(code));
  EXPECT_EQ(unwind({code, here, 0}, range, pcs).end, unwind_end::no_table);
  unwind_refresh();
  EXPECT_FALSE(weft::prof::unwind_is_behind(code));
  EXPECT_GT(unwind({code, here, 0}, range, pcs).depth, 1u) << "to whatever lies there";
  dlclose(library);
  EXPECT_FALSE(weft::prof::unwind_is_behind(code)) << "nothing is there";
  EXPECT_EQ(unwind({code, here, 0}, range, pcs).end, unwind_end::no_table);
  EXPECT_EQ(unwind({code, here, 0}, range, pcs).depth, 1u);
  unwind_refresh();
  EXPECT_EQ(unwind({code, here, 0}, range, pcs).end, unwind_end::no_table);
  EXPECT_FALSE(
      weft::prof::unwind_is_behind(reinterpret_cast<uintptr_t>(&weft::prof::unwind_is_behind)));
  EXPECT_FALSE(weft::prof::unwind_is_behind(here)) << "no code";
}

TEST_F(Unwind, WalksWhileAnotherThreadRefreshes) {
  // Readers use whichever snapshot is current; none of theirs may disappear under them.
  std::atomic<bool> stop{false};
  std::atomic<int> complete{0};
  std::vector<std::thread> walkers;
  for (int i = 0; i < 3; ++i) {
    walkers.emplace_back([&] {
      const stack_range range = own_stack();
      here h;
      do {
        recurse(10, range, h);
        complete.fetch_add(h.result.end == unwind_end::outermost);
        if (h.result.end != unwind_end::outermost) stop = true;
      } while (!stop.load());
      EXPECT_EQ(h.result.end, unwind_end::outermost);
    });
  }
  for (int round = 0; round < 100 || complete.load() < 300; ++round) {
    void* library = dlopen(WEFT_TEST_LATE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    unwind_refresh();
    dlclose(library);
    unwind_refresh();
    if (stop.load()) break;
  }
  stop = true;
  for (std::thread& walker : walkers) walker.join();
  EXPECT_GE(complete.load(), 300);
}

TEST_F(Unwind, StatisticsCountEveryModuleWithCode) {
  weft::prof::unwind_stats stats = weft::prof::unwind_statistics();
  EXPECT_GE(stats.modules, 2u);  // a static executable has itself and the vdso
  EXPECT_GT(stats.rows, 1000u);
  EXPECT_GE(stats.bytes, stats.rows * sizeof(weft::prof::unwind_row));
  EXPECT_LT(stats.unsupported_rows * 1000, stats.rows);
}

// ---- fibers ----------------------------------------------------------------------------------

struct fiber {
  static constexpr size_t size = 64 * 1024;
  alignas(16) std::array<char, size> stack;
  void* own_rsp = nullptr;
  void* main_rsp = nullptr;
  here inside;
  std::vector<uintptr_t> libgcc;

  stack_range range() const { return {address_of(stack.data()), address_of(stack.data() + size)}; }
};
fiber* g_fiber;

[[gnu::noinline]] void fiber_level_two() {
  g_fiber->inside.result = unwind_here(g_fiber->range(), g_fiber->inside.pcs);
  g_fiber->libgcc = libgcc_here();
  weft_test_switch_to(&g_fiber->own_rsp, g_fiber->main_rsp);
  keep_frame();
}

extern "C" void weft_test_fiber_main() {
  fiber_level_two();
  std::abort();  // never resumed
}

TEST_F(Unwind, FiberEndsAtTheUndefinedCaller) {
  auto f = std::make_unique<fiber>();
  g_fiber = f.get();
  void** top = static_cast<void**>(static_cast<void*>(f->stack.data() + fiber::size));
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&weft_test_fiber_entry);
  *--top = reinterpret_cast<void*>(uintptr_t{0xdead});      // rbp: must not matter
  *--top = reinterpret_cast<void*>(&weft_test_fiber_main);  // rbx
  for (int i = 0; i < 4; ++i) *--top = nullptr;             // r12-r15
  weft_test_switch_to(&f->main_rsp, top);

  here& h = f->inside;
  EXPECT_EQ(h.result.end, unwind_end::outermost);
  ASSERT_EQ(h.result.depth, 3u);
  EXPECT_TRUE(within(h.pcs[0], reinterpret_cast<void*>(&fiber_level_two)));
  EXPECT_TRUE(within(h.pcs[1], reinterpret_cast<void*>(&weft_test_fiber_main)));
  EXPECT_TRUE(within(h.pcs[2], reinterpret_cast<void*>(&weft_test_fiber_entry)));
  ASSERT_EQ(f->libgcc.size(), 4u);
  EXPECT_EQ(f->libgcc[3], h.pcs[2]);

  // The parked fiber, from its saved registers: r15 r14 r13 r12 rbx rbp rip.
  auto* saved = static_cast<uintptr_t*>(f->own_rsp);
  regs parked{saved[6], address_of(saved + 7), saved[5], saved[4]};
  std::array<uintptr_t, 16> pcs{};
  unwind_result result = unwind(parked, f->range(), pcs);
  EXPECT_EQ(result.end, unwind_end::outermost);
  ASSERT_EQ(result.depth, 3u);
  EXPECT_TRUE(within(pcs[0], reinterpret_cast<void*>(&fiber_level_two)));
  EXPECT_EQ(pcs[2], h.pcs[2]);
}

// ---- signal frames ---------------------------------------------------------------------------

struct signal_state {
  stack_range handler_stack;
  stack_range main_stack;
  uintptr_t interrupted;
  here from_context;
  here through_both;
  here handler_stack_only;
};
signal_state* g_signal;

[[gnu::noinline]] void unwind_in_handler(int, siginfo_t*, void* ucontext) {
  signal_state& s = *g_signal;
  regs start = weft::prof::regs_from_ucontext(ucontext);
  s.interrupted = start.rip;
  s.from_context.result = unwind(start, s.main_stack, s.from_context.pcs);
  stack_range both{std::min(s.handler_stack.lo, s.main_stack.lo),
                   std::max(s.handler_stack.hi, s.main_stack.hi)};
  s.through_both.result = unwind_here(both, s.through_both.pcs);
  s.handler_stack_only.result = unwind_here(s.handler_stack, s.handler_stack_only.pcs);
}

void with_handler(signal_state& state, int flags, void (*interrupted)()) {
  g_signal = &state;
  struct sigaction action {};
  struct sigaction old {};
  action.sa_sigaction = unwind_in_handler;
  action.sa_flags = SA_SIGINFO | flags;
  sigemptyset(&action.sa_mask);
  sigaction(SIGUSR1, &action, &old);
  interrupted();
  sigaction(SIGUSR1, &old, nullptr);
}

[[gnu::noinline]] void raise_inside() {
  raise(SIGUSR1);
  keep_frame();
}

// The frames that the handler's own trace shows below the kernel's signal frame must be those of
// the interrupted code.
void expect_continues_below_signal_frame(here& through, here& context, uintptr_t interrupted) {
  auto below = std::find(through.trace().begin(), through.trace().end(), interrupted);
  ASSERT_NE(below, through.trace().end());
  EXPECT_GE(below - through.trace().begin(), 2);  // the handler, __restore_rt
  EXPECT_TRUE(
      std::equal(below, through.trace().end(), context.trace().begin(), context.trace().end()));
}

TEST_F(Unwind, GoesThroughASignalFrame) {
#if WEFT_TSAN
  GTEST_SKIP() << "ThreadSanitizer calls handlers from its own frames";
#endif
  auto s = std::make_unique<signal_state>();
  s->main_stack = s->handler_stack = own_stack();
  with_handler(*s, 0, raise_inside);
  EXPECT_EQ(s->from_context.result.end, unwind_end::outermost);
  EXPECT_EQ(s->through_both.result.end, unwind_end::outermost);
  expect_continues_below_signal_frame(s->through_both, s->from_context, s->interrupted);
}

// A frame addressed by rbp whose saved rbp points to itself, and that was called from itself: what
// a smashed stack may look like.
[[gnu::noinline]] weft::prof::unwind_ends_result ends_of_a_cycle(size_t unknown_size) {
  volatile char* room = static_cast<volatile char*>(__builtin_alloca(unknown_size));
  room[0] = 0;
  uintptr_t pc = 0;
  asm volatile("leaq 1f(%%rip), %0\n1:" : "=r"(pc));
  uintptr_t words[64] = {};  // below the frame: whatever other registers it has saved
  uintptr_t* const frame = words + 32;
  frame[0] = address_of(frame);
  frame[1] = pc;
  regs from{};
  from.rip = pc;
  from.rsp = from.rbp = frame[0];
  uintptr_t inner[8];
  uintptr_t outer[8];
  return weft::prof::unwind_ends(from, {address_of(words), address_of(words) + sizeof words}, inner,
                                 outer);
}

TEST_F(Unwind, BothEndsOfACycleAreFoundInBoundedTime) {
  unwind_refresh();
  const weft::prof::unwind_ends_result r = ends_of_a_cycle(100);
  EXPECT_EQ(r.end, unwind_end::truncated);
  EXPECT_EQ(r.total, 64u + 2);
  EXPECT_EQ(r.inner + r.outer, 16u);
}

TEST_F(Unwind, GoesThroughASignalFrameOnAnotherStack) {
#if WEFT_TSAN
  GTEST_SKIP() << "ThreadSanitizer calls handlers from its own frames";
#endif
  // The alternate stack lies in the same mapping as the thread's, so that one range covers both,
  // and once below and once above it.
  for (bool alternate_above : {false, true}) {
    constexpr size_t part = 256 * 1024;
    void* memory =
        mmap(nullptr, 2 * part, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    char* thread_base = static_cast<char*>(memory) + (alternate_above ? 0 : part);
    char* handler_base = static_cast<char*>(memory) + (alternate_above ? part : 0);
    auto s = std::make_unique<signal_state>();
    s->main_stack = {address_of(thread_base), address_of(thread_base + part)};
    s->handler_stack = {address_of(handler_base), address_of(handler_base + part)};
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    ASSERT_EQ(pthread_attr_setstack(&attributes, thread_base, part), 0);
    pthread_t thread{};
    auto body = [](void* argument) -> void* {
      auto& state = *static_cast<signal_state*>(argument);
      stack_t alternate{};
      alternate.ss_sp = reinterpret_cast<void*>(state.handler_stack.lo);
      alternate.ss_size = state.handler_stack.hi - state.handler_stack.lo;
      stack_t previous{};
      sigaltstack(&alternate, &previous);
      with_handler(state, SA_ONSTACK, raise_inside);
      sigaltstack(&previous, nullptr);
      return nullptr;
    };
    ASSERT_EQ(pthread_create(&thread, &attributes, body, s.get()), 0);
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);

    EXPECT_EQ(s->from_context.result.end, unwind_end::outermost);
    EXPECT_EQ(s->through_both.result.end, unwind_end::outermost);
    expect_continues_below_signal_frame(s->through_both, s->from_context, s->interrupted);
    // A range of the handler's stack alone: up to the interrupted pc, no further.
    here& only = s->handler_stack_only;
    EXPECT_EQ(only.result.end, unwind_end::bad_frame);
    ASSERT_GE(only.result.depth, 3u);
    EXPECT_EQ(only.trace().back(), s->interrupted);
    munmap(memory, 2 * part);
  }
}

}  // namespace
