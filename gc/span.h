#pragma once
// Spans: runs of pages that hold slots of one size, and the way from an address to an object.
//
// A word is a reference if it points into the cage, the page belongs to a span, and the slot is
// allocated. That costs the same for exact fields, pointers into the middle of objects, and words
// of stacks that happen to look like addresses. Free slots are not objects; neither is the part of
// an allocation run that has not been handed out, as far as anybody can see it: runs are given back
// at every stop, and while marking is on their slots count as marked already.
#include <weft/gc/detail/type_info.h>

#include <atomic>
#include <cstdint>

#include "gc/cage.h"

namespace weft::gc {

struct special;
using detail::type_info;

enum class span_state : uint8_t {
  unused,  // a record on the free list of records
  free,    // pages of the page heap
  small,   // slots
  large,   // one object
};

struct alignas(64) span {
  // Read by the marker: constant from publication to the end of the span's life.
  uintptr_t start;
  uint64_t stride;  // of a slot
  uint32_t slots;
  uint32_t magic;
  uint32_t kind;  // index into the table of kinds (heap.h)
  bool headered;  // slots begin with an array_header
  bool noscan;    // no object here holds references
  std::atomic<span_state> state;
  const type_info* type;  // of every slot; null if headered
  uint32_t pages;
  uint32_t live;                   // slots in use after the last sweep
  uint32_t next_slot;              // its owner's: where to look for the next free run
  bool fresh;                      // memory is as the kernel gave it: zero
  bool returned;                   // free spans: memory was given back to the kernel
  std::atomic<uint32_t> swept;     // sweep_epoch() at its last sweep, less 1 while that lasts
  std::atomic<special*> specials;  // specials.h
  span* next;
  span* prev;  // free spans only

  uint32_t index() const noexcept;
  size_t bytes() const noexcept { return size_t{pages} << page_shift; }
  size_t first_word() const noexcept {
    return ((start - g_cage.base) >> page_shift) * words_per_page;
  }
  size_t words() const noexcept { return (slots + 63) / 64; }
  uintptr_t slot_address(uint32_t slot) const noexcept { return start + slot * stride; }
};
static_assert(sizeof(span) == 128);

inline uint32_t span::index() const noexcept { return static_cast<uint32_t>(this - g_cage.spans); }

// What precedes the elements of an array. The type is written last, so a header without one says
// that there is nothing to scan yet.
struct array_header {
  std::atomic<const type_info*> type;
  uint64_t length;
};
static_assert(sizeof(array_header) == 16);

// Where the elements begin: arrays of over-aligned elements have a longer header.
inline size_t header_bytes(const type_info& t) noexcept {
  return t.align > sizeof(array_header) ? t.align : sizeof(array_header);
}

// An object, found by an address in it.
struct hit {
  span* s;
  uint32_t slot;
  uintptr_t object() const noexcept { return s->slot_address(slot); }
  size_t word() const noexcept { return s->first_word() + slot / 64; }
  uint64_t bit() const noexcept { return uint64_t{1} << (slot % 64); }
};

// Whether `address` lies in an allocated slot. Any thread; exact only for slots that cannot be
// freed meanwhile.
inline bool find(uintptr_t address, hit& out) noexcept {
  const uintptr_t offset = address - g_cage.base;
  if (offset >= g_cage.used_bytes.load(std::memory_order_relaxed)) return false;
  // [ord gc.page] acquire: the span was complete before its pages named it
  const uint32_t index = g_cage.page_span[offset >> page_shift].load(std::memory_order_acquire);
  if (index == 0) return false;
  span& s = g_cage.spans[index];
  const uint64_t within = address - s.start;
  const auto slot = s.slots == 1 ? 0 : static_cast<uint32_t>(within * s.magic >> 32);
  if (slot >= s.slots) return false;  // what is left over at the span's end
  out = {&s, slot};
  // [ord gc.alloc] acquire: a slot of a run is marked before it is allocated
  return (g_cage.allocated[out.word()].load(std::memory_order_acquire) & out.bit()) != 0;
}

}  // namespace weft::gc
