#include "scheduler/timers.h"

#include <mutex>

#include "scheduler/scheduler.h"

namespace weft::sched {

void timer_heap::up(size_t i, entry e) noexcept {
  while (i > 0) {
    size_t parent = (i - 1) / 4;
    if (heap_[parent].when_ns <= e.when_ns) break;
    place(i, heap_[parent]);
    i = parent;
  }
  place(i, e);
}

// Moves the hole at i down to a place where `e` fits, or to a leaf.
size_t timer_heap::down(size_t i, const entry& e) noexcept {
  for (;;) {
    size_t first = 4 * i + 1;
    if (first >= heap_.size()) return i;
    size_t last = first + 4 < heap_.size() ? first + 4 : heap_.size();
    size_t best = first;
    for (size_t c = first + 1; c < last; ++c) {
      if (heap_[c].when_ns < heap_[best].when_ns) best = c;
    }
    if (heap_[best].when_ns >= e.when_ns) return i;
    place(i, heap_[best]);
    i = best;
  }
}

void timer_heap::insert(timer* t, processor* owner) noexcept {
  t->home.store(owner, std::memory_order_relaxed);
  size_t row = free_row_;
  if (row != no_row) {
    free_row_ = rows_[row].position;
  } else {
    row = rows_.size();
    rows_.emplace_back();
  }
  rows_[row].t = t;
  t->index = row;
  heap_.emplace_back();
  up(heap_.size() - 1, {t->when_ns, static_cast<uint32_t>(row)});
  publish();
}

void timer_heap::erase(timer* t) noexcept {
  const size_t row = t->index;
  const size_t i = rows_[row].position;
  entry last = heap_.back();
  heap_.pop_back();
  t->index = timer::not_queued;
  rows_[row].position = free_row_;
  free_row_ = row;
  if (last.row != row) up(down(i, last), last);
  publish();
}

timer* timer_heap::pop_due(int64_t now) noexcept {
  if (heap_.empty() || heap_[0].when_ns > now) return nullptr;
  return pop_any();
}

timer* timer_heap::pop_any() noexcept {
  if (heap_.empty()) return nullptr;
  timer* t = rows_[heap_[0].row].t;
  erase(t);
  return t;
}

void add_timer(timer& t) noexcept {
  if (t.when_ns == never_ns) return;
  processor* p = processor_for_timers();
  const int64_t when = t.when_ns;
  {
    std::lock_guard hold(p->timers.lock);
    p->timers.insert(&t, p);
  }
  timer_added(when);  // the timer may have fired by now and be gone
}

bool remove_timer(timer& t) noexcept {
  for (;;) {
    processor* p = t.home.load(std::memory_order_relaxed);
    if (p == nullptr) return false;
    // The function runs under this lock with the timer already unqueued, so holding the lock means
    // that it is not running now.
    std::lock_guard hold(p->timers.lock);
    if (t.home.load(std::memory_order_relaxed) != p)
      continue;  // moved when a processor was retired
    if (t.index == timer::not_queued) return false;
    p->timers.erase(&t);
    return true;
  }
}

void rearm_timer(timer& t, int64_t when_ns) noexcept {
  t.when_ns = when_ns;
  processor* p = t.home.load(std::memory_order_relaxed);  // its lock is held around the function
  p->timers.insert(&t, p);
  timer_added(when_ns);
}

}  // namespace weft::sched
