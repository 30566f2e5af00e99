// Moving tasks between a processor's queues and the global one.
#include "scheduler/queues.h"

#include <mutex>

namespace weft::sched {

void overflow(processor* p, task* t) noexcept {
  task* batch[run_queue::capacity / 2];
  uint32_t n = p->ring.grab_half(batch, run_queue::capacity / 2);
  task_list list;
  for (uint32_t i = 0; i < n; ++i) list.push_back(batch[i]);
  list.push_back(t);
  global_push_list(list);
}

// The size first, then the rings: global_pop moves tasks in that direction and fills the ring
// first, so it cannot hide them from here.
bool any_queued_work() noexcept {
  if (g_sched.global_size.load(std::memory_order_seq_cst) > 0) return true;
  int n = g_sched.max_procs.load(std::memory_order_relaxed);
  for (int i = 0; i < n; ++i) {
    if (!g_sched.processors[i].load(std::memory_order_acquire)->ring.empty()) return true;
  }
  return false;
}

void global_push(task* t) noexcept {
  std::lock_guard hold(g_sched.lock);
  g_sched.global.push_back(t);
  g_sched.global_size.fetch_add(1, std::memory_order_relaxed);
}

void global_push_list(task_list& list) noexcept {
  if (list.empty()) return;
  std::lock_guard hold(g_sched.lock);
  g_sched.global_size.fetch_add(static_cast<int64_t>(list.size()), std::memory_order_relaxed);
  g_sched.global.append(list);
}

// One task to run now; up to max - 1 more move to p's ring (max 0: this processor's fair share).
task* global_pop(processor* p, int max) noexcept {
  std::lock_guard hold(g_sched.lock);
  auto n = static_cast<int>(g_sched.global.size());
  if (n == 0) return nullptr;
  int share = n / g_sched.max_procs.load(std::memory_order_relaxed) + 1;
  if (share > n) share = n;
  if (max > 0 && share > max) share = max;
  if (share > static_cast<int>(run_queue::capacity / 2)) share = run_queue::capacity / 2;
  task* first = g_sched.global.pop_front();
  int moved = 1;
  for (int i = 1; i < share; ++i) {
    task* t = g_sched.global.pop_front();
    if (p->ring.push(t))
      ++moved;
    else
      g_sched.global.push_back(t);
  }
  // [ord global.size] release, after the pushes: any_queued_work() sees each task in one place or
  // the other
  g_sched.global_size.fetch_sub(moved, std::memory_order_release);
  return first;
}

}  // namespace weft::sched
