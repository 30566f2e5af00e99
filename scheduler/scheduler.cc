// Scheduler: which task runs on which thread, and how one task gives way to the next.
//
// Words      task: a green thread. processor (P): the right to run tasks, max_procs of them, with a
// queue of
//            runnable tasks each. thread: an OS thread; it runs tasks while it holds a P.
// Shape      A task that gives way switches straight to the next task of its P's queue. Only when
// that is
//            empty, or every 61st time, does it go through the thread's own context (find_work.cc),
//            which looks everywhere else.
// Switch     The context that comes next does what is left to do for the one that was left
// (after_switch):
//            mark it waiting and release the lock that makes it findable, queue it, or free it. So
//            nobody can continue a task that has not yet left its stack.
// Invariants [S1] A task is in exactly one of: a queue, a thread's `current`, a wait list, a free
// list.
//            [S2] P-local data is touched only by the thread that holds P, inside a critical
//            section. [S3] No thread-local address and no P is kept across a switch; self() is
//            asked again. [I1] in idle.cc; [R1] in retake.cc;
//            [L1] in locked_thread.cc.
// Locks      timer heap -> g_sched.lock -> nothing. The run queues and the state door are
// lock-free. Reading on park.h, queues.cc, idle.cc, find_work.cc, retake.cc, monitor.cc,
// control.cc.
#include "scheduler/scheduler.h"

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "base/futex.h"
#include "scheduler/deadlock.h"
#include "scheduler/lockpark.h"
#include "scheduler/park.h"

namespace weft::sched {

scheduler g_sched;

namespace {

constexpr int task_cache_batch = 32;
constexpr int task_cache_max = 128;
constexpr int stack_cache_max = 64;
constexpr int body_cache_max = 64;
constexpr uint64_t id_batch = 16;
constexpr uint32_t fairness_period = 61;

// The next task of this P if the thread may switch to it directly.
task* pick_direct(processor* p) noexcept {
  if (p->tick.load(std::memory_order_relaxed) % fairness_period == 0 ||
      g_sched.stop_requested.load(std::memory_order_relaxed) ||
      p->timers.earliest() <= base::coarse_ns())
    return nullptr;
  return local_pop(p);
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
  hand_off(release(th));
  worker_ended(th);
}

void begin_run(thread* th, processor* p, task* t) noexcept {
  change_state(*t, task_status::runnable, task_status::running);
  if (t->stk == nullptr) prepare_first_run(p, t);
  p->tick.store(p->tick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  th->current.store(t, std::memory_order_relaxed);
}

using op = after_switch::op;

// Leaves the calling task; finish_switch() will do `what` with it. Returns when it runs again, with
// the thread that it then runs on. The record is filled field by field: built as a whole and
// copied, wide loads would wait for the narrow stores before them.
[[gnu::always_inline]] inline thread* switch_unwatched(thread* th, task* me, op what,
                                                       bool (*commit)(task*, void*), void* arg,
                                                       wait_reason reason) noexcept {
  if (unguarded_stacks_exist()) [[unlikely]]
    check_unguarded(me->stk, __builtin_frame_address(0));
  after_switch& after = th->after;
  after.what = what;
  after.prev = me;
  after.commit = commit;
  after.arg = arg;
  after.reason = reason;
  processor* p = th->p.load(std::memory_order_relaxed);
  context* to = &th->sched_ctx;
  task* next = p != nullptr && th->locked_task == nullptr ? pick_direct(p) : nullptr;
  if (next != nullptr && next->locked_to_thread) {
    th->picked = next;
    next = nullptr;
  }
  if (next != nullptr) {
    begin_run(th, p, next);
    to = &next->ctx;
  } else {
    th->current.store(nullptr, std::memory_order_relaxed);
  }
  th = switch_context(th, me->ctx, *to, what == op::exit);
  finish_switch(th);
  return th;
}

[[gnu::noinline]] thread* switch_watched(thread* th, task* me, op what,
                                         bool (*commit)(task*, void*), void* arg,
                                         wait_reason reason) noexcept {
  const int held = lockpark_leave(*me, what != op::exit, reason);
  th = switch_unwatched(th, me, what, commit, arg, reason);
  lockpark_resume(held);
  return th;
}

thread* switch_away(thread* th, task* me, op what, bool (*commit)(task*, void*), void* arg,
                    wait_reason reason) noexcept {
  if (g_lockpark.load(std::memory_order_acquire)) [[unlikely]]
    return switch_watched(th, me, what, commit, arg, reason);
  return switch_unwatched(th, me, what, commit, arg, reason);
}

int cached(const processor* p, stack_class cls) noexcept {
  return p->free_stack_count[static_cast<int>(cls)].load(std::memory_order_relaxed);
}
void set_cached(processor* p, stack_class cls, int n) noexcept {
  p->free_stack_count[static_cast<int>(cls)].store(n, std::memory_order_relaxed);
}

void put_stack(processor* p, stack* s) noexcept {
  if (p == nullptr) {
    release_stack(s);
    return;
  }
  // The stacks at the bottom of a busy processor's cache would never be trimmed.
  if (uint32_t now = g_stack_epoch.load(std::memory_order_relaxed); now != p->stack_epoch) {
    p->stack_epoch = now;
    release_cached_stacks(p);
  }
  auto c = static_cast<int>(s->cls);
  int count = cached(p, s->cls);
  if (count >= stack_cache_max) {
    // The older half goes back at once.
    stack* keep = p->free_stacks[c];
    for (int i = 1; i < stack_cache_max / 2; ++i) keep = keep->next;
    release_stacks(std::exchange(keep->next, nullptr));
    count = stack_cache_max / 2;
  }
  s->next = p->free_stacks[c];
  p->free_stacks[c] = s;
  set_cached(p, s->cls, count + 1);
}

stack* take_stack(processor* p, stack_class cls) noexcept {
  auto c = static_cast<int>(cls);
  stack* s = p->free_stacks[c];
  if (s == nullptr) {
    int count = 0;
    s = acquire_stacks(cls, stack_cache_max / 2, count);
    set_cached(p, cls, count);
  }
  p->free_stacks[c] = s->next;
  set_cached(p, cls, cached(p, cls) - 1);
  return s;
}

// The last act for a task that ended, on the context that came next.
void bury(thread* th, task* t) noexcept {
  processor* p = th->p.load(std::memory_order_relaxed);
  note_task_ended(t->stk, t->ctx.sp);
  put_stack(p, t->stk);
  t->stk = nullptr;
  bool system = t->system;
  change_state(*t, task_status::running, task_status::free);
  if (system) {
    g_sched.system_tasks.fetch_sub(1, std::memory_order_relaxed);
  }
  p->finished.store(p->finished.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  t->next = p->free_tasks;
  p->free_tasks = t;
  if (++p->free_task_count < task_cache_max) return;
  task* keep = p->free_tasks;
  for (int i = 1; i < task_cache_max / 2; ++i) keep = keep->next;
  task* surplus = keep->next;
  keep->next = nullptr;
  p->free_task_count = task_cache_max / 2;
  free_tasks(surplus);
}

void park_foreign(thread* th, task* t, wait_reason reason, bool (*commit)(task*, void*),
                  void* arg) noexcept {
  change_state(*t, task_status::running, task_status::waiting, reason);
  if (commit == nullptr || commit(t, arg)) {
    {
      foreign_sleep asleep(th);
      while (th->park_word.load(std::memory_order_acquire) == 0)  // [ord thread.unpark]
        base::futex_wait(th->park_word, 0, -1);
    }
    th->park_word.store(0, std::memory_order_release);  // after `asleep` is cleared: deadlock.cc, 6
  }
  change_state(*t, task_status::waiting, task_status::running);
}

void wake_sleeper(timer* t, int64_t) noexcept { ready(static_cast<task*>(t->arg)); }

bool commit_sleep(task* self, void* arg) {
  auto* t = static_cast<timer*>(arg);
  t->arg = self;
  add_timer(*t);  // the last touch: the sleeper may be awake already
  return true;
}

void sleep_foreign(task* t, int64_t when_ns) noexcept {
  change_state(*t, task_status::running, task_status::waiting, wait_reason::sleep);
  std::atomic<uint32_t> nobody_wakes{0};
  for (int64_t now = base::now_ns(); now < when_ns; now = base::now_ns())
    base::futex_wait(nobody_wakes, 0, when_ns - now);
  change_state(*t, task_status::waiting, task_status::running);
}

bool unlock_spinlock(task*, void* lock) {
  static_cast<base::spinlock*>(lock)->unlock();
  return true;
}

// The task's record is complete: from here on others may see it.
void publish(task* t) noexcept {
  change_state(*t, task_status::free, task_status::runnable);
  base::emit(base::event_kind::task_create, t->id, t->created_by);
}

bool fits_in_room(const detail::body_ops& ops) noexcept {
  return ops.size <= first_run_room && ops.align <= 16;
}

// Memory for a closure that does not fit in the record. Processors keep some blocks of the common
// size; the rest goes back at once, because a block is needed only until the first run, and there
// may be a million tasks that wait for theirs.
void* take_body_block(processor* p, const detail::body_ops& ops) {
  if (!fits_in_room(ops)) return ::operator new (ops.size, std::align_val_t{ops.align});
  if (p == nullptr || p->free_bodies == nullptr) return ::operator new(first_run_room);
  --p->free_body_count;
  return std::exchange(p->free_bodies, p->free_bodies->next);
}

void put_body_block(processor* p, void* block) noexcept {
  if (p == nullptr || p->free_body_count == body_cache_max) {
    ::operator delete(block);
    return;
  }
  ++p->free_body_count;
  p->free_bodies = new (block) body_block{p->free_bodies};
}

task* new_task(processor* p, const detail::body_ops& ops, void* callable,
               const detail::spawn_params& params, uintptr_t created_by) {
  task* t = allocate_task(p);
  t->cls = static_cast<stack_class>(params.stack_class);
  t->foreign = false;
  t->system.store(params.system, std::memory_order_relaxed);
  t->locked_to_thread = false;
  t->created_by = created_by;
  t->body = &ops;
  void* storage = t->inline_body;
  if (!fits_in_record(ops)) storage = t->heap_body = take_body_block(p, ops);
  ops.move_to(callable, storage);
  if (params.name != nullptr) t->name = ::strdup(params.name);
  if (params.system) g_sched.system_tasks.fetch_add(1, std::memory_order_relaxed);
  return t;
}

// Moves the closure to `room` on the task's own stack if it fits there, and completes the record.
// Returns where the closure is. Its move, or the destructor of what is left behind, may have
// entered the runtime, so the processor is not the caller's any more.
void* enter_body(task* me, std::byte* room) noexcept {
  const detail::body_ops& ops = *me->body;
  void* at = room;
  if (fits_in_record(ops)) {
    ops.move_to(me->inline_body, room);
    ops.destroy(me->inline_body);  // what cannot be moved was copied
  } else if (fits_in_room(ops)) {
    void* block = me->heap_body;
    ops.move_to(block, room);
    ops.destroy(block);
    put_body_block(enter()->p.load(std::memory_order_relaxed), block);
  } else {
    at = me->heap_body;
  }
  me->waits_on = nullptr;
  me->own_thread = nullptr;
  me->locals = nullptr;
  me->stk->body = at;
  return at;
}

void release_body(task* t, void* room) noexcept {
  void* at = std::exchange(t->stk->body, nullptr);
  if (at != room) ::operator delete (at, std::align_val_t{t->body->align});
  t->body = nullptr;
  if (t->name != nullptr) {
    std::free(t->name);
    t->name = nullptr;
  }
}

}  // namespace

task_hooks g_task_hooks;

size_t cached_stacks(stack_class cls) noexcept {
  int n = 0;
  for (const std::atomic<processor*>& slot : g_sched.processors) {
    const processor* p = slot.load(std::memory_order_acquire);
    if (p == nullptr) break;
    n += cached(p, cls);
  }
  return static_cast<size_t>(n);
}

void release_cached_stacks(processor* p) noexcept {
  for (int c = 0; c < stack_classes; ++c) {
    release_stacks(std::exchange(p->free_stacks[c], nullptr));
    set_cached(p, static_cast<stack_class>(c), 0);
  }
}

void finish_switch(thread* th) noexcept {
  const after_switch& a = th->after;
  const op what = a.what;
  th->after.what = op::none;
  switch (what) {
    case op::none:
      break;
    case op::park:
      change_state(*a.prev, task_status::running, task_status::waiting, a.reason);
      if (a.commit != nullptr && !a.commit(a.prev, a.arg)) {
        change_state(*a.prev, task_status::waiting, task_status::runnable);
        local_push(th->p.load(std::memory_order_relaxed), a.prev, true);
      }
      break;
    case op::yield:
      change_state(*a.prev, task_status::running, task_status::runnable);
      if (a.arg != nullptr)
        local_push(th->p.load(std::memory_order_relaxed), a.prev, false);
      else
        global_push(a.prev);
      break;
    case op::requeue:
      change_state(*a.prev, task_status::blocking, task_status::runnable);
      global_push(a.prev);
      wake_one();
      break;
    case op::exit:
      bury(th, a.prev);
      break;
  }
}

void prepare_first_run(processor* p, task* t) noexcept {
  t->stk = take_stack(p, t->cls);
  t->stk->next_trim_ns = 0;
  t->stk->trim_backoff = 0;
  t->stk->body = nullptr;
  make_context(t->ctx, t->stk->lo, t->stk->hi);
#if WEFT_TSAN
  t->ctx.tsan_fiber = t->stk->tsan_fiber;
#endif
}

task* allocate_task(processor* p) noexcept {
  task* t;
  if (p != nullptr) {
    if (p->free_tasks == nullptr)
      p->free_tasks = allocate_tasks(task_cache_batch, p->free_task_count);
    t = p->free_tasks;
    p->free_tasks = t->next;
    --p->free_task_count;
    if (p->next_id == p->last_id) {
      p->next_id = g_sched.next_task_id.fetch_add(id_batch, std::memory_order_relaxed);
      p->last_id = p->next_id + id_batch;
    }
    t->id = p->next_id++;
    p->created.store(p->created.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  } else {
    int count = 0;
    t = allocate_tasks(1, count);
    t->id = g_sched.next_task_id.fetch_add(1, std::memory_order_relaxed);
    g_sched.foreign_created.fetch_add(1, std::memory_order_relaxed);
  }
  t->next = nullptr;
  return t;
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
    begin_run(th, th->p.load(std::memory_order_relaxed), t);
    switch_context(th, th->sched_ctx, t->ctx, false);  // this context stays on its thread
    const bool locked_task_ended =
        th->locked_task != nullptr && th->after.what == after_switch::op::exit;
    finish_switch(th);
    if (locked_task_ended) break;
  }
  leave_runtime(th);
}

void park(wait_reason reason, const void* waits_on, bool (*commit)(task*, void*),
          void* arg) noexcept {
  thread* th = self();
  task* me = th->current.load(std::memory_order_relaxed);
  me->waits_on = waits_on;
  if (th->foreign) {
    park_foreign(th, me, reason, commit, arg);
    return;
  }
  switch_away(th, me, op::park, commit, arg, reason);
}

void sleep_until(int64_t when_ns) noexcept {
  thread* th = self();
  if (th->foreign) {
    sleep_foreign(th->current.load(std::memory_order_relaxed), when_ns);
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

void ready(task* t, bool next) noexcept {
  if (t->foreign) {
    thread* th = t->own_thread;
    th->park_word.store(1, std::memory_order_release);  // [ord thread.unpark]
    base::futex_wake(th->park_word, 1);
    return;
  }
  change_state(*t, task_status::waiting, task_status::runnable);
  thread* th = self();
  processor* p = th->p.load(std::memory_order_relaxed);
  if (p == nullptr) {
    global_push(t);
    wake_one();
    return;
  }
  local_push(p, t, next);
  if (!p->ring.empty() && !alone()) wake_one();
}

void start_task(void (*start)(void*), void* arg, uintptr_t created_by) noexcept {
  task* t = make_starter_task(start, arg, created_by);
  processor* p = self()->p.load(std::memory_order_relaxed);
  if (p != nullptr)
    local_push(p, t, false);
  else
    global_push(t);
  if (p == nullptr || !p->ring.empty()) wake_one();
}

void make_ready(task* t) noexcept { change_state(*t, task_status::waiting, task_status::runnable); }

thread* yield_now(thread* th) noexcept {
  if (th->foreign) {
    ::sched_yield();
    return th;
  }
  task* me = th->current.load(std::memory_order_relaxed);
  processor* p = th->p.load(std::memory_order_relaxed);
  uint32_t tick = p->tick.load(std::memory_order_relaxed) + 1;
  bool look_elsewhere = tick % fairness_period == 0 ||
                        g_sched.global_size.load(std::memory_order_relaxed) > 0 ||
                        g_sched.stop_requested.load(std::memory_order_relaxed) ||
                        p->timers.earliest() <= base::coarse_ns();
  if (!look_elsewhere && !has_local_work(p)) {
    p->tick.store(tick, std::memory_order_relaxed);
    return th;
  }
  // Go sends the yielding task to the global queue. The local tail is as fair among the tasks of
  // this processor, is stolen from like any queue, and costs a third; every 61st time the global
  // queue keeps processors even.
  void* local = look_elsewhere ? nullptr : me;
  return switch_away(th, me, op::yield, nullptr, local, wait_reason::none);
}

thread* yield_preempted(thread* th) noexcept {
  task* me = th->current.load(std::memory_order_relaxed);
  return switch_away(th, me, op::yield, nullptr, nullptr, wait_reason::none);
}

void yield_to_next() noexcept {
  thread* th = self();
  if (th->foreign) return;
  task* me = th->current.load(std::memory_order_relaxed);
  switch_away(th, me, op::yield, nullptr, me, wait_reason::none);
}

bool can_spin(int round) noexcept {
  if (round >= 4 || g_sched.running_procs.load(std::memory_order_relaxed) < 2) return false;
  processor* p = self()->p.load(std::memory_order_relaxed);
  return p != nullptr && !has_local_work(p);
}

task* make_starter_task(void (*start)(void*), void* arg, uintptr_t created_by) noexcept {
  struct starter {
    void (*start)(void*);
    void* arg;
    void operator()() const { start(arg); }
  } body{start, arg};
  task* t = new_task(self()->p.load(std::memory_order_relaxed), detail::body_ops_for<starter>,
                     &body, {}, created_by);
  t->parent_id = 0;
  publish(t);
  return t;
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

extern "C" void weft_task_main() {
  using namespace weft::sched;
  alignas(16) std::byte room[first_run_room];
  {
    thread* th = self();
    task* me = th->current.load(std::memory_order_relaxed);
    context_started(th, me->ctx);
    finish_switch(th);
    void* body = enter_body(me, room);
    leave();
    me->body->invoke(body);
    // In this order: the values of a dying context may make task-locals.
    if (me->run_context != nullptr && g_task_hooks.leaving != nullptr) g_task_hooks.leaving();
    if (me->locals != nullptr) me->locals->destroy_all(*me);
  }
  thread* th = enter();
  task* me = th->current.load(std::memory_order_relaxed);
  release_body(me, room);
  if (g_task_hooks.ended != nullptr) g_task_hooks.ended(*me);
  switch_away(th, me, op::exit, nullptr, nullptr, wait_reason::none);
  __builtin_unreachable();
}

namespace weft::detail {

[[gnu::noinline]] void spawn_task(const body_ops& ops, void* callable, const spawn_params& params) {
  using namespace weft::sched;
  auto created_by = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  thread* th = enter();
  processor* p = th->p.load(std::memory_order_relaxed);
  task* parent = th->current.load(std::memory_order_relaxed);
  task* t = new_task(p, ops, callable, params, created_by);
  if (params.main && g_sched.main_id_free.exchange(false, std::memory_order_relaxed)) t->id = 1;
  t->parent_id = th->foreign || params.main ? 0 : parent->id;
  if (params.main) t->created_by = 0;
  if (g_task_hooks.created != nullptr) g_task_hooks.created(*parent, *t);
  publish(t);
  if (p != nullptr) {
    local_push(p, t, true);
    if (!p->ring.empty() && !alone()) wake_one();
  } else {
    global_push(t);
    wake_one();
  }
  leave(th);
}

}  // namespace weft::detail
