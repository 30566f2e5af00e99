// Scheduler: which task runs on which thread, and how one task gives way to the next.
//
// Words      task: a green thread. processor (P): the right to run tasks, max_procs of them, with
//            a queue of runnable tasks each. thread: an OS thread; it runs tasks while it holds a
//            P.
// Shape      A task that gives way switches straight to the next task of its P's queue. Only when
//            that is empty, or every 61st time, does it go through the thread's own context
//            (find_work.cc), which looks everywhere else.
// Switch     The context that comes next does what is left to do for the one that was left
//            (after_switch): mark it waiting and release the lock that makes it findable, queue
//            it, or free it. So nobody can continue a task that has not yet left its stack.
// Invariants [S1] A task is in exactly one of: a queue, a thread's `current`, a wait list, a free
//            list. [S2] P-local data is touched only by the thread that holds P, inside a critical
//            section. [S3] No thread-local address and no P is kept across a switch; self() is
//            asked again. [I1] in idle.cc; [R1] in retake.cc; [L1] in locked_thread.cc.
// Locks      timer heap -> g_sched.lock -> nothing. The run queues and the state door are
//            lock-free.
// Reading on park.h, spawn.cc, caches.h, queues.cc, idle.cc, find_work.cc, retake.cc, monitor.cc,
//            control.cc.
#include "scheduler/scheduler.h"

#include <cstdlib>
#include <utility>

#include "base/check.h"
#include "base/futex.h"
#include "scheduler/affinity.h"
#include "scheduler/caches.h"
#include "scheduler/deadlock.h"
#include "scheduler/lockpark.h"
#include "scheduler/park.h"
#include "scheduler/queues.h"
#include "scheduler/wait_watch.h"
#include "scheduler/world_stop.h"

namespace weft::sched {

scheduler g_sched;

namespace {

constexpr uint32_t fairness_period = 61;

// Something that the thread's own context has to see to: a stop, or a timer.
bool is_urgent(const processor* p) noexcept {
  return g_sched.stop_requested.load(std::memory_order_relaxed) ||
         p->timers.earliest() <= base::coarse_ns();
}

// Whether the thread may switch to the next task of its processor's queues directly.
[[gnu::always_inline]] inline bool may_go_direct(const thread* th) noexcept {
  const processor* p = th->p.load(std::memory_order_relaxed);
  return p != nullptr && p->tick.load(std::memory_order_relaxed) % fairness_period != 0 &&
         !is_urgent(p) && th->locked_task == nullptr;
}

// What the thread's own context runs next.
task* next_task(thread* th) noexcept {
  if (th->locked_task != nullptr) return await_locked_task(th);
  if (task* t = th->picked) {
    th->picked = nullptr;
    return t;
  }
  return find_work(th);
}

// The thread of a task that ended while locked to it.
void leave_runtime(thread* th) noexcept {
  th->locked_task = nullptr;
  th->lock_depth = 0;
  th->ending.store(true, std::memory_order_relaxed);  // seen by whoever finds the processor idle
  hand_off(release(th));
  worker_ended(th);
}

// Makes t the thread's current task. False if the gate is closed: then pass_gate() has to be asked,
// on the thread's own context.
[[gnu::always_inline]] inline bool make_current(thread* th, task* t) noexcept {
  th->current.store(t, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);  // [W1] in world_stop.cc
  return g_gate.load(std::memory_order_acquire) == 0;   // [ord world.resume]
}

// t is the thread's current task already.
[[gnu::always_inline]] inline void begin_run(processor* p, task* t) noexcept {
  change_state(*t, task_status::runnable, task_status::running);
  if (t->stk == nullptr) [[unlikely]]
    prepare_first_run(p, t);
  p->tick.store(p->tick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

using op = after_switch::op;

time_away::cause cause_of(op what) noexcept {
  return what == op::park ? time_away::cause::parked : time_away::cause::gave_way;
}

// The last act for a task that ended, on the context that came next.
[[gnu::noinline]] void bury(thread* th, task* t) noexcept {
  processor* p = th->p.load(std::memory_order_relaxed);
  note_task_ended(t->stk, t->ctx.sp);
  put_stack(p, t->stk);
  std::atomic_ref(t->stk).store(nullptr, std::memory_order_relaxed);  // stack_while_executing()
  bool system = t->system;
  change_state(*t, task_status::running, task_status::free);
  if (system) {
    g_sched.system_tasks.fetch_sub(1, std::memory_order_relaxed);
  }
  put_task(p, t);
}

// Parking was refused by its commit step: the task goes on next.
[[gnu::noinline]] void cancel_park(thread* th, task* t) noexcept {
  change_state(*t, task_status::waiting, task_status::runnable);
  local_push(th->p.load(std::memory_order_relaxed), t, true);
}

[[gnu::noinline]] void requeue(task* t) noexcept {
  change_state(*t, task_status::blocking, task_status::runnable);
  global_push(t);
  wake_one();
}

[[gnu::always_inline]] inline void finish(thread* th) noexcept {
  const after_switch& a = th->after;
  const op what = a.what;
  th->after.what = op::none;
  if (what == op::park) {
    change_state(*a.prev, task_status::running, task_status::waiting, a.reason);
    if (a.commit != nullptr && !a.commit(a.prev, a.arg)) [[unlikely]]
      cancel_park(th, a.prev);
  } else if (what == op::yield) {
    change_state(*a.prev, task_status::running, task_status::runnable);
    if (a.arg != nullptr)
      local_push(th->p.load(std::memory_order_relaxed), a.prev, false);
    else
      global_push(a.prev);
  } else if (what == op::exit) {
    bury(th, a.prev);
  } else if (what == op::requeue) {
    requeue(a.prev);
  }
}

// Leaves the calling task; finish_switch() will do `what` with it. `direct`: may_go_direct().
// Returns when it runs again, with the thread that it then runs on. The record is filled field by
// field: built as a whole and copied, wide loads would wait for the narrow stores before them.
[[gnu::always_inline]] inline thread* switch_unwatched(thread* th, task* me, op what,
                                                       bool (*commit)(task*, void*), void* arg,
                                                       wait_reason reason, bool direct) noexcept {
  if (unguarded_stacks_exist()) [[unlikely]]
    check_unguarded(me->stk, __builtin_frame_address(0));
  after_switch& after = th->after;
  after.what = what;
  after.prev = me;
  after.commit = commit;
  after.arg = arg;
  after.reason = reason;
  const int64_t left_ns = base::coarse_ns();
  processor* p = th->p.load(std::memory_order_relaxed);
  context* to = &th->sched_ctx;
  task* next = direct ? local_pop(p) : nullptr;
  if (next != nullptr && (next->locked_to_thread || !make_current(th, next))) [[unlikely]] {
    th->picked = next;
    next = nullptr;
  }
  if (next != nullptr) {
    begin_run(p, next);
    to = &next->ctx;
  } else {
    th->current.store(nullptr, std::memory_order_release);  // [ord world.stopped]
  }
  th = switch_context(th, me->ctx, *to, what == op::exit);
  finish(th);
  if (grid_passed(left_ns, base::coarse_ns())) [[unlikely]]
    back_from(*me, cause_of(what), reason, false, left_ns);
  return th;
}

[[gnu::noinline]] thread* switch_watched(thread* th, task* me, op what,
                                         bool (*commit)(task*, void*), void* arg,
                                         wait_reason reason, bool direct) noexcept {
  const bool timed = exact_wanted(reason);
  const int64_t left_ns = timed ? base::now_ns() : 0;
  const bool counts_locks = g_lockpark.load(std::memory_order_acquire);
  const int held = counts_locks ? lockpark_leave(*me, what != op::exit, reason) : 0;
  th = switch_unwatched(th, me, what, commit, arg, reason, direct);
  if (counts_locks) lockpark_resume(held);
  if (timed) back_from(*me, cause_of(what), reason, true, left_ns);
  return th;
}

// Inlined where tasks switch often: what is known there need not be asked, and a switch is a third
// of the calls shorter.
[[gnu::always_inline]] inline thread* switch_away(thread* th, task* me, op what,
                                                  bool (*commit)(task*, void*), void* arg,
                                                  wait_reason reason, bool direct) noexcept {
  if (th->gathered != nullptr) [[unlikely]]
    send_gathered(th);
  if ((g_watched_switches.load(std::memory_order_relaxed) & reason_bit(reason)) != 0) [[unlikely]]
    return switch_watched(th, me, what, commit, arg, reason, direct);
  return switch_unwatched(th, me, what, commit, arg, reason, direct);
}

void park_foreign(thread* th, task* t, wait_reason reason, bool (*commit)(task*, void*),
                  void* arg) noexcept {
  if (th->gathered != nullptr) send_gathered(th);
  const int64_t left_ns = foreign_leaves();
  change_state(*t, task_status::running, task_status::waiting, reason);
  if (commit == nullptr || commit(t, arg)) {
    {
      foreign_sleep asleep(th);
      resting rest(th);
      while (th->park_word.load(std::memory_order_acquire) == 0)  // [ord thread.unpark]
        base::futex_wait(th->park_word, 0, -1);
    }
    th->park_word.store(0, std::memory_order_release);  // after `asleep` is cleared: deadlock.cc, 6
  }
  change_state(*t, task_status::waiting, task_status::running);
  foreign_back_from(*t, reason, left_ns);
}

void wake_sleeper(timer* t, int64_t) noexcept { ready(static_cast<task*>(t->arg)); }

bool commit_sleep(task* self, void* arg) {
  auto* t = static_cast<timer*>(arg);
  t->arg = self;
  add_timer(*t);  // the last touch: the sleeper may be awake already
  return true;
}

void sleep_foreign(thread* th, task* t, int64_t when_ns) noexcept {
  const int64_t left_ns = foreign_leaves();
  change_state(*t, task_status::running, task_status::waiting, wait_reason::sleep);
  std::atomic<uint32_t> nobody_wakes{0};
  {
    resting rest(th);
    for (int64_t now = base::now_ns(); now < when_ns; now = base::now_ns())
      base::futex_wait(nobody_wakes, 0, when_ns - now);
  }
  change_state(*t, task_status::waiting, task_status::running);
  foreign_back_from(*t, wait_reason::sleep, left_ns);
}

bool unlock_spinlock(task*, void* lock) {
  static_cast<base::spinlock*>(lock)->unlock();
  return true;
}

}  // namespace

void own_gathered(gathered_output& g) noexcept {
  thread* th = self_or_null();
  g.owner = th == nullptr ? nullptr : th->current.load(std::memory_order_relaxed);
}

bool note_gathered(gathered_output& g) noexcept {
  thread* th = self_or_null();
  if (th == nullptr || g.owner == nullptr || th->current.load(std::memory_order_relaxed) != g.owner)
    return false;
  th->gathered = &g;
  return true;
}

void forget_gathered(gathered_output& g) noexcept {
  thread* th = self_or_null();
  if (th != nullptr && th->gathered == &g) th->gathered = nullptr;
}

void send_gathered(thread* th) noexcept {
  gathered_output* g = std::exchange(th->gathered, nullptr);
  g->send(*g);
}

void finish_switch(thread* th) noexcept { finish(th); }

void leave_for_ever(thread* th, task* me) noexcept {
  switch_away(th, me, op::exit, nullptr, nullptr, wait_reason::none, may_go_direct(th));
  __builtin_unreachable();
}

void prepare_first_run(processor* p, task* t) noexcept {
  stack* stk = take_stack(p, t->cls);
  stk->next_trim_ns = 0;
  stk->trim_backoff = 0;
  stk->body = nullptr;
  stk->scan_epoch.store(g_scan_epoch.load(std::memory_order_relaxed), std::memory_order_relaxed);
  make_context(t->ctx, stk->lo, stk->hi);
  std::atomic_ref(t->stk).store(stk, std::memory_order_release);  // [ord task.stk]
#if WEFT_TSAN
  t->ctx.tsan_fiber = t->stk->tsan_fiber;
#endif
}

void worker_main(thread* th) noexcept {
  register_thread(th);
  th->crit.store(1, std::memory_order_relaxed);
  acquire(th, th->next_p);
  th->next_p = nullptr;
  for (;;) {
    task* t = next_task(th);
    if (t->locked_to_thread && t->own_thread != th) {
      bring_processor(th, t);
      continue;
    }
    if (!make_current(th, t)) [[unlikely]]
      pass_gate(th, t);
    begin_run(th->p.load(std::memory_order_relaxed), t);
    switch_context(th, th->sched_ctx, t->ctx, false);  // this context stays on its thread
    const bool locked_task_ended =
        th->locked_task != nullptr && th->after.what == after_switch::op::exit;
    finish_switch(th);
    if (locked_task_ended) break;
  }
  leave_runtime(th);
}

thread* park(thread* th, wait_reason reason, const void* waits_on, bool (*commit)(task*, void*),
             void* arg) noexcept {
  task* me = th->current.load(std::memory_order_relaxed);
  me->waits_on = waits_on;
  if (th->foreign) {
    park_foreign(th, me, reason, commit, arg);
    return th;
  }
  return switch_away(th, me, op::park, commit, arg, reason, may_go_direct(th));
}

void sleep_until(int64_t when_ns) noexcept {
  thread* th = self();
  if (th->foreign) {
    sleep_foreign(th, th->current.load(std::memory_order_relaxed), when_ns);
    return;
  }
  timer t;
  t.when_ns = when_ns;
  t.fire = wake_sleeper;
  park(wait_reason::sleep, nullptr, commit_sleep, &t);
}

void park_unlock(wait_reason reason, const void* waits_on, base::spinlock& lock) noexcept {
  park(reason, waits_on, unlock_spinlock, &lock);
}

namespace {
std::atomic<bool> g_wander{false};
}
void let_tasks_wander() noexcept { g_wander.store(true, std::memory_order_relaxed); }

void ready(thread* th, task* t, bool next) noexcept {
  if (t->foreign) {
    thread* sleeper = t->own_thread;
    sleeper->park_word.store(1, std::memory_order_release);  // [ord thread.unpark]
    base::futex_wake(sleeper->park_word, 1);
    return;
  }
  processor* p = th->p.load(std::memory_order_relaxed);
  if (p == nullptr) base::now_refresh();  // nobody may have looked at the clock for hours
  change_state(*t, task_status::waiting, task_status::runnable);
  if (p == nullptr || g_wander.load(std::memory_order_relaxed)) [[unlikely]] {
    global_push(t);
    wake_one();
    return;
  }
  local_push(p, t, next);
  if (!p->ring.empty() && !alone()) wake_one();
}

void make_ready(task* t) noexcept { change_state(*t, task_status::waiting, task_status::runnable); }

thread* yield_now(thread* th) noexcept {
  if (th->foreign) [[unlikely]] {
    ::sched_yield();
    return th;
  }
  task* me = th->current.load(std::memory_order_relaxed);
  processor* p = th->p.load(std::memory_order_relaxed);
  const uint32_t tick = p->tick.load(std::memory_order_relaxed);
  const bool urgent = is_urgent(p);
  const bool look_elsewhere = (tick + 1) % fairness_period == 0 || urgent ||
                              g_sched.global_size.load(std::memory_order_relaxed) > 0;
  if (!look_elsewhere && !has_local_work(p)) {
    p->tick.store(tick + 1, std::memory_order_relaxed);
    return th;
  }
  // Go sends the yielding task to the global queue. The local tail is as fair among the tasks of
  // this processor, is stolen from like any queue, and costs a third; every 61st time the global
  // queue keeps processors even.
  void* local = look_elsewhere ? nullptr : me;
  const bool direct = tick % fairness_period != 0 && !urgent && th->locked_task == nullptr;
  return switch_away(th, me, op::yield, nullptr, local, wait_reason::none, direct);
}

thread* yield_preempted(thread* th) noexcept {
  task* me = th->current.load(std::memory_order_relaxed);
  return switch_away(th, me, op::yield, nullptr, nullptr, wait_reason::none, may_go_direct(th));
}

void yield_to_next() noexcept {
  thread* th = self();
  if (th->foreign) return;
  task* me = th->current.load(std::memory_order_relaxed);
  switch_away(th, me, op::yield, nullptr, me, wait_reason::none, may_go_direct(th));
}

bool can_spin(int round) noexcept {
  if (round >= 4 || g_sched.running_procs.load(std::memory_order_relaxed) < 2) return false;
  processor* p = self()->p.load(std::memory_order_relaxed);
  return p != nullptr && !has_local_work(p);
}

void set_task_name(task& t, char* name) noexcept { std::free(std::exchange(t.name, name)); }

uint32_t next_random_number() noexcept { return next_random(self()); }

void for_each_task(void (*visit)(task&, void*), void* arg) {
  size_t n = task_record_count();
  for (size_t i = 0; i < n; ++i) {
    task& t = task_record(i);
    if (status_of(t.state.load(std::memory_order_acquire)) != task_status::free) visit(t, arg);
  }
}

int64_t live_tasks() noexcept {
  int64_t n = g_sched.foreign_created.load(std::memory_order_relaxed) -
              g_sched.system_tasks.load(std::memory_order_relaxed);
  for (const std::atomic<processor*>& slot : g_sched.processors) {
    const processor* p = slot.load(std::memory_order_acquire);
    if (p == nullptr) break;
    n += p->created.load(std::memory_order_relaxed) - p->finished.load(std::memory_order_relaxed);
  }
  return n;
}

}  // namespace weft::sched
