#pragma once
// The queues of one processor as every switch uses them, inline; the global queue is scheduler.h's.
// All for the holder of the processor, inside a critical section.
#include "scheduler/scheduler.h"

namespace weft::sched {

// A pair of tasks that ready each other would live in `next` for ever; after this many turns the
// ring goes first once.
inline constexpr uint32_t max_next_streak = 32;

void overflow(processor* p, task* t) noexcept;  // p's ring is full: half of it goes, with t

// Queues t: ahead of all (what was there goes to the tail), or at the tail.
inline void local_push(processor* p, task* t, bool next) noexcept {
  if (next) {
    task* kicked = p->next.load(std::memory_order_relaxed);
    if (alone())
      p->next.store(t, std::memory_order_relaxed);
    else
      kicked = p->next.exchange(t, std::memory_order_acq_rel);
    if (kicked == nullptr) return;
    t = kicked;
  }
  if (!p->ring.push(t)) [[unlikely]]
    overflow(p, t);
}

[[gnu::always_inline]] inline task* take_next(processor* p) noexcept {
  task* t = p->next.load(std::memory_order_relaxed);
  if (t == nullptr) return nullptr;
  if (alone()) {
    p->next.store(nullptr, std::memory_order_relaxed);
    return t;
  }
  // A thief may take it between the load and the exchange.
  if (p->next.compare_exchange_strong(t, nullptr, std::memory_order_acq_rel,
                                      std::memory_order_relaxed))
    return t;
  return nullptr;
}

// The task to run next; null if both queues are empty.
[[gnu::always_inline]] inline task* local_pop(processor* p) noexcept {
  if (p->next_streak < max_next_streak) {
    if (task* t = take_next(p)) {
      ++p->next_streak;
      return t;
    }
  }
  p->next_streak = 0;
  if (task* t = alone() ? p->ring.pop_alone() : p->ring.pop()) return t;
  return take_next(p);
}

inline bool has_local_work(const processor* p) noexcept {
  return !p->ring.empty() || p->next.load(std::memory_order_relaxed) != nullptr;
}

}  // namespace weft::sched
