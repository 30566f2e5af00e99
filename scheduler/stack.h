#pragma once
// Task stacks: reserved address space that the kernel fills page by page as the task descends.
//
// Slabs  A few large NORESERVE mappings hold the stacks of one class side by side, so a million
//        stacks need a few dozen mappings. Below each stack lies a guard (stack_memory.cc).
// Life   fresh slot -> in use -> free, LIFO and warm, in a processor's cache or the pool of the
//        class -> cold: unused for a whole period of the trimmer, pages and page tables given back.
// Header `stack` lies at the top of the stack's own memory, in the page that the first frame
//        touches anyway; a cold slot has none.
//
// Rejected: growing by SIGSEGV (a read() into an ungrown stack returns EFAULT without any signal);
// copying (C++ has interior pointers); one mapping per stack (32 753 stacks, then ENOMEM).
#include <weft/detail/config.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace weft::sched {

// By the address space reserved. A size that a program asks for is rounded up to the next of these.
enum class stack_class : uint8_t {
  standard,  // 64 MiB: deep recursion without configuration; ~8.6 KB when idle
  compact,   // 64 KiB: ~4.4 KB when idle, for a million small tasks
  kib_256,
  mib_1,
  mib_8,
  mib_256,
  gib_1,
};
inline constexpr int stack_classes = 7;

enum class guard_kind : uint8_t {
  none,      // the stack pointer is checked at every switch instead
  install,   // MADV_GUARD_INSTALL (Linux 6.13): no mapping of its own
  mprotect,  // two mappings each, within a part of vm.max_map_count
};

struct stack {
  char* lo;  // lowest usable byte, above the guard
  char* hi;  // one past the highest byte that frames may use; this header lies above
  stack* next;
  stack* prev;  // in the pool's list only
  char* base;   // of the slot; the guard lies in [base, lo)
  void* body;   // where the closure of the task that runs here is (task.h: body_of)
  // The trimmer's, under the task's claim.
  int64_t next_trim_ns;              // not looked at before; monotonic
  int64_t trimmed_since;             // start of the wait for which it was done
  std::atomic<uint32_t> scan_epoch;  // of the last scan for collected objects (world_stop.h)
  uint32_t magic;
  stack_class cls;
  guard_kind guard;
  uint8_t trim_backoff;  // how often in vain
#if WEFT_TSAN
  void* tsan_fiber;
  int tsan_runs;
#endif
};
inline constexpr uint32_t stack_magic = 0x57454654;

// The stack last given back, still warm, or a new one. Fails with a fatal message that names the
// limit (address space, overcommit) when no memory can be reserved. Thread-safe.
stack* acquire_stack(stack_class cls) noexcept;
void release_stack(stack* s) noexcept;

// To be called when a task on `s` has ended, at `sp`, and another context runs. For the sanitizers
// only: they never see the task's outermost frames return.
void note_task_ended(stack* s, const void* sp) noexcept;

// A chain of up to `max` free stacks for a processor's cache; where none is free, of new ones: at
// least one, and in a program that has many stacks a batch, which costs less per stack. And back; a
// chain is of one class.
stack* acquire_stacks(stack_class cls, int max, int& count) noexcept;
void release_stacks(stack* first) noexcept;

// Makes stacks cold that nobody took since the call before: at most `max`. Returns how many; `more`
// says that others are left. The trimmer's.
size_t cool_free_stacks(stack_class cls, size_t max, bool& more) noexcept;
// Begins a period: what is free from now on to the next call is unused.
void begin_cooling(stack_class cls) noexcept;

// Address space reserved for a stack of this class, guard included.
size_t stack_reserve(stack_class cls) noexcept;
const char* stack_class_name(stack_class cls) noexcept;

// Ends the process with a report if a stack without guard has overflowed, seen at a switch that
// leaves it at `sp`.
void check_unguarded(const stack* s, const void* sp) noexcept;

enum stack_fallback : uint32_t {
  stacks_no_guard_install = 1,  // kernel before 6.13: guards by mprotect
  stacks_unguarded = 2,         // some stacks have no guard: vm.max_map_count
  stacks_locked_memory = 4,     // mlockall: guards by mprotect, nothing is trimmed
  stacks_strict_commit = 8,     // vm.overcommit_memory=2: memory is committed in segments
  stacks_limited_space = 16,    // RLIMIT_AS or the like: smaller slabs, maybe smaller stacks
  stacks_no_batch_advice = 32,  // kernel before 6.13: pages are returned one stack at a time
};
extern std::atomic<uint32_t> g_stack_fallbacks;  // those in use, stack_memory.cc
inline uint32_t stack_fallbacks() noexcept {
  return g_stack_fallbacks.load(std::memory_order_relaxed);
}

// Whether some stack has no guard, so that switches have to look.
inline bool unguarded_stacks_exist() noexcept {
  return (stack_fallbacks() & stacks_unguarded) != 0;
}

// Counts of stacks, and bytes. Exact while no task starts or ends; otherwise stacks that wander
// between processor and pool at that moment may be missing or counted twice.
struct stack_stats {
  size_t in_use;          // stacks that tasks have
  size_t free;            // waiting for reuse, warm
  size_t cold;            // waiting for reuse, their memory given back
  size_t reserved_bytes;  // address space of all slabs
  size_t in_use_bytes;    // address space of the stacks in use
  size_t trimmed_bytes;   // memory given back to the system since the start
  guard_kind guards;      // what a new stack gets
  size_t guarded_install, guarded_mprotect, unguarded;  // slots with a stack, by guard
  uint32_t fallbacks;                                   // bits of stack_fallback
};
stack_stats stack_statistics() noexcept;

// The trimmer's account: bytes given back.
void count_trimmed(size_t bytes) noexcept;

}  // namespace weft::sched
