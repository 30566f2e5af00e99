#pragma once
// Address space for stacks: slabs, guards, and what to do where the system gives less.
// stack_memory.cc has the table of fallbacks.
#include <cstddef>
#include <cstdint>

#include "scheduler/stack.h"

namespace weft::sched {

// One stack's place in a slab: [base, base + size), the guard at its low end included.
struct stack_slot {
  char* base = nullptr;
  size_t size = 0;
  guard_kind guard = guard_kind::none;  // what is installed now
};

// A mapping that holds slots of one size side by side. Slots may be read as memory only where a
// stack was constructed.
struct stack_slab {
  char* base;
  size_t slot_size;
  size_t slots;
  size_t guard;  // bytes at the low end of each slot
};

// Never-used slots of the newest slab of one class. Guarded by the class's lock.
struct slot_source {
  char* next = nullptr;
  char* committed = nullptr;  // strict overcommit: readable and writable up to here
  size_t left = 0;
  size_t slot_size = 0;  // of the newest slab
  size_t guard = 0;
  size_t next_slots = 0;  // wanted for the next slab
  size_t mapped = 0;      // bytes of all slabs
};

// Takes a slot that no stack ever used, without a guard. False when no memory can be reserved;
// errno says why.
bool take_fresh_slot(slot_source& source, stack_class cls, stack_slot& out) noexcept;

// Installs the guard of a slot that is new or whose pages were dropped. Needs no lock.
void guard_slot(stack_slot& slot, stack_class cls) noexcept;

// Gives the pages and page tables of `count` unused slots back to the system and takes their guards
// off where that costs nothing to undo. Neighbours are done together. False when the memory is
// locked.
bool drop_slots(stack_slot* slots, size_t count) noexcept;

// Drops whole pages inside stacks; ranges that share nothing. Returns the bytes of those that
// succeeded. At most 64 at once.
struct page_range {
  char* lo;
  char* hi;
};
size_t drop_pages(const page_range* ranges, size_t count) noexcept;

// Makes the pages present with one system call where the kernel can (Linux 6.13), which is a sixth
// cheaper than a fault each; elsewhere does nothing. At most 64 at once.
void touch_pages(const page_range* ranges, size_t count) noexcept;

// Resident bytes of [lo, hi) counted downwards from hi, to the first 16 pages of which none is
// there.
size_t resident_below(char* lo, char* hi) noexcept;

// The slab whose slots contain the address, or null. Async-signal-safe.
const stack_slab* find_slab(uintptr_t address) noexcept;

// Which slot an address of the slab lies in.
inline stack_slot slot_at(const stack_slab& slab, uintptr_t address) noexcept {
  size_t index = (address - reinterpret_cast<uintptr_t>(slab.base)) / slab.slot_size;
  return {slab.base + index * slab.slot_size, slab.slot_size, guard_kind::none};
}

size_t guard_size(stack_class cls) noexcept;

// What of the system's gifts is missing, as bits of stack_fallback; and the guards installed now.
void count_guards(stack_stats& stats) noexcept;

}  // namespace weft::sched
