#pragma once
// The gate through which the heaps tell of sampled allocations: the collected heap of gc/ and, in
// programs that link weft::malloc, the ordinary one.
//
// A heap counts down the bytes that it hands out, thread by thread (or run by run):
//
//   rate = mem_profile_rate();  left = next_sample_distance(rng, rate);   // once
//   left -= size;                                                         // at every allocation
//   if (left < 0) {                                                       // rare
//     if (rate > 0) token = port.allocated(size, kind, rate);
//     rate = mem_profile_rate();  left = next_sample_distance(rng, rate);
//   }
//
// The distances are exponentially distributed, so that an object of `size` bytes is sampled with
// probability 1 - exp(-size / rate) whatever was allocated before it; the profile divides by that.
// What is left of a distance after a sample is thrown away: the distribution has no memory.
#include <cstddef>
#include <cstdint>

namespace weft::base {

enum class heap_kind : uint8_t { ordinary, collected };

// Who listens. A null member: nobody.
struct alloc_port {
  // Records a sampled allocation of `size` bytes, made under the mean `rate`, with the calling
  // stack and the calling task's labels. The token goes to freed() once; null: not kept. Does not
  // park, allocate from a profiled heap or throw. Never called in a signal handler or while the
  // world is stopped.
  void* (*allocated)(size_t size, heap_kind kind, int64_t rate) noexcept = nullptr;
  // The object is gone. From any thread, at sweep too, also while others run.
  void (*freed)(void* token) noexcept = nullptr;
  // The collected heap's mark termination: allocations since the last one are those of the next
  // cycle but one, frees those of the next (Go's mProf_NextCycle).
  void (*cycle_ended)() noexcept = nullptr;
  // Everything that the last cycle found dead has been reported to freed() (Go's mProf_PostSweep).
  void (*sweep_ended)() noexcept = nullptr;
};

// The port is set once, before or while heaps are in use; `port` must live for the process's life.
// Any thread, no lock.
void set_alloc_port(const alloc_port& port) noexcept;
const alloc_port& current_alloc_port() noexcept;

// Mean number of bytes between two samples: 0 off, 1 every allocation; default 524288. Negative
// values count as 0. The functions of on_mem_profile_rate() run before the call returns. Any
// thread.
int64_t mem_profile_rate() noexcept;
void set_mem_profile_rate(int64_t bytes) noexcept;

// Makes `changed` be called after every change of the rate, so that a heap can cut short the
// distances that it has drawn; one that does not notices when they end. At most 4 of them; they
// must not park, and may not call this.
void on_mem_profile_rate(void (*changed)() noexcept) noexcept;

// Bytes until the next sample, at a mean of `rate`; the one that makes the countdown negative is
// it. -1 (every allocation, of size 0 too) at rate 1. At rate 0: when to look at the rate again,
// nothing is to be sampled then. `rng_state` is advanced; it comes from new_sample_rng().
int64_t next_sample_distance(uint64_t& rng_state, int64_t rate) noexcept;
inline int64_t next_sample_distance(uint64_t& rng_state) noexcept {
  return next_sample_distance(rng_state, mem_profile_rate());
}

// A random state for one more stream of distances. After seed_sample_rngs() the n-th call returns
// the same as in every other process that was given that seed; who has a state from before should
// get a new one when sample_rng_epoch() has changed. The listeners of the rate are told.
uint64_t new_sample_rng() noexcept;
void seed_sample_rngs(uint64_t seed) noexcept;
uint32_t sample_rng_epoch() noexcept;

}  // namespace weft::base
