#pragma once
// What hangs on single objects: a profile's sample, and whatever the type layer attaches (weak
// cells, cleanups). Sweeping looks at the list of a span only if it has one.
#include <cstdint>

#include "gc/span.h"

namespace weft::gc {

enum class special_kind : uint8_t { sample, weak_cell, cleanup, count };

struct special {
  special* next;
  uintptr_t object;  // start of its slot
  void* payload;
  special_kind kind;
};

// Called by sweeping when the object has died and before its slot is used again, by any thread,
// inside a critical section or on the collector's thread: must not park, allocate from this heap,
// or touch other objects.
using special_handler = void (*)(void* object, void* payload) noexcept;
void set_special_handler(special_kind kind, special_handler on_death) noexcept;

// Attaches to the object that `address` lies in, which the caller keeps alive. Thread-safe; in a
// critical section or from the collector. False if it is no object of this heap.
bool add_special(const void* address, special_kind kind, void* payload) noexcept;
// Detaches the first of this kind with that payload (null: any) and returns its payload; null if
// none.
void* remove_special(const void* address, special_kind kind, void* payload) noexcept;
// The payload of the first of this kind that is the one looked for, or null. `match` is called with
// the lock of all specials held.
void* find_special(const void* address, special_kind kind,
                   bool (*match)(void* payload, const void* arg), const void* arg) noexcept;

// Sweeping: handles those of the span whose slots are not marked. An object that still has to be
// destroyed keeps all but its weak cells.
void sweep_specials(span& s) noexcept;

// For fork().
void lock_specials() noexcept;
void unlock_specials() noexcept;

}  // namespace weft::gc
