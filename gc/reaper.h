#pragma once
// Tasks that run the destructors of dead objects and the cleanups of those that are gone.
namespace weft::gc {

// The collector, after a cycle's sweep: starts as many as the backlog asks for.
void start_reapers() noexcept;

// For fork().
void lock_cleanups() noexcept;
void unlock_cleanups() noexcept;

}  // namespace weft::gc
