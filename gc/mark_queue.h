#pragma once
// Work of marking: addresses of objects that are marked and whose contents have to be scanned.
//
// Blocks of addresses; a marker fills and empties one of its own, and full ones go to a shared
// stack. Blocks come from memory of their own that grows and is never given back, so that nothing
// here calls malloc while the world is stopped.
#include <cstddef>
#include <cstdint>

namespace weft::gc {

struct mark_block {
  static constexpr size_t capacity = 510;
  mark_block* next;
  size_t count;
  uintptr_t items[capacity];
};

mark_block* new_block() noexcept;  // empty; ends the process if there is no memory
void free_block(mark_block* b) noexcept;
void give_block(mark_block* b) noexcept;  // to the shared stack; an empty one is freed
mark_block* take_block() noexcept;        // a full one, or null
bool shared_work() noexcept;              // whether the shared stack holds any

}  // namespace weft::gc
