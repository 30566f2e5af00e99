// What a worker thread does between tasks: find the next one, or sleep until there is one.
//
// Order, as Go's: due timers; every 61st switch the global queue and a stale poller (so that
// neither can starve behind a busy ring); the local queue; the global queue; the poller without
// waiting; stealing; then the processor is given up and the last thread to do so waits in the
// poller.
#include <mutex>

#include "base/clock.h"
#include "scheduler/directed.h"
#include "scheduler/park.h"
#include "scheduler/queues.h"
#include "scheduler/scheduler.h"

namespace weft::sched {
namespace {

constexpr uint32_t fairness_period = 61;
constexpr int64_t stale_poll_ns = 200'000;
constexpr int steal_passes = 4;

// The rest of a batch goes to the local ring. Help is called once for the batch, not per task.
void inject(processor* p, task_list& list) noexcept {
  bool more = !list.empty();
  while (task* t = list.pop_front()) local_push(p, t, false);
  if (more) wake_one();
}

task* poll_now(processor* p, int64_t now) noexcept {
  poller* io = g_sched.io.load(std::memory_order_acquire);
  if (io == nullptr || !io->has_waiters()) return nullptr;
  task_list list;
  io->poll(0, list);
  // Only if no thread waits in the poller: 0 means that one does.
  int64_t last = g_sched.last_poll_ns.load(std::memory_order_relaxed);
  if (last != 0)
    g_sched.last_poll_ns.compare_exchange_strong(last, now != 0 ? now : base::coarse_ns(),
                                                 std::memory_order_relaxed);
  task* t = list.pop_front();
  inject(p, list);
  return t;
}

task* steal_from(processor* p, processor* victim, bool take_next) noexcept {
  task* batch[run_queue::capacity / 2];
  uint32_t n = victim->ring.grab_half(batch, run_queue::capacity / 2);
  if (n > 0) {
    p->steals.fetch_add(n, std::memory_order_relaxed);
    for (uint32_t i = 1; i < n; ++i) local_push(p, batch[i], false);
    return batch[0];
  }
  if (!take_next) return nullptr;
  task* t = victim->next.load(std::memory_order_relaxed);
  if (t == nullptr) return nullptr;
  // Its owner is probably about to park and run it itself: give it 3 microseconds.
  uint32_t tick = victim->tick.load(std::memory_order_relaxed);
  for (int i = 0; i < 64; ++i) base::cpu_relax();
  if (victim->tick.load(std::memory_order_relaxed) != tick) return nullptr;
  if (!victim->next.compare_exchange_strong(t, nullptr, std::memory_order_acq_rel,
                                            std::memory_order_relaxed))
    return nullptr;
  p->steals.fetch_add(1, std::memory_order_relaxed);
  return t;
}

task* steal(thread* th, processor* p) noexcept {
  int n = g_sched.max_procs.load(std::memory_order_relaxed);
  for (int pass = 0; pass < steal_passes; ++pass) {
    bool last = pass == steal_passes - 1;
    auto start = static_cast<int>(next_random(th) % static_cast<uint32_t>(n));
    for (int i = 0; i < n; ++i) {
      if (g_sched.stop_requested.load(std::memory_order_relaxed)) return nullptr;
      processor* victim = g_sched.processors[(start + i) % n];
      if (last && victim->timers.earliest() != never_ns &&
          run_due_timers(victim, base::now_refresh())) {
        if (task* t = local_pop(p)) return t;
      }
      if (victim == p) continue;
      if (task* t = steal_from(p, victim, last)) return t;
    }
    if (g_sched.global_size.load(std::memory_order_relaxed) > 0) {
      if (task* t = global_pop(p, 0)) return t;
    }
  }
  return nullptr;
}

task* found(thread* th, task* t) noexcept {
  if (th->spinning) {
    th->spinning = false;
    // More may have been queued while this thread's spinning kept pushers from waking anybody.
    if (g_sched.spinning.fetch_sub(1, std::memory_order_seq_cst) == 1 && any_queued_work())
      wake_one();
  }
  return t;
}

// The thread holds no processor. Waits in the poller if nobody does. True if it came back with one.
bool wait_in_poller(thread* th) noexcept {
  poller* io = g_sched.io.load(std::memory_order_acquire);
  // [ord poll.until] exchange first, then read the timers: whoever adds a timer inserts it, fences,
  // and then reads last_poll_ns; so either the new timer is seen here or its adder wakes the
  // poller.
  if (g_sched.last_poll_ns.exchange(0, std::memory_order_seq_cst) == 0) return false;
  int64_t when = earliest_timer();
  g_sched.poll_until_ns.store(when, std::memory_order_seq_cst);
  int64_t timeout = -1;
  if (when != never_ns) {
    timeout = when - base::now_refresh();
    if (timeout < 0) timeout = 0;
  }
  // [I1] A pusher that looked before last_poll_ns became 0 may have found no idle processor.
  if (any_queued_work()) timeout = 0;
  task_list list;
  io->poll(timeout, list);
  int64_t now = base::now_refresh();
  g_sched.poll_until_ns.store(never_ns, std::memory_order_relaxed);
  g_sched.last_poll_ns.store(now, std::memory_order_seq_cst);
  g_sched.lock.lock();
  processor* p =
      g_sched.stop_requested.load(std::memory_order_relaxed) ? nullptr : take_idle_processor();
  g_sched.lock.unlock();
  if (p == nullptr) {
    global_push_list(list);
    wake_one();
    return false;
  }
  acquire(th, p);
  inject(p, list);
  return true;
}

}  // namespace

uint32_t next_random(thread* th) noexcept {
  uint32_t x = th->rng;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return th->rng = x;
}

int64_t earliest_timer() noexcept {
  int64_t when = never_ns;
  int n = g_sched.max_procs.load(std::memory_order_relaxed);
  for (int i = 0; i < n; ++i) {
    int64_t w = g_sched.processors[i].load(std::memory_order_acquire)->timers.earliest();
    if (w < when) when = w;
  }
  return when;
}

bool run_due_timers(processor* p, int64_t now) noexcept {
  if (p->timers.earliest() > now) return false;
  bool ran = false;
  for (;;) {
    std::lock_guard hold(p->timers.lock);
    // In batches, so that a remove_timer from another processor need not wait for all of them.
    for (int i = 0; i < 32; ++i) {
      timer* t = p->timers.pop_due(now);
      if (t == nullptr) return ran;
      ran = true;
      t->fire(t, now);
    }
  }
}

task* find_work(thread* th) noexcept {
  for (;;) {
    processor* p = th->p.load(std::memory_order_relaxed);
    if (p == nullptr) {
      stop_thread(th);
      continue;
    }
    if (g_sched.stop_requested.load(std::memory_order_seq_cst)) {
      if (th->spinning) {
        th->spinning = false;
        g_sched.spinning.fetch_sub(1, std::memory_order_seq_cst);
      }
      release(th);
      if (!stop_processor_if_requested(p)) acquire(th, p);
      continue;
    }
    if (directed_world* w = g_directed.load(std::memory_order_acquire)) [[unlikely]] {
      if (task* t = directed_find(*w, th, p)) return found(th, t);
      continue;
    }
    int64_t now = 0;
    if (p->timers.earliest() != never_ns) {
      now = base::now_refresh();
      run_due_timers(p, now);
    }
    if (p->tick.load(std::memory_order_relaxed) % fairness_period == 0) {
      if (g_sched.global_size.load(std::memory_order_relaxed) > 0) {
        if (task* t = global_pop(p, 1)) return found(th, t);
      }
      int64_t last = g_sched.last_poll_ns.load(std::memory_order_relaxed);
      if (now == 0) now = base::now_refresh();
      if (last != 0 && now - last > stale_poll_ns) {
        if (task* t = poll_now(p, now)) local_push(p, t, false);
      }
    }
    if (task* t = local_pop(p)) return found(th, t);
    if (g_sched.global_size.load(std::memory_order_relaxed) > 0) {
      if (task* t = global_pop(p, 0)) return found(th, t);
    }
    if (g_sched.last_poll_ns.load(std::memory_order_relaxed) != 0) {
      if (task* t = poll_now(p, now)) return found(th, t);
    }

    // At most half of the busy processors' number may spin: more would only fight over the same
    // rings.
    int busy = g_sched.max_procs.load(std::memory_order_relaxed) -
               g_sched.idle_procs.load(std::memory_order_relaxed);
    if (th->spinning || 2 * g_sched.spinning.load(std::memory_order_relaxed) < busy) {
      if (!th->spinning) {
        th->spinning = true;
        g_sched.spinning.fetch_add(1, std::memory_order_seq_cst);
      }
      if (task* t = steal(th, p)) return found(th, t);
      if (g_sched.stop_requested.load(std::memory_order_relaxed)) continue;
    }

    g_sched.lock.lock();
    if (g_sched.stop_requested.load(std::memory_order_relaxed) || !g_sched.global.empty()) {
      g_sched.lock.unlock();
      continue;
    }
    release(th);
    put_idle_processor(p);  // step 1 of the leaver
    g_sched.lock.unlock();
    if (th->spinning) {
      th->spinning = false;
      g_sched.spinning.fetch_sub(1, std::memory_order_seq_cst);
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);  // step 2
    if (any_queued_work()) {                              // step 3
      g_sched.lock.lock();
      p = g_sched.stop_requested.load(std::memory_order_relaxed) ? nullptr : take_idle_processor();
      g_sched.lock.unlock();
      if (p != nullptr) {
        acquire(th, p);
        th->spinning = true;
        g_sched.spinning.fetch_add(1, std::memory_order_seq_cst);
        continue;
      }
    }
    wait_in_poller(th);
  }
}

}  // namespace weft::sched
