// Stopping the world for a collector or for an instant: every thread that executes task code, or
// code of a foreign thread that the runtime knows, holds still where its registers and stack can be
// read.
//
// Who        A thread whose `current` is null executes the scheduler. One that `rests` is in code
//            that touches no collected object, and its stack above stop_sp does not change. Both
//            are left alone, and held up when they want to begin (pass_gate) or go on (end_rest).
//            All others must stop.
// How        A thread asks at every enter(): its steal word is set to steal_stop, which leads to
//            slow_enter(). Code that does not call the runtime gets the thread signal and stops in
//            the handler, at any instruction: its registers are in the signal frame. Inside a
//            critical section the handler only leaves stop_pending; the signal is sent again until
//            the thread stops.
// [W1]       Who begins to execute a task stores `current`, then reads g_gate; who stops the world
//            sets g_gate, lets every thread pass a fence (membarrier), then reads `current`. So
//            either the stop waits for that thread, or the thread sees the gate closed. The same
//            holds for `rests`, with full fences, because a rest's end is rare.
// [W2]       A thread stops with no spinlock of the runtime held: in enter(), before anything was
//            done; in the handler, outside critical sections; and at the gate, on its own context,
//            after the lock that a parking task released.
// Retreat    A thread may be inside a critical section, in malloc say, waiting for a lock whose
//            owner has been stopped outside of one. After `patience` everybody is let go on, and
//            the stop is tried again. Nothing has been changed until all have stopped.
// Rejected   stop_world() of control.cc: it takes processors away, and leaves the code running.
#include "scheduler/world_stop.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <climits>
#include <cstring>
#include <iterator>
#include <mutex>

#include "base/check.h"
#include "base/clock.h"
#include "base/futex.h"
#include "base/spinlock.h"
#include "scheduler/instant.h"
#include "scheduler/park.h"
#include "scheduler/scheduler.h"
#include "scheduler/thread_signal.h"

namespace weft::sched {

std::atomic<uint32_t> g_gate{0};
std::atomic<uint32_t> g_scan_epoch{0};

namespace {

constexpr int64_t polite_ns = 20'000;   // how long before the first signal
constexpr int64_t resend_ns = 100'000;  // and between two
constexpr int64_t report_ns = 1'000'000'000;
constexpr size_t red_zone = 128;
constexpr uintptr_t page = 4096;

scan_port g_port;
std::mutex g_one_stop;                   // held from stop_all_code() to resume_all_code()
std::atomic<uint32_t> g_stop_number{0};  // of the stop under way
std::atomic<uint32_t> g_resumed{0};      // of the last stop that has ended
std::atomic<uint32_t> g_acks{0};
stop_statistics g_statistics;
int64_t g_first_failure_ns = 0;

void wait_for_resume(uint32_t number) noexcept {
  for (int spins = 0;; ++spins) {
    uint32_t done = g_resumed.load(std::memory_order_acquire);  // [ord world.resume]
    if (static_cast<int32_t>(done - number) >= 0) return;
    if (spins < 200)
      base::cpu_relax();
    else
      base::futex_wait(g_resumed, done, -1);
  }
}

// [ord world.stopped] release: where the roots are is visible to who reads the number; so is what a
// task did to the heap to who reads that its thread is back in the scheduler, or rests.
void acknowledge(thread* th, uint32_t number) noexcept {
  th->stopped_for.store(number, std::memory_order_release);
  g_acks.fetch_add(1, std::memory_order_release);
  base::futex_wake(g_acks, 1);
}

// Everything that the calling function and its callers keep in registers or on the stack is at or
// above the stack pointer, or in `regs`.
[[gnu::always_inline]] inline const void* spill(uintptr_t* regs) noexcept {
  const void* sp;
#if defined(__x86_64__)
  asm volatile(
      "movq %%rbx, 0(%1)\n\tmovq %%rbp, 8(%1)\n\tmovq %%r12, 16(%1)\n\t"
      "movq %%r13, 24(%1)\n\tmovq %%r14, 32(%1)\n\tmovq %%r15, 40(%1)\n\t"
      "movq %%rsp, %0"
      : "=&r"(sp)
      : "r"(regs)
      : "memory");
#else
  __builtin_unwind_init();
  sp = __builtin_frame_address(0);
  static_cast<void>(regs);
#endif
  return sp;
}

bool within(const void* p, const memory_range& r) noexcept { return p >= r.lo && p < r.hi; }

memory_range stack_of(const thread& th, const task* t) noexcept {
  if (th.foreign)
    return {reinterpret_cast<const void*>(th.stack_lo), reinterpret_cast<const void*>(th.stack_hi)};
  return {t->stk->lo, t->stk->hi};
}

uintptr_t sp_of(const ucontext_t& uc) noexcept {
#if defined(__x86_64__)
  return static_cast<uintptr_t>(uc.uc_mcontext.gregs[REG_RSP]);
#else
  return static_cast<uintptr_t>(uc.uc_mcontext.sp);
#endif
}

// The registers that a signal frame keeps beside the general ones: x87, SSE and, behind them, what
// the processor has more (a memmove may hold a pointer in a vector register only).
memory_range vector_registers(const ucontext_t& uc) noexcept {
#if defined(__x86_64__)
  const auto* state = reinterpret_cast<const char*>(uc.uc_mcontext.fpregs);
  if (state == nullptr) return {nullptr, nullptr};
  struct {
    uint32_t magic, extended_size;
    uint64_t features;
    uint32_t size, padding[7];
  } software;
  std::memcpy(&software, state + 464, sizeof software);
  constexpr uint32_t extended_magic = 0x46505853;
  size_t size = software.magic == extended_magic ? software.size : 512;
  return {state, state + size};
#else
  static_cast<void>(uc);
  return {nullptr, nullptr};
#endif
}

// The lowest byte of a stack that has memory: for code that left the task's stack for one of its
// own (a coroutine library's, a signal stack) nobody knows where it was left.
const void* lowest_resident(const memory_range& r) noexcept {
  static unsigned char pages[4096];  // one caller at a time, or under the registry's lock
  auto at = reinterpret_cast<uintptr_t>(r.lo) & ~(page - 1);
  const auto end = reinterpret_cast<uintptr_t>(r.hi);
  while (at < end) {
    size_t n = (end - at + page - 1) / page;
    if (n > sizeof pages) n = sizeof pages;
    if (::mincore(reinterpret_cast<void*>(at), n * page, pages) != 0) return r.lo;
    for (size_t i = 0; i < n; ++i) {
      if ((pages[i] & 1) != 0) return reinterpret_cast<const void*>(at + i * page);
    }
    at += n * page;
  }
  return r.hi;
}

bool must_stop(const thread& th) noexcept {
  return th.current.load(std::memory_order_acquire) != nullptr &&
         !th.rests.load(std::memory_order_acquire);
}

struct round {
  uint32_t number;
  bool signals;
  int missing;
  const thread* example;
};

void look_at(thread* th, void* arg) noexcept {
  auto& r = *static_cast<round*>(arg);
  if (!must_stop(*th) || th->stopped_for.load(std::memory_order_acquire) == r.number) return;
  ++r.missing;
  r.example = th;
  int keep = 0;
  th->steal.compare_exchange_strong(keep, steal_stop, std::memory_order_relaxed);
  if (!r.signals) return;
  th->stop_signalled.store(true, std::memory_order_relaxed);
  ++g_statistics.signals;
  send_thread_signal(*th);
}

void forget_request(thread* th, void*) noexcept {
  int asked = steal_stop;
  th->steal.compare_exchange_strong(asked, 0, std::memory_order_relaxed);
}

}  // namespace

void prepare_to_stop() noexcept {
  register_fences();
  install_thread_signal();
}

void set_scan_port(const scan_port& port) noexcept {
  g_port = port;
  prepare_to_stop();
}

[[gnu::noinline]] void stop_here(thread* th) noexcept {
  const int was = th->crit.load(std::memory_order_relaxed);
  th->crit.store(1, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  th->stop_pending.store(false, std::memory_order_relaxed);
  for (uint32_t gate; ((gate = g_gate.load(std::memory_order_seq_cst)) & gate_stop) != 0;) {
    const uint32_t number = g_stop_number.load(std::memory_order_acquire);
    if ((gate & gate_instant) != 0) instant_stopped(*th, nullptr);
    th->stop_ucontext = nullptr;
    th->stop_sp = spill(th->saved_regs);
    acknowledge(th, number);
    wait_for_resume(number);
  }
  th->crit.store(was, std::memory_order_release);
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

bool stop_on_signal(void* ucontext) noexcept {
  thread* th = self_or_null();
  if (th == nullptr || !th->stop_signalled.exchange(false, std::memory_order_relaxed)) return false;
  if ((g_gate.load(std::memory_order_seq_cst) & gate_stop) == 0) return true;
  if (th->crit.load(std::memory_order_relaxed) != 0) {
    th->stop_pending.store(true, std::memory_order_relaxed);
    return true;
  }
  const task* t = th->current.load(std::memory_order_relaxed);
  if (t == nullptr || th->rests.load(std::memory_order_relaxed)) return true;
  // A sanitizer delivers signals late, on the task's own stack and with another context's
  // registers.
  if (within(__builtin_frame_address(0), stack_of(*th, t))) {
    stop_here(th);
    return true;
  }
  for (uint32_t gate; ((gate = g_gate.load(std::memory_order_seq_cst)) & gate_stop) != 0;) {
    const uint32_t number = g_stop_number.load(std::memory_order_acquire);
    if ((gate & gate_instant) != 0) instant_stopped(*th, ucontext);
    th->stop_ucontext = ucontext;
    acknowledge(th, number);
    wait_for_resume(number);
  }
  return true;
}

void pass_gate(thread* th, task* t) noexcept {
  for (;;) {
    if ((g_gate.load(std::memory_order_seq_cst) & gate_stop) != 0) {
      th->current.store(nullptr, std::memory_order_seq_cst);
      wait_for_resume(g_stop_number.load(std::memory_order_acquire));
      continue;
    }
    th->current.store(t, std::memory_order_seq_cst);
    const uint32_t gate = g_gate.load(std::memory_order_seq_cst);  // [W1]
    if ((gate & gate_stop) != 0) continue;
    if ((gate & gate_instant) != 0) instant_before_run(*th, *t);
    if ((gate & gate_scan) != 0) g_port.before_run(*t);
    return;
  }
}

// Registers that this function and its caller pushed are in frames which will be gone while the
// thread rests: the bytes next to the stack pointer are copied.
[[gnu::noinline]] WEFT_NO_SANITIZE void begin_rest(thread* th) noexcept {
  th->stop_ucontext = nullptr;
  th->stop_sp = spill(th->saved_regs);
  const task* t = th->current.load(std::memory_order_relaxed);
  const auto* from = static_cast<const uintptr_t*>(th->stop_sp);
  const auto* hi = static_cast<const uintptr_t*>(stack_of(*th, t).hi);
  for (size_t i = 8; i < std::size(th->saved_regs); ++i)
    th->saved_regs[i] = from < hi ? *from++ : 0;
  th->rests.store(true, std::memory_order_release);  // [ord world.stopped]
}

void end_rest(thread* th) noexcept {
  // A critical section, or the signal could stop the thread in the middle of the scan, with part of
  // what it has found in its own hands.
  const int was = th->crit.load(std::memory_order_relaxed);
  th->crit.store(1, std::memory_order_relaxed);
  for (;;) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    th->rests.store(false, std::memory_order_seq_cst);
    const uint32_t gate = g_gate.load(std::memory_order_seq_cst);  // [W1]
    if ((gate & gate_stop) == 0) {
      if ((gate & gate_instant) != 0) instant_before_return(*th);
      if ((gate & gate_scan) != 0) g_port.before_return(*th);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      th->crit.store(was, std::memory_order_release);
      if (was == 0) stop_if_pending(th);
      return;
    }
    // Back to rest, with what was spilled at its beginning: somebody may be reading that.
    th->rests.store(true, std::memory_order_seq_cst);
    wait_for_resume(g_stop_number.load(std::memory_order_acquire));
  }
}

bool stop_all_code(int64_t patience_ns, uint32_t also) noexcept {
  g_one_stop.lock();
  const int64_t start = base::true_now_ns();
  round r{g_stop_number.load(std::memory_order_relaxed) + 1, false, 0, nullptr};
  g_stop_number.store(r.number, std::memory_order_seq_cst);
  g_gate.fetch_or(gate_stop | also, std::memory_order_seq_cst);
  fence_all_threads();  // [W1]
  int64_t signalled_at = 0;
  for (;;) {
    const uint32_t acks = g_acks.load(std::memory_order_acquire);
    const int64_t now = base::true_now_ns();
    r.missing = 0;
    r.signals = now - start > polite_ns && now - signalled_at > resend_ns;
    if (r.signals) signalled_at = now;
    for_each_thread(look_at, &r);
    if (r.missing == 0) break;
    if (now - start > patience_ns) {
      ++g_statistics.retries;
      if (g_first_failure_ns == 0) g_first_failure_ns = now;
      if (now - g_first_failure_ns > report_ns) {
        g_first_failure_ns = now;
        base::log_line(
            "a stop of the program has waited for %.1f s for thread %d (%s) to stop; does it block "
            "SIGURG?",
            static_cast<double>(report_ns) / 1e9, r.example->tid, r.example->role);
      }
      resume_all_code(0, also);
      return false;
    }
    if (now - start < polite_ns)
      for (int i = 0; i < 50; ++i) base::cpu_relax();
    else
      base::futex_wait(g_acks, acks, resend_ns / 2);
  }
  g_first_failure_ns = 0;
  ++g_statistics.stops;
  g_statistics.last_ns = base::true_now_ns() - start;
  return true;
}

void resume_all_code(uint32_t set, uint32_t clear) noexcept {
  g_gate.fetch_or(set, std::memory_order_seq_cst);
  g_gate.fetch_and(~(clear | gate_stop), std::memory_order_seq_cst);
  for_each_thread(forget_request, nullptr);
  // [ord world.resume] release: what was done to threads' data while they stood still
  g_resumed.store(g_stop_number.load(std::memory_order_relaxed), std::memory_order_release);
  base::futex_wake(g_resumed, INT_MAX);
  g_one_stop.unlock();
}

thread_place place_of(const thread& th) noexcept {
  if (th.stopped_for.load(std::memory_order_acquire) ==
      g_stop_number.load(std::memory_order_relaxed))
    return thread_place::stopped;
  if (th.rests.load(std::memory_order_acquire)) return thread_place::resting;
  return th.current.load(std::memory_order_acquire) == nullptr ? thread_place::scheduler
                                                               : thread_place::passing;
}

bool roots_of(thread& th, thread_roots& out) noexcept {
  task* t = th.current.load(std::memory_order_acquire);
  out.count = 0;
  if (t == nullptr) return false;
  out.t = th.foreign ? nullptr : t;
  const memory_range stack = stack_of(th, t);
  const auto add = [&](const void* lo, const void* hi) {
    if (lo < hi) out.ranges[out.count++] = {lo, hi};
  };
  if (th.stop_ucontext == nullptr || th.rests.load(std::memory_order_relaxed)) {
    add(th.saved_regs, std::end(th.saved_regs));
    add(th.stop_sp, stack.hi);
    return true;
  }
  const auto& uc = *static_cast<const ucontext_t*>(th.stop_ucontext);
  add(&uc, &uc + 1);
  const memory_range vectors = vector_registers(uc);
  add(vectors.lo, vectors.hi);
  const auto* sp = reinterpret_cast<const char*>(sp_of(uc));
  if (within(sp, stack)) {
    const char* lo = sp - red_zone;
    add(lo < stack.lo ? stack.lo : lo, stack.hi);
    return true;
  }
  // On a signal stack the interrupted handler keeps the task's registers in a frame of its own.
  const auto* alt = static_cast<const char*>(uc.uc_stack.ss_sp);
  if (sp >= alt && sp < alt + uc.uc_stack.ss_size) add(sp - red_zone, alt + uc.uc_stack.ss_size);
  add(lowest_resident(stack), stack.hi);
  return true;
}

stop_statistics stop_counters() noexcept { return g_statistics; }

}  // namespace weft::sched
