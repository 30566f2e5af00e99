#pragma once
// The collector's side of weak_map.
#include "gc/mark.h"

namespace weft::gc {

// Marks the values of all entries whose map and key are marked. True if one was not marked before:
// then there is more to scan, and more keys may be marked afterwards.
bool mark_ephemerons(marker& m) noexcept;

// World stopped, marking has ended: removes the entries whose map or key is dead.
void drop_dead_ephemerons() noexcept;

// For fork().
void lock_ephemerons() noexcept;
void unlock_ephemerons() noexcept;

}  // namespace weft::gc
