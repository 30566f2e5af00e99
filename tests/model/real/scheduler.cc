// Stands in for what the code under test needs of the scheduler: tasks, park and ready on the
// explorer's actors, one processor whose heap holds all timers, and for retake.cc the processor's
// way from hand to hand. Whoever compiles another source into the model adds here what it calls.
#include <weft/detail/schedule_point.h>
#include <weft/detail/spawn.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/events.h"
#include "base/futex.h"
#include "runtime/task_locals.h"
#include "scheduler/directed.h"
#include "scheduler/fork.h"
#include "scheduler/park.h"
#include "scheduler/runtime_control.h"
#include "scheduler/thread_signal.h"
#include "scheduler/wait_watch.h"
#include "scheduler/world_stop.h"
#include "tests/model/real/actors.h"

namespace weft::base {

std::atomic<int64_t> g_fake_ns{1};
std::atomic<int64_t> g_coarse_ns{1};
namespace detail {
std::atomic<uint32_t> g_event_mask{0};
void emit_slow(event_kind, uint64_t, uint64_t) noexcept {}
}  // namespace detail

void check_failed(const char* expression, const char*, int) noexcept {
  model::violation(expression);
}
void fatal(const char* message) noexcept { model::violation(message); }
void fatalf(const char* format, ...) noexcept { model::violation(format); }
void log_line(const char*, ...) noexcept {}
bool futex_wait(std::atomic<uint32_t>&, uint32_t, int64_t) noexcept { std::abort(); }
void futex_wake(std::atomic<uint32_t>&, int) noexcept { std::abort(); }

}  // namespace weft::base

namespace weft {
namespace detail {
std::atomic<bool> g_directed_world{false};
void schedule_point_slow() noexcept {}
void destroy_task_locals() noexcept {}

void spawn_task(const body_ops& ops, void* callable, const spawn_params&) {
  void* body = ::operator new(ops.size);
  ops.move_to(callable, body);
  model::start_task([&ops, body] { ops.invoke(body); });
}
}  // namespace detail

namespace sched {

scheduler g_sched;
thread g_unattached("unattached", -1);
task_hooks g_task_hooks;

// Nobody watches waits.
std::atomic<uint64_t> g_exact_waits{0};
std::atomic<int64_t> g_wait_grid{0};
std::atomic<uint64_t> g_watched_wakes{0};
int64_t watched_wake_ns(task&, task_status, wait_reason) noexcept { std::abort(); }
int64_t thread_cpu_ns() noexcept { return 0; }
int64_t thread_cpu_ns(int) noexcept { return 0; }
void back_from_blocking(task&, int64_t, int64_t, int64_t) noexcept { std::abort(); }

thread* self() noexcept { return model::own_thread(); }
void attach_foreign(const char*) noexcept { std::abort(); }

thread* park(thread* th, wait_reason reason, const void* waits_on, bool (*commit)(task*, void*),
             void* arg) noexcept {
  task* me = model::current_actor()->task;
  me->waits_on = waits_on;
  model::leave_for_commit(reason, commit, arg);
  change_state(*me, task_status::runnable, task_status::running);
  model::note("goes on");
  if (model::time_passes() && model::choose(2) == 1)
    base::g_fake_ns = base::g_fake_ns.peek() + 2'000'000;
  return th;
}

void ready(thread*, task* t, bool) noexcept {
  model::note("readies task at %p", static_cast<void*>(t));
  change_state(*t, task_status::waiting, task_status::runnable);
}

// The timer lies in the sleeper's frame; whoever fires it does not touch it after ready().
void sleep_until(int64_t when_ns) noexcept {
  timer t;
  t.when_ns = when_ns;
  t.fire = [](timer* of, int64_t) noexcept { ready(static_cast<task*>(of->arg), false); };
  auto commit = [](task* sleeper, void* arg) {
    auto* of = static_cast<timer*>(arg);
    of->arg = sleeper;
    add_timer(*of);
    return true;
  };
  park(wait_reason::sleep, nullptr, commit, &t);
}

void start_task(void (*start)(void*), void* arg, uintptr_t) noexcept {
  model::start_task([=] { start(arg); });
}

thread* yield_now(thread* th) noexcept {
  model::give_way_while_unchanged();
  return th;
}
void yield_to_next() noexcept { model::give_way(); }
bool can_spin(int round) noexcept { return round < 1; }
uint32_t next_random_number() noexcept { return model::choose(2) == 0 ? 0x2545f491u : 0x9e3779b9u; }

processor* processor_for_timers() noexcept { return &model::the_processor(); }
void timer_added(int64_t) noexcept {}

void set_task_name(task&, char*) noexcept { std::abort(); }
int64_t live_tasks() noexcept { return 0; }
int current_max_procs() noexcept { return 1; }
void resize(int) noexcept { std::abort(); }
int thread_limit() noexcept { return 1; }
void set_thread_limit(int) noexcept { std::abort(); }
void lock_thread() noexcept { std::abort(); }
void unlock_thread() noexcept { std::abort(); }

// Retake: a processor that nobody has is in idle_processors. A thread that finds none waits here,
// where the runtime would queue its task.
void acquire(thread* th, processor* p) noexcept {
  p->owner = th;
  p->tick = p->tick.load() + 1;
  th->p = p;
}

processor* release(thread* th) noexcept {
  processor* p = th->p.load();
  th->p = nullptr;
  p->owner = nullptr;
  return p;
}

void hand_off(processor* p) noexcept {
  std::lock_guard hold(g_sched.lock);
  g_sched.idle_processors = p;
}

processor* take_idle_processor() noexcept {
  while (g_sched.idle_processors == nullptr) {
    g_sched.lock.unlock();
    model::wait_until([] { return g_sched.idle_processors != nullptr; });
    g_sched.lock.lock();
  }
  return std::exchange(g_sched.idle_processors, nullptr);
}

void finish_switch(thread*) noexcept { std::abort(); }
thread* yield_preempted(thread* th) noexcept {
  model::give_way();
  return th;
}
void refuse_in_forked_child() noexcept {}
// No collector is at work in the model.
std::atomic<uint32_t> g_gate{0};
void stop_here(thread*) noexcept {}
void send_gathered(thread*) noexcept { std::abort(); }
void for_each_thread(void (*)(thread*, void*), void*) noexcept { std::abort(); }
void begin_rest(thread*) noexcept {}
void end_rest(thread*) noexcept {}

// Where membarrier is missing. The explorer's memory is sequentially consistent.
void install_thread_signal() noexcept {}
bool fence_by_signal(thread&, int64_t, bool (*)(const thread&)) noexcept { return true; }
thread* directed_point(thread* th) noexcept { return th; }

}  // namespace sched
}  // namespace weft
