#pragma once
// Runs of pages: taking, giving back, returning to the kernel.
#include <cstddef>
#include <cstdint>

#include "gc/span.h"

namespace weft::gc {

// A span of `pages` pages with state `free`, out of every list and not yet in the page table: the
// caller fills it and calls publish_span(). Null if the cage is full. Thread-safe.
span* take_pages(size_t pages) noexcept;

// From here on words that point into the span may be references.
void publish_span(span& s, span_state state) noexcept;

// The span holds no object any more. Takes it out of the page table. Thread-safe.
void give_pages(span& s) noexcept;

// Gives up to `bytes` of free memory back to the kernel, the least recently used first; returns how
// much it was.
size_t return_free_pages(size_t bytes) noexcept;

// Calls f for every span with objects. World stopped.
void for_each_span(void (*f)(span& s, void* arg), void* arg) noexcept;

struct page_statistics {
  size_t in_use_bytes;    // spans with objects
  size_t free_bytes;      // free and committed
  size_t returned_bytes;  // free and given back
  size_t reserved_bytes;
  uint64_t returned_total;
};
page_statistics page_counters() noexcept;

// For fork().
void lock_page_heap() noexcept;
void unlock_page_heap() noexcept;

}  // namespace weft::gc
