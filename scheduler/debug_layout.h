#pragma once
// Where a debugger finds things: name and value pairs, exported as data.
//
// A release build has line tables and no types (-g1), and a core file has no functions that could
// be called. So each layer exports a table of the offsets, sizes, addresses and enumerator names
// that tools/gdb/weft.py reads; it takes nothing from debug information but lines and function
// names. Entries may be added freely; one whose meaning changes gets a new name, because script and
// program may be of different ages.
#include <concepts>
#include <cstdint>

namespace weft::sched {

struct debug_layout_entry {
  constexpr debug_layout_entry() noexcept : name(nullptr), number(0) {}
  template <std::unsigned_integral T>
  constexpr debug_layout_entry(const char* n, T v) noexcept : name(n), number(v) {}
  constexpr debug_layout_entry(const char* n, const void* a) noexcept : name(n), address(a) {}

  const char* name;  // null ends the table
  union {
    uint64_t number;
    const void* address;  // pointers to variables and to text
  };
};
static_assert(sizeof(debug_layout_entry) == 16);

// An archive's member is linked only if something refers to it.
inline void keep_linked(const debug_layout_entry* table) noexcept {
  asm volatile("" : : "r"(table));
}

}  // namespace weft::sched

extern "C" const weft::sched::debug_layout_entry weft_debug_layout[];
extern "C" const weft::sched::debug_layout_entry weft_debug_layout_runtime[];
