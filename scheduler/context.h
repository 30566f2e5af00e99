#pragma once
// One execution context and the switch between two.
//
// Native backend (switch_x86_64.S): six pushes, the stack pointer, six pops and a return. It must
// be called from one place only: then the processor's return predictor, which still holds the calls
// of the context that was left, fits those of the one that continues (docs/decisions/001). No
// floating- point control words are saved (2 ns): a task that changes the rounding mode changes it
// for its thread. The whole routine carries CFI, so unwinders may stop anywhere in it.
// Boost.Context is the backend elsewhere (WEFT_CONTEXT=boost).
//
// What libstdc++ and libc keep per thread but mean per task travels with the context: the exception
// globals (a task may park inside a catch block, or in a destructor during unwinding) and errno.
// They wait on the stack of the context that was left.
#include <weft/detail/config.h>

#include <cstddef>
#include <cstdint>

namespace weft::sched {

struct thread;

// The addresses of this thread's libc and libstdc++ globals. Fetched once per thread: the compiler
// may cache what __errno_location and __cxa_get_globals return, across a switch too.
struct thread_globals {
  struct eh_globals {
    void* caught;
    unsigned uncaught;
  };
  eh_globals* eh;
  int* err;
};
WEFT_OPAQUE thread_globals current_thread_globals() noexcept;

struct context {
  void* sp = nullptr;  // valid while the context is not executing
#if WEFT_ASAN
  void* asan_fake_stack = nullptr;
  const void* asan_bottom = nullptr;
  size_t asan_size = 0;
#endif
#if WEFT_TSAN
  void* tsan_fiber = nullptr;
#endif
};

// Prepares `c` to start at weft_task_main() on the stack that ends at `top` (16-byte aligned).
void make_context(context& c, void* bottom, void* top) noexcept;

// Leaves `from`, which `th` (the calling thread) executes, and continues `to`; returns when
// somebody switches back to `from`, with the thread that did, which may be another. `from_ends`
// says that it never will be (the task's last switch).
thread* switch_context(thread* th, context& from, context& to, bool from_ends) noexcept;

// What an unwinder needs of a context that is not executing.
struct saved_registers {
  uintptr_t rip, rsp, rbp, rbx;
};
saved_registers registers_of(const context& c) noexcept;

// Must be called first thing on a context's very first run, with the calling thread.
void context_started(const thread* th, const context& c) noexcept;

}  // namespace weft::sched
