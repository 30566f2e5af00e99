#pragma once
// Memory of the code under test: the same addresses in every execution, so that a decision means
// the same each time (select locks channels in the order of their addresses). operator new takes
// from it while it is in use. What is given back is not given out again in the same execution, so
// that a late access shows.
#include <cstddef>

namespace weft::model {

struct range {
  const void* from;
  size_t size;
};

// Returns what was before.
bool use_arena(bool yes) noexcept;
// Everything in it is free again.
void clear_arena() noexcept;
// Offset of p; -1 if it lies elsewhere.
ptrdiff_t place_in_arena(const void* p) noexcept;
bool freed_memory_was_written() noexcept;

// For its lifetime the explorer's own memory is in use, also while an actor executes.
class own_memory {
 public:
  own_memory() = default;
  ~own_memory() { use_arena(before_); }
  own_memory(const own_memory&) = delete;

 private:
  bool before_ = use_arena(false);
};

}  // namespace weft::model
