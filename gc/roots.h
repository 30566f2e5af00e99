#pragma once
// Roots outside stacks: slots of root<T>, globals, and the kind of memory whose every word counts.
#include "gc/mark.h"

namespace weft::gc {

// Marks what roots and globals refer to. They are barriered like fields, so this may run while they
// change.
void mark_roots(marker& m) noexcept;

// Calls f for every word that may refer to an object.
void for_each_root(void (*f)(uintptr_t word, void* arg), void* arg) noexcept;

// Whether the word points into memory of allocate_traced().
bool is_traced_memory(uintptr_t word) noexcept;

// For fork().
void lock_roots() noexcept;
void unlock_roots() noexcept;

}  // namespace weft::gc
