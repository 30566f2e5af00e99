#pragma once
// barrier: lets a group of tasks wait for each other, phase after phase. std::barrier.
//
//   weft::barrier step(workers, [&]() noexcept { swap(now, next); });
//   for (...) { compute(part); step.arrive_and_wait(); }
#include <weft/detail/waiter.h>
#include <weft/error.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace weft {
namespace detail {

class barrier_core {
 public:
  constexpr explicit barrier_core(std::ptrdiff_t expected) : expected_(expected), left_(expected) {
    if (expected < 0) throw panic_error("weft::barrier: negative count");
  }
  barrier_core(const barrier_core&) = delete;

  // True for the last arrival of the phase, which then owes a begin_phase().
  bool arrive(std::ptrdiff_t n, std::ptrdiff_t dropped, uint64_t& phase);
  void begin_phase() noexcept;
  void wait(uint64_t phase) noexcept;
  bool wait(uint64_t phase, const context& ctx);

 private:
  bool wait_within(uint64_t phase, const wait_limit& limit) noexcept;

  small_lock lock_;
  uint64_t phase_ = 0;
  std::ptrdiff_t expected_;  // arrivals per phase, from the next one on
  std::ptrdiff_t left_;      // arrivals that this phase still lacks
  waiter_list waiters_;      // for the end of this phase
};

struct no_completion {
  void operator()() const noexcept {}
};

}  // namespace detail

// A phase ends with the expected number of arrivals: the last one to arrive calls the completion
// function, on its own task, then the next phase begins and all who wait go on. The function may
// wait, but not for this barrier. All members are thread-safe.
template <class Completion = detail::no_completion>
class barrier {
  static_assert(std::is_nothrow_invocable_v<Completion&>,
                "weft::barrier: the completion function must be callable without arguments and "
                "noexcept");

 public:
  // The phase in which an arrival took place.
  class arrival_token {
   public:
    arrival_token(arrival_token&&) noexcept = default;
    arrival_token& operator=(arrival_token&&) noexcept = default;

   private:
    friend barrier;
    explicit arrival_token(uint64_t phase) noexcept : phase_(phase) {}
    uint64_t phase_;
  };

  // Throws panic_error for expected < 0.
  constexpr explicit barrier(std::ptrdiff_t expected, Completion f = Completion())
      : core_(expected), completion_(std::move(f)) {}

  static constexpr std::ptrdiff_t max() noexcept { return PTRDIFF_MAX; }

  // Arrives n times in the current phase, without waiting (but for the completion function, if the
  // caller is the last). Throws panic_error, and changes nothing, for n <= 0 or more arrivals than
  // the phase lacks.
  [[nodiscard]] arrival_token arrive(std::ptrdiff_t n = 1) {
    return arrival_token(arrive_impl(n, 0));
  }

  // Waits for the end of the token's phase. Parks a task ("barrier wait"), blocks a thread.
  void wait(arrival_token&& token) const { core_.wait(token.phase_); }

  // Waits until the context is cancelled or its deadline passes. False then, and also if it was
  // cancelled before; the arrival counts all the same.
  [[nodiscard]] bool wait(arrival_token&& token, const context& ctx) const {
    return core_.wait(token.phase_, ctx);
  }

  void arrive_and_wait() { wait(arrive()); }

  // Arrives once and lowers the number that the phases after this one expect.
  void arrive_and_drop() { arrive_impl(1, 1); }

 private:
  uint64_t arrive_impl(std::ptrdiff_t n, std::ptrdiff_t dropped) {
    uint64_t phase;
    if (core_.arrive(n, dropped, phase)) {
      completion_();
      core_.begin_phase();
    }
    return phase;
  }

  mutable detail::barrier_core core_;
  Completion completion_;
};

}  // namespace weft
