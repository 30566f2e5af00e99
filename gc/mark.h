#pragma once
// The marker: from a word to an object, from an object to its words.
#include <cstddef>
#include <cstdint>

#include "gc/mark_queue.h"
#include "gc/span.h"

namespace weft::gc {

// One thread's view of marking. Objects that it has marked wait in its block; full blocks, and what
// is left at the end, go to the shared queue.
class marker {
 public:
  // `bits`: where marks are set. The verifier has its own.
  explicit marker(bit_word* bits) noexcept;
  ~marker();
  marker(const marker&) = delete;
  marker& operator=(const marker&) = delete;

  // If the word is a reference, marks the object and remembers to scan it. True if it was not
  // marked before.
  bool mark(uintptr_t word) noexcept;
  // Marks without scanning.
  void mark_only(uintptr_t word) noexcept;
  // Every aligned word of [lo, hi).
  void mark_range(const void* lo, const void* hi) noexcept;

  // Scans until nothing is left here and in the shared queue (true), or `bytes` have been scanned,
  // or the world is to be stopped if `yielding`.
  bool drain(size_t bytes, bool yielding) noexcept;

  // What is left goes to the shared queue.
  void flush() noexcept;

  uint64_t scanned_bytes() const noexcept { return scanned_; }
  uint64_t marked_objects() const noexcept { return objects_; }

 private:
  bool visit(uintptr_t word) noexcept;
  void push(uintptr_t item) noexcept;
  uintptr_t pop() noexcept;
  void scan(uintptr_t item) noexcept;
  void scan_fields(uintptr_t at, const type_info& t) noexcept;

  bit_word* const bits_;
  mark_block* block_;
  uint64_t scanned_ = 0;
  uint64_t marked_ = 0;
  uint64_t objects_ = 0;
};

// Bytes that the cycle under way has found alive so far.
void count_marked(uint64_t bytes) noexcept;
uint64_t marked_bytes() noexcept;
void reset_marked() noexcept;

// The visitor over one object's references, as the marker sees them: f(where, to) for every word
// that refers to an object. For the verifier, dumps, and what else looks at the graph. World
// stopped.
void for_each_edge(uintptr_t object, void (*f)(uintptr_t where, const hit& to, void* arg),
                   void* arg) noexcept;

}  // namespace weft::gc
