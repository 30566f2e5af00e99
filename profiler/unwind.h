#pragma once
// Async-signal-safe stack unwinding from compact tables. See unwind.cc for the design.
#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::prof {

// The registers an unwind starts from. x86-64 System V: Debian's libraries address their frames by
// rsp or rbp; rbx appears only in ld.so's lazy-binding stubs. The registers after rbx matter to the
// leaf alone (hand-written assembly that keeps its frame address in a scratch register for a few
// instructions) and are known only for an interrupted context; 0 means unknown.
struct regs {
  uintptr_t rip;
  uintptr_t rsp;
  uintptr_t rbp;
  uintptr_t rbx = 0;
  uintptr_t rax = 0;
  uintptr_t rdx = 0;
  uintptr_t rcx = 0;
  uintptr_t rsi = 0;
  uintptr_t rdi = 0;
  uintptr_t r8 = 0;
  uintptr_t r9 = 0;
  uintptr_t r10 = 0;
  uintptr_t r11 = 0;
  uintptr_t r12 = 0;
  uintptr_t r13 = 0;
  uintptr_t r14 = 0;
  uintptr_t r15 = 0;
};

// Memory that the unwinder may read: [lo, hi). Every load is checked against it, so a wrong table
// row or a corrupt frame ends the trace instead of faulting. To follow a signal handler from its
// alternate stack to the interrupted code, the range must cover both stacks; all of it must be
// readable.
struct stack_range {
  uintptr_t lo;
  uintptr_t hi;
};

enum class unwind_end : uint8_t {
  outermost,  // reached a frame whose caller is undefined by CFI, or rip 0: a complete trace
  truncated,  // `pcs` is full; the leaf side was kept
  no_table,   // a pc outside every known function (JIT code, assembly without CFI, module loaded
              // after the last refresh)
  bad_frame,  // a load outside the stack range, or a rule the tables cannot express
};

struct unwind_result {
  size_t depth;
  unwind_end end;
};

// Builds or updates the tables from every loaded module's .eh_frame. Cheap (tens of nanoseconds)
// when no module came or went since the last call. Allocates and takes a lock: normal threads only,
// and never from inside an allocator.
// Tables that a handler on another thread may still read are never freed.
void unwind_refresh();

// Whether `pc`, at which a walk has ended for want of a table, is in a module that unwind_refresh()
// would find: one that was loaded since the last. Async-signal-safe.
bool unwind_is_behind(uintptr_t pc) noexcept;

// Fills `pcs`, leaf first: pcs[0] is start.rip itself, the others are return addresses, except that
// the frame below a signal frame is the exact interrupted pc. Async-signal-safe: no locks, no
// allocation, reads only tables and [range.lo, range.hi). Before the first unwind_refresh() it
// returns just the leaf, ended by no_table.
unwind_result unwind(const regs& start, stack_range range, std::span<uintptr_t> pcs) noexcept;

// As unwind(), for a stack of any depth: walks to its end and keeps both ends of it. `inner` gets
// the leaf side, `outer` the root side, both leaf first.
struct unwind_ends_result {
  size_t inner, outer;  // frames kept in each
  size_t total;         // frames there are
  unwind_end end;
};
unwind_ends_result unwind_ends(const regs& start, stack_range range, std::span<uintptr_t> inner,
                               std::span<uintptr_t> outer) noexcept;

// The caller's own stack, starting at the caller's frame: pcs[0] is the return address into the
// function that calls it, so all of `pcs` are return addresses. Async-signal-safe.
[[gnu::noinline]] unwind_result unwind_here(stack_range range, std::span<uintptr_t> pcs) noexcept;

// The registers in a signal handler's ucontext_t.
regs regs_from_ucontext(const void* ucontext) noexcept;

// Table sizes, for metrics and tests. Thread-safe; not for signal handlers.
struct unwind_stats {
  size_t modules;           // modules with a table in the current snapshot
  size_t rows;              // their rows
  size_t unsupported_rows;  // rows that end a trace because the tables cannot express the rule
  size_t bytes;             // rows, bucket indexes and extended rules, current and retired
};
unwind_stats unwind_statistics();

}  // namespace weft::prof
