#pragma once
// The calling stack, for probes: inside allocators and the runtime's critical sections.
#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::prof {

// Frames that a probe records at most; the leaf side is kept. As Go since 1.23.
inline constexpr size_t probe_depth = 128;

struct captured_stack {
  size_t depth;
  bool truncated;
};

// Fills `pcs` with return addresses, leaf first, beginning in the function that calls this. Does
// not allocate, lock or park; knows the stacks of tasks, of the runtime's threads and of others.
// Where the compact tables do not cover a module (before the first unwind_refresh(), or loaded
// since the last) libgcc walks on: slower, to the same end. Not for signal handlers.
[[gnu::noinline]] captured_stack stack_here(std::span<uintptr_t> pcs) noexcept;

// The same with the compact tables alone, where libgcc's walk, which may take the dynamic linker's
// lock, could be waited for by who holds it: a stack that leads through a module without a table
// ends there, as truncated. Signal handlers too.
[[gnu::noinline]] captured_stack stack_here_by_tables(std::span<uintptr_t> pcs) noexcept;

}  // namespace weft::prof
