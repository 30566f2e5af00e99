// Idle processors and threads, and the protocol by which work finds them.
//
// Words      spinning: a thread that holds a processor and looks for work; g_sched.spinning counts.
// Invariant  [I1] If a ring or the global queue holds a task and some processor is idle, then a
//            thread is spinning, or about to re-scan all queues, or about to be woken by the task's
//            pusher. (A task in a `next` slot is not covered: its processor runs it at its next
//            switch. Nor is a task that yields: its own processor goes on with the queue that holds
//            it. The monitor calls for help when such a processor does not switch.)
// Protocol   pusher: 1 push  2 full fence  3 no spinner and an idle processor? start one spinner
//            leaver: 1 release the processor, stop spinning  2 full fence  3 scan all queues again
//            Whichever fence comes second sees the other's first step. tests/model/idle_model.cc
//            explores all interleavings, and those of variants without a fence or without the
//            second scan, which it must find wrong.
// Not done   Waking a thread per push: threads thrash. Waking for a task in an otherwise empty
//            `next` slot: a pair that hands work to and fro would drag a second core along for
//            nothing.
#include <mutex>

#include "base/futex.h"
#include "scheduler/directed.h"
#include "scheduler/queues.h"
#include "scheduler/scheduler.h"

namespace weft::sched {
processor* take_idle_processor() noexcept {
  processor* p = g_sched.idle_processors;
  if (p != nullptr) {
    g_sched.idle_processors = p->idle_next;
    g_sched.idle_procs.fetch_sub(1, std::memory_order_seq_cst);
  }
  return p;
}

void put_idle_processor(processor* p) noexcept {
  p->status.store(processor_status::idle, std::memory_order_relaxed);
  p->idle_next = g_sched.idle_processors;
  g_sched.idle_processors = p;
  g_sched.idle_procs.fetch_add(1, std::memory_order_seq_cst);
}

void acquire(thread* th, processor* p) noexcept {
  p->status.store(processor_status::running, std::memory_order_relaxed);
  p->owner.store(th, std::memory_order_release);  // [ord processor.owner] publishes *th to retake()
  // A new slice begins, also for a task that comes back from a blocking call without a switch.
  p->tick.store(p->tick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  th->p.store(p, std::memory_order_release);
  g_sched.running_procs.fetch_add(1, std::memory_order_seq_cst);
  if (g_sched.monitor_word.load(std::memory_order_seq_cst) != 0) wake_monitor();
  base::emit(base::event_kind::processor_start, static_cast<uint64_t>(p->id),
             static_cast<uint64_t>(th->tid));
}

processor* release(thread* th) noexcept {
  processor* p = th->p.load(std::memory_order_relaxed);
  base::emit(base::event_kind::processor_stop, static_cast<uint64_t>(p->id),
             static_cast<uint64_t>(th->tid));
  th->last_p = p;
  th->p.store(nullptr, std::memory_order_relaxed);
  p->owner.store(nullptr, std::memory_order_relaxed);
  g_sched.running_procs.fetch_sub(1, std::memory_order_seq_cst);
  return p;
}

void start_thread_for(processor* p, bool spinning) noexcept {
  g_sched.lock.lock();
  thread* th = g_sched.idle_threads;
  if (th != nullptr) {
    g_sched.idle_threads = th->idle_next;
    --g_sched.idle_thread_count;
  }
  g_sched.lock.unlock();
  if (th == nullptr) {
    create_worker(p, spinning);
    return;
  }
  th->spinning = spinning;
  th->next_p = p;
  // [ord thread.handover] release: publishes spinning, next_p and the processor's contents
  th->park_word.store(1, std::memory_order_release);
  base::futex_wake(th->park_word, 1);
}

void stop_thread(thread* th) noexcept {
  g_sched.lock.lock();
  th->idle_next = g_sched.idle_threads;
  g_sched.idle_threads = th;
  ++g_sched.idle_thread_count;
  g_sched.lock.unlock();
  while (th->park_word.load(std::memory_order_acquire) == 0)  // [ord thread.handover]
    base::futex_wait(th->park_word, 0, -1);
  th->park_word.store(0, std::memory_order_relaxed);
  acquire(th, th->next_p);
  th->next_p = nullptr;
}

void wake_one() noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);  // step 2 of the pusher
  if (g_sched.idle_procs.load(std::memory_order_seq_cst) == 0 ||
      g_sched.spinning.load(std::memory_order_seq_cst) != 0)
    return;
  int none = 0;
  if (!g_sched.spinning.compare_exchange_strong(none, 1, std::memory_order_seq_cst)) return;
  g_sched.lock.lock();
  processor* p =
      g_sched.stop_requested.load(std::memory_order_relaxed) ? nullptr : take_idle_processor();
  // Under the lock: a pusher that counts on this spinner pushed before, and whoever frees a
  // processor after this section scans later and sees that push.
  if (p == nullptr) g_sched.spinning.fetch_sub(1, std::memory_order_seq_cst);
  g_sched.lock.unlock();
  if (p != nullptr) start_thread_for(p, true);
}

void hand_off(processor* p) noexcept {
  if (g_sched.stop_requested.load(std::memory_order_seq_cst) && stop_processor_if_requested(p))
    return;
  // A deterministic test's only processor is never idle.
  if (has_local_work(p) || g_sched.global_size.load(std::memory_order_seq_cst) > 0 || directed()) {
    start_thread_for(p, false);
    return;
  }
  g_sched.lock.lock();
  if (!g_sched.stop_requested.load(std::memory_order_relaxed) && g_sched.global_size.load() == 0) {
    put_idle_processor(p);
    g_sched.lock.unlock();
    // A monitor that looked after release() and before this found a processor that was not idle.
    if (g_sched.running_procs.load(std::memory_order_seq_cst) == 0) wake_monitor();
    // The leaving thread may have been the last that would have looked at timers and descriptors;
    // and as a leaver it owes the second look at all queues.
    if (g_sched.last_poll_ns.load(std::memory_order_seq_cst) != 0 || any_queued_work()) wake_one();
    return;
  }
  g_sched.lock.unlock();
  if (!stop_processor_if_requested(p)) start_thread_for(p, false);
}

}  // namespace weft::sched
