#pragma once
// Cycles: when they begin, and what happens in which order.
#include <weft/gc/gc.h>

#include <cstdint>

namespace weft::gc {

// Where the collector is. Changes only while the world is stopped, but for sweeping -> off.
enum class phase : uint8_t { off, marking, sweeping };
phase current_phase() noexcept;

// Starts the collector's thread. Once, when the heap comes to exist.
void start_collector() noexcept;

// A cycle is due: wakes the collector. Any thread, inside critical sections too; cheap if one has
// been asked for already.
void request_cycle() noexcept;

// collect() for who may not throw; does nothing in a forked child.
void collect_now() noexcept;

// Before an allocation that takes memory, outside of critical sections: if the heap has outgrown
// its goal by a tenth, the calling task waits until marking has ended. Helping is not always
// possible: of a long list one object is known at a time.
void wait_if_over_limit() noexcept;

// For fork(): the child has no collector and will never have one.
bool collector_is_gone() noexcept;

// In the cycle under way.
bool is_marked(const void* object) noexcept;

}  // namespace weft::gc
