// Who is to blame when the runtime's own locks are waited for.
//
// Problem    Unlocking is a plain store and does not learn who waits; a list of waiters would cost
//            every lock its size and every unlock a look. And a wait should be charged to whoever
//            held the lock meanwhile, with that holder's stack, which only it can take.
// Sums       A waiter that is timed adds its start to a sum in a table that is shared by all locks,
//            by the lock's address, and marks the lock's word. A holder that finds the mark takes
//            the sum: `n * now - sum` is what the n waiters have waited for it, and it begins a new
//            period of the sum. Waiters that see that their period is over, and the lock held
//            again, add the time of that look: the next holder is charged with what it is to blame
//            for. Sums are modulo 2^40 units of 16 ns, so only differences matter.
// Mistakes   Two locks that are contended at the same time and share a sum (one in 256) are charged
//            to whichever is released first. A waiter that does not look (it gave its core away)
//            misses a holder. A mark that comes too late for the holder leaves its waiter's time in
//            the sum: the waiter takes it back, and tells that nobody was charged with it.
#include "base/lock_waits.h"

#include <array>

#include "base/clock.h"

namespace weft::base {

constinit std::atomic<const lock_listener*> g_lock_listener{nullptr};

namespace {

// The sum of one or more locks: 12 bits count periods, 12 waiters, 40 are the sum of their starts.
using packed_sum = std::atomic<uint64_t>;
constexpr int sum_bits = 40;
constexpr uint64_t sum_mask = (uint64_t{1} << sum_bits) - 1;
constexpr uint64_t most_waiters = (1 << 12) - 1;
constexpr uint64_t no_period = ~uint64_t{0};
constexpr int unit_shift = 4;  // ns to units

constinit std::array<packed_sum, 256> g_sums{};

packed_sum& sum_of(const void* word) noexcept {
  return g_sums[(reinterpret_cast<uintptr_t>(word) * 0x9e3779b97f4a7c15u) >> 56];
}

constexpr uint64_t period_of(uint64_t s) noexcept { return s >> 52; }
constexpr uint64_t waiters_of(uint64_t s) noexcept { return s >> sum_bits & most_waiters; }
constexpr uint64_t pack(uint64_t period, uint64_t waiters, uint64_t sum) noexcept {
  return period << 52 | waiters << sum_bits | (sum & sum_mask);
}

uint64_t now_in_units() noexcept { return static_cast<uint64_t>(true_now_ns()) >> unit_shift; }
int64_t to_ns(uint64_t units) noexcept {
  return static_cast<int64_t>((units & sum_mask) << unit_shift);
}

// Adds a waiter since `start`; returns the period it counts in.
uint64_t enter(packed_sum& sum, uint64_t start) noexcept {
  uint64_t s = sum.load(std::memory_order_relaxed);
  do {
    if (waiters_of(s) == most_waiters) return no_period;
  } while (!sum.compare_exchange_weak(s, pack(period_of(s), waiters_of(s) + 1, s + start),
                                      std::memory_order_relaxed));
  return period_of(s);
}

// Takes it back; false if a holder has taken it.
bool leave(packed_sum& sum, uint64_t start, uint64_t period) noexcept {
  uint64_t s = sum.load(std::memory_order_relaxed);
  do {
    if (period_of(s) != period) return false;
  } while (!sum.compare_exchange_weak(s, pack(period, waiters_of(s) - 1, s - start),
                                      std::memory_order_relaxed));
  return true;
}

}  // namespace

void lock_wait::begin(std::atomic<uint8_t>& word) noexcept {
  word_ = &word;
  began_ = true_now_ns();
  since_ = static_cast<uint64_t>(began_) >> unit_shift;
  period_ = enter(sum_of(word_), since_);
  announce();
}

void lock_wait::announce() noexcept {
  packed_sum& sum = sum_of(word_);
  uint8_t seen = word_->load(std::memory_order_relaxed);
  if (seen == lock_free) return;
  if (period_ != period_of(sum.load(std::memory_order_relaxed))) {
    since_ = now_in_units();
    period_ = enter(sum, since_);
  }
  // Also again: whoever came and tried has overwritten the mark.
  if (seen == lock_held)
    word_->compare_exchange_strong(seen, lock_waited_for, std::memory_order_relaxed);
}

void lock_wait::end() noexcept {
  const bool unknown = period_ != no_period && leave(sum_of(word_), since_, period_);
  runtime_lock(*listener_, true_now_ns() - began_, unknown ? to_ns(now_in_units() - since_) : 0);
}

}  // namespace weft::base

namespace weft {

using base::lock_listener;

[[gnu::noinline, gnu::cold]] void runtime_unlock(std::atomic<uint8_t>& word) noexcept {
  using namespace base;
  int64_t delay = 0;
  uint64_t waiters = 0;
  // Before the release: who waits now has waited for this holder.
  if (word.load(std::memory_order_relaxed) == lock_waited_for) {
    packed_sum& sum = sum_of(&word);
    uint64_t s = sum.load(std::memory_order_relaxed);
    do {
      waiters = waiters_of(s);
    } while (waiters != 0 && !sum.compare_exchange_weak(s, pack(period_of(s) + 1, 0, 0),
                                                        std::memory_order_relaxed));
    delay = to_ns(waiters * now_in_units() - s);
  }
  word.store(lock_free, std::memory_order_release);
  if (waiters == 0) return;
  // [ord lock.listener] acquire: what it reads was written before it was set
  if (const lock_listener* l = g_lock_listener.load(std::memory_order_acquire))
    l->held_up(delay, static_cast<int64_t>(waiters));
  asm volatile("");  // not a tail call
}

[[gnu::noinline, gnu::cold]] void runtime_lock(const lock_listener& listener, int64_t ns,
                                               int64_t unknown_ns) noexcept {
  listener.waited(ns, unknown_ns);
  asm volatile("");  // not a tail call
}

}  // namespace weft
