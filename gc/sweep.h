#pragma once
// Sweeping: what was not marked is free.
#include "gc/heap.h"

namespace weft::gc {

// Makes the marks of a span, which the caller has in hand, its allocation bits. True if no slot is
// in use any more.
bool sweep_span(span& s) noexcept;

// World stopped, marking has ended: everything is unswept.
void begin_sweep() noexcept;

// Even; another one after each begin_sweep(). A span is unswept while span::swept is smaller.
uint32_t sweep_epoch() noexcept;

// Sweeps up to `spans` spans and puts them where they belong; false when nothing was left. Any
// thread.
bool sweep_some(size_t spans) noexcept;

// World stopped: no span is unswept. A dead slot that was found by a stack word would bring back an
// object whose references may be gone.
bool all_swept() noexcept;

// A dead object whose destructor has to run, taken out of the heap's list: it stays allocated, and
// is kept alive, until it is given to reaped(). False if there is none. Any thread.
struct dead_object {
  void* object;  // first object; of an array: its first element
  const type_info* type;
  size_t count;       // 1 if it is no array
  uintptr_t* ticket;  // for reaped()
};
bool take_dead(dead_object& out) noexcept;
void reaped(const dead_object& dead) noexcept;
size_t dead_count() noexcept;

// Marking: the objects that wait for their destructors. `mark` marks without scanning.
void for_each_dead(void (*mark)(uintptr_t object, void* arg), void* arg) noexcept;

// For fork().
void lock_sweep() noexcept;
void unlock_sweep() noexcept;

}  // namespace weft::gc
