#pragma once
// Where sampled objects live: one reserved range of addresses, so that free() tells them from all
// others by one comparison and no look into memory. sampled_store.cc has the design.
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace weft::heap {

// The range, [base, base + size). Before anything was sampled no address is in it.
struct sampled_range {
  std::atomic<uintptr_t> base{uintptr_t{1} << 63};
  std::atomic<uintptr_t> size{0};
};
extern constinit sampled_range g_sampled [[gnu::visibility("hidden")]];

inline bool is_sampled(const void* p) noexcept {
  return reinterpret_cast<uintptr_t>(p) - g_sampled.base.load(std::memory_order_relaxed) <
         g_sampled.size.load(std::memory_order_relaxed);
}

// Memory for `size` bytes at a multiple of `alignment` (a power of two, at least 16), zeroed if
// `zero`; null when there is none. Any thread; takes a spinlock, allocates nothing.
void* store_allocate(size_t size, size_t alignment, bool zero) noexcept;

// Gives back what store_allocate() returned, and returns the token that was kept with it. A pointer
// that is no live object ends the process with a message: freed twice, never allocated, or its
// header was overwritten.
void* store_free(void* p) noexcept;

// The token of a live object; initially null. Checked as in store_free().
void* store_token(const void* p) noexcept;
void store_set_token(void* p, void* token) noexcept;

// How many bytes the object may use, at least what was asked for.
size_t store_usable_size(const void* p) noexcept;

struct store_stats {
  size_t reserved;   // address space
  size_t committed;  // readable and writable
  size_t live;       // in objects, headers included
  size_t idle;       // in slabs without objects that still have their memory
};
store_stats store_statistics() noexcept;

}  // namespace weft::heap
