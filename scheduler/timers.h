#pragma once
// Timers: one 4-ary heap per processor, under that processor's timer lock.
//
// A timer's function runs in the scheduler, inside the heap's lock. So remove_timer() has nothing
// to wait for: when it returns, the function has either run to its end or never will. The function
// may ready tasks and try non-blocking channel operations; it must not park or touch timers, except
// to link itself anew with rearm_timer().
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/spinlock.h"

namespace weft::sched {

struct processor;

struct timer {
  int64_t when_ns = 0;  // CLOCK_MONOTONIC
  // Called once, with the timer already out of the heap. May end the timer's life.
  void (*fire)(timer* t, int64_t now_ns) noexcept = nullptr;
  void* arg = nullptr;

  // The processor whose heap holds it, or held it last; null before the first add_timer().
  std::atomic<processor*> home{nullptr};
  static constexpr size_t not_queued = SIZE_MAX;
  size_t index = not_queued;  // row in the table of home's heap; guarded by its lock
};

inline constexpr int64_t never_ns = INT64_MAX;

// now + d without overflow: too far is never.
inline int64_t deadline_after(int64_t now, int64_t d) noexcept {
  return d > never_ns - now ? never_ns : now + d;
}

class timer_heap {
 public:
  base::spinlock lock;

  // The earliest deadline, or never_ns. Readable without the lock.
  int64_t earliest() const noexcept { return earliest_.load(std::memory_order_acquire); }

  // All below: lock held.
  void insert(timer* t, processor* owner) noexcept;
  void erase(timer* t) noexcept;
  timer* pop_due(int64_t now) noexcept;
  timer* pop_any() noexcept;
  size_t size() const noexcept { return heap_.size(); }

 private:
  // Neither comparing nor moving entries touches the timers, which are all over memory: sleepers
  // have theirs on stacks, a page and often a page table each. So the deadline lies in the entry,
  // and the position in a row of a dense table, which the timer names.
  struct entry {
    int64_t when_ns = 0;
    uint32_t row = 0;
  };
  struct table_row {
    timer* t = nullptr;
    size_t position = 0;  // in heap_; of a free row: the next free one
  };
  static constexpr size_t no_row = SIZE_MAX;

  void place(size_t i, const entry& e) noexcept {
    heap_[i] = e;
    rows_[e.row].position = i;
  }
  void up(size_t i, entry e) noexcept;
  size_t down(size_t i, const entry& e) noexcept;
  void publish() noexcept {
    earliest_.store(heap_.empty() ? never_ns : heap_[0].when_ns, std::memory_order_release);
  }

  std::vector<entry> heap_;
  std::vector<table_row> rows_;
  size_t free_row_ = no_row;
  std::atomic<int64_t> earliest_{never_ns};
};

// Both inside a critical section (park.h). add_timer: t.when_ns and t.fire are set and the timer is
// in no heap. remove_timer: true if the function had not run and now never will.
void add_timer(timer& t) noexcept;
bool remove_timer(timer& t) noexcept;

// From the timer's own function only, as its last act: links the timer again, for `when_ns` in the
// future.
void rearm_timer(timer& t, int64_t when_ns) noexcept;

}  // namespace weft::sched
