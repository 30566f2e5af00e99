// Directed execution: the same scheduler, with its choices taken from a seed.
//
// Shape      One processor, never idle while the world lives, so one task executes at a time. Every
//            switch goes through find_work(), where directed_find() gathers all runnable tasks in
//            the global queue and draws one. Its thread's steal word then makes each enter() a
//            point at which the task may have to yield, so a switch may come at any call into the
//            runtime and nowhere else. Off, all of it costs what it cost before: enter() tests the
//            steal word anyway, and find_work() is not the fast path.
// Time       base::now_ns() reads a variable. It moves to the earliest timer when every task of the
//            world is durably blocked: waits for something that only another task or a timer can
//            end. Waiting for a descriptor, a blocking call, and a foreign thread that used the
//            runtime during the world are not durable; while there is one, the clock stands still
//            and the processor's holder looks again every 50 microseconds of true time.
// Seeds      All draws come from one generator that only the processor's holder uses; the thread's
//            own, from which select and the locks draw, is seeded anew at each switch. Nothing else
//            may decide: the processor's counters start at zero, ids are handed out in one
//            sequence, and no processor is retaken.
// Strangers  Tasks and timers from before the world are put aside and come back after it; one that
//            becomes runnable meanwhile (an id below first_id) is put aside as well. Tasks that the
//            world leaves waiting stay for ever, as after weft::run; their timers never fire.
// Not done   A scheduler of its own for tests: it would test itself. Fake time per group of tasks
//            as in Go's synctest: there, tasks inside and outside share processors, so a schedule
//            cannot be replayed.
#include "scheduler/directed.h"

#include <weft/detail/schedule_point.h>

#include <ctime>
#include <mutex>

#include "base/clock.h"
#include "scheduler/park.h"
#include "scheduler/queues.h"
#include "scheduler/scheduler.h"

namespace weft::detail {
namespace {
bool g_no_short_ways = false;  // written before the first task
}
}  // namespace weft::detail

namespace weft::sched {

std::atomic<directed_world*> g_directed{nullptr};
std::atomic<int> g_outside_work{0};

namespace {

using ending = directed_world::ending;

constexpr int64_t look_again_ns = 50'000;
constexpr uint64_t poll_period = 64;
constexpr int64_t stuck_ns = 10'000'000'000;

// A tick at which scheduler.cc looks elsewhere instead of switching directly; begin_run() adds one.
constexpr uint32_t tick_before_fairness = 60;

// What the process did before the world, while the world runs; and what worlds left behind. Timers
// find their way through timer::home.
processor* g_aside = nullptr;
processor* g_abandoned = nullptr;
task_list g_strangers;        // scheduler lock
task_list g_abandoned_tasks;  // scheduler lock
bool g_main_id_was_free = false;

// splitmix64
uint64_t draw(directed_world& w) noexcept {
  uint64_t x = w.random += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

void note(directed_world& w, uint64_t value) noexcept {
  w.fingerprint = (w.fingerprint ^ value) * 0x100000001b3;
  w.fingerprint ^= w.fingerprint >> 29;
}

void set_clock(directed_world& w, int64_t ns) noexcept {
  w.clock_ns = ns;
  base::g_fake_ns.store(ns, std::memory_order_relaxed);
  base::g_coarse_ns.store(ns, std::memory_order_relaxed);
}

void move_timers(processor* from, processor* to) noexcept {
  std::scoped_lock hold(from->timers.lock, to->timers.lock);
  while (timer* t = from->timers.pop_any()) to->timers.insert(t, to);
}

// Everything runnable, in a fixed order.
void gather(processor* p) noexcept {
  task_list list;
  while (task* t = local_pop(p)) list.push_back(t);
  global_push_list(list);
}

void take_all_queued(processor* p, task_list& into) noexcept {
  gather(p);
  std::lock_guard hold(g_sched.lock);
  into.append(g_sched.global);
  g_sched.global_size.store(0, std::memory_order_relaxed);
}

// One of the runnable tasks, each as likely as any other.
task* draw_task(directed_world& w) noexcept {
  std::lock_guard hold(g_sched.lock);
  task_list& queue = g_sched.global;
  for (size_t i = queue.size(); i > 0; --i) {
    task* t = queue.pop_front();
    if (t->id > w.first_id || t == w.supervisor) {
      queue.push_back(t);
    } else {
      g_strangers.push_back(t);
      g_sched.global_size.fetch_sub(1, std::memory_order_relaxed);
    }
  }
  const size_t n = queue.size();
  if (n == 0) return nullptr;
  const size_t chosen = draw(w) % n;
  task* result = nullptr;
  for (size_t i = 0; i < n; ++i) {
    task* t = queue.pop_front();
    if (i == chosen)
      result = t;
    else
      queue.push_back(t);
  }
  g_sched.global_size.fetch_sub(1, std::memory_order_release);  // [ord global.size]
  return result;
}

struct census {
  bool moving = false;  // something is not durably blocked
  int blocking = 0;     // tasks in blocking calls
  int tasks = 0;        // of the user's, not ended
};

census count(const directed_world& w) noexcept {
  census c;
  for_each_directed_task(
      w,
      [](task& t, void* arg) {
        auto* to = static_cast<census*>(arg);
        const uint32_t word = t.state.load(std::memory_order_acquire);
        const task_status s = status_of(word);
        const bool system = t.system.load(std::memory_order_relaxed);
        if (s == task_status::free) return;
        if (s != task_status::waiting)
          to->moving = true;
        else if (reason_of(word) == wait_reason::io_wait && !system)
          to->moving = true;
        if (s == task_status::blocking) ++to->blocking;
        if (!t.foreign && !system) ++to->tasks;
      },
      &c);
  // [ord test.outside]
  if (g_outside_work.load(std::memory_order_acquire) > 0) c.moving = true;
  return c;
}

void poll(directed_world&) noexcept {
  poller* io = g_sched.io.load(std::memory_order_acquire);
  if (io == nullptr || !io->has_waiters()) return;
  task_list list;
  io->poll(0, list);
  global_push_list(list);
}

void pause_briefly(directed_world& w) noexcept {
  w.waits_outside.store(true, std::memory_order_relaxed);
  timespec pause{0, look_again_ns};
  ::nanosleep(&pause, nullptr);
  w.waits_outside.store(false, std::memory_order_relaxed);
}

// The supervisor becomes runnable and is the next to run.
task* finish(directed_world& w, ending how) noexcept {
  w.end = how;
  make_ready(w.supervisor);
  return w.supervisor;
}

task* chosen(directed_world& w, thread* th, processor* p, task* t) noexcept {
  p->tick.store(tick_before_fairness, std::memory_order_relaxed);
  if (t == w.supervisor || w.supervisor == nullptr) {
    th->steal.store(0, std::memory_order_relaxed);
    return t;
  }
  const uint64_t number = w.number_of(*t);
  note(w, number);
  if (w.keep_schedule) w.schedule.push_back(static_cast<uint32_t>(number));
  w.steps.fetch_add(1, std::memory_order_relaxed);
  thread* on = t->locked_to_thread && t->own_thread != nullptr ? t->own_thread : th;
  on->rng = static_cast<uint32_t>(draw(w)) | 1u;
  on->steal.store(steal_directed, std::memory_order_relaxed);
  return t;
}

bool too_many_steps(const directed_world& w) noexcept {
  return w.max_steps != 0 && w.steps.load(std::memory_order_relaxed) > w.max_steps;
}

}  // namespace

void enter_directed(directed_world& w) noexcept {
  if (g_aside == nullptr) {
    g_aside = new processor;
    g_abandoned = new processor;
  }
  processor* p = g_sched.processors[0];
  move_timers(p, g_aside);
  take_all_queued(p, g_strangers);
  p->tick.store(0, std::memory_order_relaxed);
  p->next_streak = 0;
  p->next_id = p->last_id = 0;
  w.first_id = g_sched.next_task_id.load(std::memory_order_relaxed) - 1;
  g_main_id_was_free = g_sched.main_id_free.exchange(false, std::memory_order_relaxed);
  w.random = w.seed.load(std::memory_order_relaxed);
  // Some schedules with long stretches, some with a switch at every second call.
  w.yield_odds = UINT32_MAX >> (1 + draw(w) % 4);
  set_clock(w, directed_start_ns);
  g_directed.store(&w, std::memory_order_release);
  weft::detail::g_directed_world.store(true, std::memory_order_relaxed);
}

void leave_directed() noexcept {
  weft::detail::g_directed_world.store(weft::detail::g_no_short_ways, std::memory_order_relaxed);
  g_directed.store(nullptr, std::memory_order_release);
  base::g_fake_ns.store(0, std::memory_order_relaxed);
  base::now_refresh();
  int64_t last = g_sched.last_poll_ns.load(std::memory_order_relaxed);
  if (last != 0) g_sched.last_poll_ns.compare_exchange_strong(last, base::coarse_ns());
  g_sched.main_id_free.store(g_main_id_was_free, std::memory_order_relaxed);
  processor* p = g_sched.processors[0];
  move_timers(p, g_abandoned);
  take_all_queued(p, g_abandoned_tasks);
  move_timers(g_aside, p);
  task_list back;
  {
    std::lock_guard hold(g_sched.lock);
    back.append(g_strangers);
  }
  global_push_list(back);
}

void run_directed(directed_world& w, void (*first)(void*), void* arg) noexcept {
  enter();
  thread* th = self();
  task* me = th->current.load(std::memory_order_relaxed);
  // The runtime's own: neither counted nor shown as a task of the user's.
  me->system.store(true, std::memory_order_relaxed);
  g_sched.system_tasks.fetch_add(1, std::memory_order_relaxed);
  w.supervisor = me;
  processor* p = th->p.load(std::memory_order_relaxed);
  p->next_id = p->last_id = 0;
  w.first_id = g_sched.next_task_id.load(std::memory_order_relaxed) - 1;
  leave();
  first(arg);
  enter();
  park(wait_reason::test_run, nullptr, nullptr, nullptr);
  leave();
}

void directed_main_done() noexcept {
  critical in_runtime;
  g_directed.load(std::memory_order_relaxed)->main_done = true;
}

bool wait_until_blocked() noexcept {
  critical in_runtime;
  directed_world* w = g_directed.load(std::memory_order_relaxed);
  if (w->waiter != nullptr) return false;
  w->waiter = current_task();
  park(wait_reason::test_wait, nullptr, nullptr, nullptr);
  return true;
}

bool in_directed_world() noexcept {
  critical in_runtime;
  const directed_world* w = g_directed.load(std::memory_order_acquire);
  const task* me = current_task();
  return w != nullptr && w->supervisor != nullptr && !me->foreign && me->id > w->first_id;
}

void for_each_directed_task(const directed_world& w, void (*visit)(task&, void*), void* arg) {
  struct filter {
    const directed_world& w;
    void (*visit)(task&, void*);
    void* arg;
  } f{w, visit, arg};
  for_each_task(
      [](task& t, void* of) {
        auto* to = static_cast<filter*>(of);
        if (t.id > to->w.first_id && &t != to->w.supervisor) to->visit(t, to->arg);
      },
      &f);
}

task* directed_find(directed_world& w, thread* th, processor* p) noexcept {
  th->steal.store(0, std::memory_order_relaxed);
  for (;;) {
    if (g_sched.stop_requested.load(std::memory_order_seq_cst)) return nullptr;
    if (w.end != ending::none) {  // the supervisor has gone; whoever started the world will stop it
      pause_briefly(w);
      continue;
    }
    base::g_coarse_ns.store(w.clock_ns, std::memory_order_relaxed);
    run_due_timers(p, w.clock_ns);
    if (w.steps.load(std::memory_order_relaxed) % poll_period == 0) poll(w);
    gather(p);
    const bool limit = too_many_steps(w);
    if (task* t = limit ? nullptr : draw_task(w)) return chosen(w, th, p, t);
    if (w.supervisor == nullptr) {  // not spawned yet
      pause_briefly(w);
      continue;
    }
    // Counted first and gathered again then: what was moving may have become runnable in between.
    const census c = count(w);
    poll(w);
    gather(p);
    if (limit) {
      if (c.blocking == 0) return chosen(w, th, p, finish(w, ending::too_many_steps));
      pause_briefly(w);  // they would come back into another world
      continue;
    }
    if (g_sched.global_size.load(std::memory_order_relaxed) > 0) continue;
    if (c.moving) {
      pause_briefly(w);
      continue;
    }
    if (w.waiter != nullptr) {
      task* t = w.waiter;
      w.waiter = nullptr;
      ready(t);
      continue;
    }
    if (w.main_done) {
      const ending how = c.tasks == 0 ? ending::finished : ending::tasks_left;
      return chosen(w, th, p, finish(w, how));
    }
    const int64_t next = p->timers.earliest();
    if (next == never_ns) return chosen(w, th, p, finish(w, ending::deadlock));
    set_clock(w, next);
    note(w, static_cast<uint64_t>(next));
  }
}

thread* directed_point(thread* th) noexcept {
  directed_world* w = g_directed.load(std::memory_order_acquire);
  const task* me = th->current.load(std::memory_order_relaxed);
  processor* p = th->p.load(std::memory_order_relaxed);
  if (w == nullptr) {
    th->steal.store(0, std::memory_order_relaxed);
    return th;
  }
  if (me == nullptr || me == w->supervisor || p == nullptr) return th;
  // yield_now() counts ticks when it finds nothing to yield to.
  p->tick.store(tick_before_fairness + 1, std::memory_order_relaxed);
  w->steps.fetch_add(1, std::memory_order_relaxed);
  if (static_cast<uint32_t>(draw(*w)) >= w->yield_odds && !too_many_steps(*w)) return th;
  yield_to_next();
  return self();
}

// Called by the monitor alone.
void watch_directed() noexcept {
  static const directed_world* seen_world = nullptr;
  static uint64_t seen_steps = 0;
  static int64_t since = 0;
  directed_world* w = g_directed.load(std::memory_order_acquire);
  if (w == nullptr) return;
  const uint64_t steps = w->steps.load(std::memory_order_relaxed);
  const int64_t now = base::true_now_ns();
  if (w != seen_world || steps != seen_steps || w->waits_outside.load(std::memory_order_relaxed)) {
    seen_world = w;
    seen_steps = steps;
    since = now;
    return;
  }
  if (now - since < stuck_ns) return;
  since = now;
  base::log_line(
      "weft::test: a task has run for 10 s without calling the runtime, and nothing else can "
      "(seed %llu); it loops, or waits for another task by other means than weft's",
      static_cast<unsigned long long>(w->seed.load(std::memory_order_relaxed)));
}

}  // namespace weft::sched

namespace weft::detail {

std::atomic<bool> g_directed_world{false};

void schedule_point_slow() noexcept { sched::critical in_runtime; }

void never_take_short_ways() noexcept {
  g_no_short_ways = true;
  g_directed_world.store(true, std::memory_order_relaxed);
}

}  // namespace weft::detail
