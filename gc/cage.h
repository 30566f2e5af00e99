#pragma once
// The address space of the collected heap, and the tables beside it.
//
// One reservation holds all objects, so that a word is told from a pointer by one subtraction and
// one comparison. What the collector knows of the objects lies in tables of its own, at fixed
// ratios: no overrun of an object can reach it, and the same lines of all pages do not compete for
// one cache set. Everything is NORESERVE: memory is what has been touched.
//
//   page (8 KiB) -> span      4 bytes
//   slot -> bits              64 bytes each per page: allocated, marked, checked (the verifier's,
//   zero otherwise), armed (a
//                             destructor is to run). Bit i of a span is its slot i, counted from
//                             the bits of the span's first page.
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace weft::gc {

inline constexpr size_t page_shift = 13;
inline constexpr size_t page_size = size_t{1} << page_shift;
inline constexpr size_t smallest_slot = 16;
inline constexpr size_t words_per_page = page_size / smallest_slot / 64;  // of each bitmap

using bit_word = std::atomic<uint64_t>;

struct span;

struct cage {
  uintptr_t base = 0;
  size_t pages = 0;                            // reserved
  std::atomic<size_t> used_bytes{0};           // from base; only grows
  std::atomic<uint32_t>* page_span = nullptr;  // index into spans; 0: no objects
  bit_word* allocated = nullptr;
  bit_word* marked = nullptr;
  bit_word* checked = nullptr;
  bit_word* armed = nullptr;
  std::atomic<bool> any_armed{false};  // ever: the table has been written to
  span* spans = nullptr;
};
extern cage g_cage;

inline bool in_cage(uintptr_t address) noexcept {
  return address - g_cage.base < g_cage.used_bytes.load(std::memory_order_relaxed);
}

// Makes the reservation: 256 GiB, or what RLIMIT_AS, the kernel's overcommit policy and sanitizers
// leave, at least 64 MiB. Ends the process with a message if even that fails. Once.
void reserve_cage() noexcept;

// Address space for the collector's own tables; zero, committed as it is touched. Null: none left.
void* reserve_table(size_t bytes) noexcept;

}  // namespace weft::gc
