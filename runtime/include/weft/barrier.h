#pragma once
// barrier: lets a group of tasks wait for each other, phase after phase. std::barrier.
//
//   weft::barrier step(workers, [&]() noexcept { swap(now, next); });
//   for (...) { compute(part); step.arrive_and_wait(); }
#include <weft/detail/waiter.h>
#include <weft/error.h>

#include <chrono>
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
  bool wait(uint64_t phase, std::chrono::nanoseconds d) noexcept;
  bool wait(uint64_t phase, std::chrono::steady_clock::time_point t) noexcept;
  bool wait(uint64_t phase, const context& ctx);

 private:
  bool wait_within(uint64_t phase, const wait_limit& limit) noexcept;
  bool is_over(uint64_t phase) noexcept;

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
// wait, but not for this barrier. All members are thread-safe. The object may be destroyed as soon
// as everybody else has returned from waiting, even while the last arrival has not returned.
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
    uint64_t phase;
    arrive_impl(n, 0, phase);
    return arrival_token(phase);
  }

  // Waits for the end of the token's phase. Parks a task ("barrier wait"), blocks a thread.
  void wait(arrival_token&& token) const { core_.wait(token.phase_); }

  // As wait, with a limit; false when it was reached before the end of the phase, and also if the
  // context was cancelled before. The arrival counts all the same.
  [[nodiscard]] bool wait_for(arrival_token&& token, std::chrono::nanoseconds d) const {
    return core_.wait(token.phase_, d);
  }
  [[nodiscard]] bool wait_until(arrival_token&& token,
                                std::chrono::steady_clock::time_point t) const {
    return core_.wait(token.phase_, t);
  }
  [[nodiscard]] bool wait(arrival_token&& token, const context& ctx) const {
    return core_.wait(token.phase_, ctx);
  }

  void arrive_and_wait() {
    uint64_t phase;
    if (!arrive_impl(1, 0, phase)) core_.wait(phase);
  }

  // Arrives once and lowers the number that the phases after this one expect.
  void arrive_and_drop() {
    uint64_t phase;
    arrive_impl(1, 1, phase);
  }

 private:
  // True for the last arrival, for which the phase is over; the barrier may be gone then.
  bool arrive_impl(std::ptrdiff_t n, std::ptrdiff_t dropped, uint64_t& phase) {
    const bool last = core_.arrive(n, dropped, phase);
    if (last) {
      completion_();
      core_.begin_phase();
    }
    return last;
  }

  mutable detail::barrier_core core_;
  Completion completion_;
};

}  // namespace weft
