#pragma once
// The collector's side of weak references.
namespace weft::gc {

// All weak references to the object are null from now on; its owner keeps it alive.
void expire_weak_cells(const void* object) noexcept;

// For fork().
void lock_weak_cells() noexcept;
void unlock_weak_cells() noexcept;

}  // namespace weft::gc
