#pragma once
// Task stacks: reserved address space that the kernel fills page by page as the task descends.
//
// A few large NORESERVE mappings (slabs) hold the stacks of one class side by side, so a million
// stacks need a few dozen mappings. Below each stack lies a guard, installed with
// MADV_GUARD_INSTALL (kernel 6.13, no mapping of its own) or, on older kernels, by mprotect within
// half of vm.max_map_count; past that budget stacks have no guard, which is logged once.
//
// Rejected: growing by SIGSEGV (a read() into an ungrown stack returns EFAULT without any signal);
// copying (C++ has interior pointers); one mapping per stack (32 753 stacks, then ENOMEM).
#include <weft/detail/config.h>

#include <cstddef>
#include <cstdint>

namespace weft::sched {

enum class stack_class : uint8_t {
  standard,  // 64 MiB reserved: deep recursion without configuration; ~8.4 KB when idle
  compact,   // 64 KiB reserved: ~4.2 KB when idle, for a million small tasks
};
inline constexpr int stack_classes = 2;

// Lives at the top of the stack's own memory, in the page that the first frame touches anyway.
struct stack {
  char* lo;  // lowest usable byte, above the guard
  char* hi;  // one past the highest byte that frames may use; this header lies above
  stack* next;
  stack_class cls;
#if WEFT_TSAN
  void* tsan_fiber;
  int tsan_runs;
#endif
};

// The stack last given back, still warm, or a new one. Fails with a fatal message that names the
// limit (address space, overcommit) when no memory can be reserved. Thread-safe.
stack* acquire_stack(stack_class cls) noexcept;
void release_stack(stack* s) noexcept;

// To be called when a task on `s` has ended, at `sp`, and another context runs. For the sanitizers
// only: they never see the task's outermost frames return.
void note_task_ended(stack* s, const void* sp) noexcept;

// A chain of up to `max` free stacks for a processor's cache, without creating any; and back.
stack* acquire_free_stacks(stack_class cls, int max, int& count) noexcept;
void release_stacks(stack* first) noexcept;

size_t stack_reserve(stack_class cls) noexcept;

struct stack_stats {
  size_t in_use;          // stacks handed out
  size_t free;            // stacks waiting for reuse
  size_t reserved_bytes;  // address space of all slabs
  bool guard_pages;       // MADV_GUARD_INSTALL is available
};
stack_stats stack_statistics() noexcept;

}  // namespace weft::sched
