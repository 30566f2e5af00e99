// Starting, stopping and resizing the scheduler.
#include <mutex>
#include <thread>

#include "base/check.h"
#include "base/futex.h"
#include "scheduler/caches.h"
#include "scheduler/detectors.h"
#include "scheduler/directed.h"
#include "scheduler/fork.h"
#include "scheduler/park.h"
#include "scheduler/queues.h"
#include "scheduler/runtime_control.h"
#include "scheduler/schedtrace.h"
#include "scheduler/scheduler.h"

namespace weft::sched {
namespace {

std::mutex g_control;  // one start, stop or resize at a time; never held by a running task's code
std::atomic<bool> g_started{false};
std::atomic<bool> g_follow_machine{false};
report_port g_report_port;

// The poller of a program that uses no descriptors: it waits and is woken.
class plain_waiter final : public poller {
 public:
  void poll(int64_t timeout_ns, task_list&) noexcept override {
    if (timeout_ns == 0) return;
    if (word_.load(std::memory_order_acquire) == 0) base::futex_wait(word_, 0, timeout_ns);
    word_.store(0, std::memory_order_release);
  }
  void wake() noexcept override {
    word_.store(1, std::memory_order_release);
    base::futex_wake(word_, 1);
  }
  bool has_waiters() const noexcept override { return false; }
  const char* name() const noexcept override { return "none"; }

 private:
  std::atomic<uint32_t> word_{0};
};

// Never destroyed: threads use it until the process has ended.
plain_waiter& the_plain_waiter() noexcept {
  static auto* const waiter = new plain_waiter;
  return *waiter;
}

void make_processors(int upto) noexcept {
  for (int i = 0; i < upto; ++i) {
    if (g_sched.processors[i] != nullptr) continue;
    auto* p = new processor;
    p->id = i;
    g_sched.processors[i] = p;
  }
}

int count_unstopped(const processor* except) noexcept {
  int n = 0;
  for (int i = 0; i < g_sched.max_procs.load(); ++i) {
    processor* p = g_sched.processors[i];
    if (p != except && p->status.load(std::memory_order_acquire) != processor_status::stopped) ++n;
  }
  return n;
}

// What a start needs, and a timer before it: one processor, stopped, and the monitor. Under
// g_control.
void prepare() noexcept {
  if (g_sched.max_procs.load() > 0) return;
  if (g_sched.io.load() == nullptr) g_sched.io.store(&the_plain_waiter());
  g_sched.stop_requested.store(true);
  base::now_refresh();
  make_processors(1);
  g_sched.max_procs.store(1);
  watch_forks();
  start_monitor();
  start_trimmer();
}

// Waits until no processor but `mine` runs tasks. Tasks that do not call the runtime lose theirs.
void stop_world(processor* mine) noexcept {
  {
    std::lock_guard hold(g_sched.lock);
    g_sched.stop_requested.store(true, std::memory_order_seq_cst);
    while (processor* p = take_idle_processor())
      p->status.store(processor_status::stopped, std::memory_order_release);
  }
  for (int round = 0; count_unstopped(mine) > 0; ++round) {
    if (round > 20) {
      for (int i = 0; i < g_sched.max_procs.load(); ++i) {
        processor* p = g_sched.processors[i];
        if (p == mine || p->status.load() != processor_status::running) continue;
        if (retake(p, p->tick.load(std::memory_order_relaxed)))
          p->status.store(processor_status::stopped, std::memory_order_release);
      }
      timespec pause{0, 50'000};
      ::nanosleep(&pause, nullptr);
    } else {
      ::sched_yield();
    }
  }
}

void start_world() noexcept {
  int n = g_sched.max_procs.load();
  processor* busy[max_processors];
  int busy_count = 0;
  {
    std::lock_guard hold(g_sched.lock);
    g_sched.stop_requested.store(false, std::memory_order_seq_cst);
    for (int i = n; i-- > 0;) {
      processor* p = g_sched.processors[i];
      if (p->status.load() != processor_status::stopped) continue;
      if (has_local_work(p) || p->timers.earliest() != never_ns) {
        p->status.store(processor_status::running);  // handed to a thread below
        busy[busy_count++] = p;
      } else {
        put_idle_processor(p);
      }
    }
  }
  for (int i = 0; i < busy_count; ++i) start_thread_for(busy[i], false);
  if (any_queued_work()) wake_one();
  // A thread that waits in the poller read the timers before, or while, they moved to other
  // processors.
  if (g_sched.last_poll_ns.load() == 0) g_sched.io.load()->wake();
}

// A processor beyond the new limit gives away what it holds.
void retire(processor* p, processor* heir) noexcept {
  task_list list;
  while (task* t = local_pop(p)) list.push_back(t);
  global_push_list(list);
  {
    std::scoped_lock hold(p->timers.lock, heir->timers.lock);
    while (timer* t = p->timers.pop_any()) heir->timers.insert(t, heir);
  }
  free_tasks(p->free_tasks);
  p->free_tasks = nullptr;
  p->free_task_count = 0;
  release_cached_stacks(p);
}

// World stopped; `mine` is the caller's own processor and stays.
void set_processor_count(int procs, processor* mine) noexcept {
  int old = g_sched.max_procs.load();
  make_processors(procs);
  if (mine != nullptr && mine->id >= procs) {
    processor* other = g_sched.processors[0];
    g_sched.processors[mine->id] = other;
    g_sched.processors[0] = mine;
    std::swap(mine->id, other->id);
  }
  for (int i = procs; i < old; ++i) retire(g_sched.processors[i], g_sched.processors[0]);
  g_sched.max_procs.store(procs);
}

}  // namespace

bool stop_processor_if_requested(processor* p) noexcept {
  std::lock_guard hold(g_sched.lock);
  if (!g_sched.stop_requested.load(std::memory_order_relaxed)) return false;
  p->status.store(processor_status::stopped, std::memory_order_release);
  return true;
}

void set_poller(poller* p) noexcept {
  g_sched.io.store(p, std::memory_order_seq_cst);
  the_plain_waiter().wake();  // the thread that waits there goes on in the new one
}

void set_report_port(const report_port& port) noexcept { g_report_port = port; }
const report_port& current_report_port() noexcept { return g_report_port; }

processor* processor_for_timers() noexcept {
  processor* p = self()->p.load(std::memory_order_relaxed);
  if (p == nullptr) p = g_sched.processors[0].load(std::memory_order_acquire);
  if (p != nullptr) return p;
  // A thread waits with a time limit before the first run().
  std::lock_guard control(g_control);
  prepare();
  return g_sched.processors[0];
}

void timer_added(int64_t when_ns) noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);  // [ord poll.until]
  if (g_sched.stop_requested.load(std::memory_order_seq_cst)) {
    wake_monitor();
  } else if (g_sched.last_poll_ns.load(std::memory_order_seq_cst) == 0) {
    if (when_ns < g_sched.poll_until_ns.load(std::memory_order_seq_cst))
      g_sched.io.load(std::memory_order_relaxed)->wake();
  } else if (self()->p.load(std::memory_order_relaxed) == nullptr) {
    wake_one();  // nobody waits in the poller and this thread will not look at the timers
  }
}

void start(int procs, directed_world* world) noexcept {
  std::lock_guard control(g_control);
  if (g_started.load() && !g_sched.stop_requested.load()) return;
  prepare();
  set_processor_count(procs, nullptr);
  if (!g_started.exchange(true)) {
    start_schedtrace();
    start_detectors();
  }
  if (world != nullptr) enter_directed(*world);
  start_world();
}

void stop() noexcept {
  std::lock_guard control(g_control);
  if (!started()) return;
  stop_world(nullptr);
  if (directed()) leave_directed();
  wake_monitor();  // it cares for timers from now on
}

bool started() noexcept { return g_started.load() && !g_sched.stop_requested.load(); }

int current_max_procs() noexcept { return g_sched.max_procs.load(std::memory_order_relaxed); }

namespace {
// From a task, a foreign thread or the monitor.
void change_processor_count(int procs) noexcept {
  // A task must not sleep on a std::mutex that another task of the same P might hold; it tries and
  // yields.
  enter();
  while (!g_control.try_lock()) yield_now();
  if (started() && procs != current_max_procs() && !directed()) {
    processor* mine = self()->p.load(std::memory_order_relaxed);
    stop_world(mine);
    set_processor_count(procs, mine);
    start_world();
  }
  g_control.unlock();
  leave();
}
}  // namespace

void resize(int procs) noexcept {
  g_follow_machine.store(false);
  change_processor_count(procs);
}

void follow_machine(bool follow) noexcept { g_follow_machine.store(follow); }

void follow_machine_now() noexcept {
  if (!g_follow_machine.load(std::memory_order_relaxed)) return;
  int procs = default_max_procs();
  if (procs != current_max_procs()) change_processor_count(procs);
}

}  // namespace weft::sched
