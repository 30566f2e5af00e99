// The collector's thread. It holds no processor, executes no task code, and is never stopped; it is
// the one that stops the others. Order of a cycle, with gc/heap.cc's invariants:
//
//   1 sweep what the last cycle left [G5]
//   2 stop the world. Take back all runs, begin a new epoch, scan the stacks and registers of what
//     runs, turn marking on. Go on.
//   3 scan the stacks of what does not run, roots, globals; then the graph. Take what stores have
//     greyed, until there is nothing.
//   4 stop the world. Scan the running stacks again [G4]; if that has found much, go back to 3,
//   three
//     times at most, else finish here. Turn marking off, take back the runs.
//   5 sweep, while others run and sweep what they need.
//
// WEFT_GC=stw does 3 inside 2, and is the reference that the rest is compared with.
#include "gc/cycle.h"

#include <pthread.h>
#include <time.h>
#include <weft/gc/gc.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>

#include "base/alloc_sampling.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/futex.h"
#include "base/kernel_slice.h"
#include "gc/barrier.h"
#include "gc/cycle_record.h"
#include "gc/ephemerons.h"
#include "gc/give_way.h"
#include "gc/heap.h"
#include "gc/mark.h"
#include "gc/pacing.h"
#include "gc/page_heap.h"
#include "gc/reaper.h"
#include "gc/roots.h"
#include "gc/scavenge.h"
#include "gc/specials.h"
#include "gc/stacks.h"
#include "gc/stress.h"
#include "gc/sweep.h"
#include "gc/verify.h"
#include "gc/weak.h"
#include "scheduler/deadlock.h"
#include "scheduler/directed.h"
#include "scheduler/fork.h"
#include "scheduler/park.h"
#include "scheduler/runtime_control.h"
#include "scheduler/world_stop.h"

namespace weft::gc {
namespace {

// While it stops the world the collector must not wait behind other programs for the rest of their
// 4 ms, with all tasks waiting for it.
constexpr uint64_t collector_slice_ns = 100'000;
constexpr int64_t stop_patience_ns = 1'000'000;  // at first
constexpr int64_t most_patience_ns = 64'000'000;
constexpr int64_t longest_nap_ns = 10'000'000;
constexpr int64_t forced_cycle_ns = 120'000'000'000;
constexpr int most_returns = 3;  // from 4 to 3
constexpr size_t sweep_batch = 64;
constexpr size_t mark_batch = size_t{128} << 10;  // bytes, between two looks at the pacer

struct waiter {
  sched::task* t;
  uint64_t cycle;
  bool sweep;  // until it has ended, too
  waiter* next;
};

base::spinlock g_lock;   // guards what follows, and the waiters
uint64_t g_started = 0;  // cycles
uint64_t g_ended = 0;
uint64_t g_wanted = 0;  // number of the cycle that collect() asks for
waiter* g_waiters = nullptr;

std::atomic<bool> g_due{false};
std::atomic<phase> g_phase{phase::off};
sched::thread* g_collector = nullptr;

// Written by the collector, and by tasks that wait; read by anyone.
struct {
  std::atomic<uint64_t> forced{0}, marked{0}, pause_total{0}, cpu{0}, retries{0};
  std::atomic<uint64_t> assist_waits{0}, assist_wait_ns{0};
  std::atomic<uint64_t> pause[2];
} g_stats;

int64_t cpu_ns() noexcept {
  timespec t;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

void wake_collector() noexcept {
  sched::thread* th = g_collector;
  // Not asleep from here on, for who looks for deadlocks.
  th->park_word.store(1, std::memory_order_release);
  base::futex_wake(th->park_word, 1);
}

void stop_world() noexcept {
  // On a machine with more to do than processors it may take longer until each thread has been on
  // one: the next attempt is given more time than the one that failed.
  int64_t patience = stop_patience_ns;
  for (int64_t nap = 100'000; !sched::stop_all_code(patience);
       nap = std::min(nap * 2, longest_nap_ns)) {
    patience = std::min(patience * 2, most_patience_ns);
    g_stats.retries.fetch_add(1, std::memory_order_relaxed);
    timespec pause{0, nap};
    ::nanosleep(&pause, nullptr);
  }
}

void finish_sweep() noexcept {
  while (sweep_some(sweep_batch)) give_way();
  // What allocating threads have in hand is swept in a moment.
  while (!all_swept()) ::sched_yield();
}

void mark_rest(marker& m) noexcept {
  mark_parked_tasks(m, false);
  mark_roots(m);
}

// Until nothing is left that anybody has told of.
void drain(marker& m) noexcept {
  do {
    while (!m.drain(mark_batch, false)) {
      pacing_progress(m.scanned_bytes(), cpu_ns());
      give_way();
    }
  } while (take_greys() || shared_work() || mark_ephemerons(m));
}

class one_cycle {
 public:
  one_cycle(uint64_t number, bool forced) noexcept {
    record_.number = number;
    record_.forced = forced;
  }

  void run() noexcept {
    const int64_t cpu = cpu_ns();
    finish_sweep();
    record_.began_ns = base::true_now_ns();
    record_.processors = std::max(1, sched::current_max_procs());
    begin();
    if (g_options.stop_the_world) {
      mark_rest(*marker_);
      drain(*marker_);
    } else {
      end_pause(0, sched::gate_scan);
      mark_rest(*marker_);
      drain(*marker_);
      for (int returns = 0;; ++returns) {
        begin_pause();
        if (!g_options.skip_rescan) mark_stopped_threads(*marker_);
        if (g_options.paranoid) mark_parked_tasks(*marker_, true);
        take_greys();
        if (returns == most_returns || marker_->drain(size_t{256} << 10, false)) break;
        end_pause(1, sched::gate_scan);
        drain(*marker_);
      }
      drain(*marker_);
    }
    finish();
    record_.collector_ns = cpu_ns() - cpu;
    g_stats.cpu.fetch_add(static_cast<uint64_t>(record_.collector_ns), std::memory_order_relaxed);
  }

  // When its sweep has ended, too.
  void record(int64_t assist_ns) noexcept {
    record_.assist_ns = assist_ns;
    record_cycle(record_);
  }

 private:
  void begin_pause() noexcept {
    pacing_pause_begins();
    pause_began_ = base::true_now_ns();
    stop_world();
  }
  void end_pause(int which, uint32_t gate) noexcept {
    sched::resume_all_code(gate, sched::gate_scan & ~gate);
    const auto ns = static_cast<uint64_t>(base::true_now_ns() - pause_began_);
    record_.ended_ns = pause_began_ + static_cast<int64_t>(ns);
    record_.pause_ns[which] += static_cast<int64_t>(ns);
    record_.mark_ns =
        record_.ended_ns - record_.began_ns - record_.pause_ns[0] - record_.pause_ns[1];
    g_stats.pause[which].store(static_cast<uint64_t>(record_.pause_ns[which]),
                               std::memory_order_relaxed);
    g_stats.pause_total.fetch_add(ns, std::memory_order_relaxed);
    pacing_pause_ends(detail::marking.load(std::memory_order_relaxed) != 0);
  }

  void begin() noexcept {
    begin_pause();
    WEFT_CHECK(all_swept());
    retire_cells(false);
    reset_marked();
    reset_scanned_stack_bytes();
    live_before_ = g_counters.live.load(std::memory_order_relaxed);
    record_.heap_before = live_before_;
    g_stats.pause[1].store(0, std::memory_order_relaxed);
    sched::g_scan_epoch.fetch_add(1, std::memory_order_relaxed);
    detail::marking.store(1, std::memory_order_relaxed);
    g_phase.store(phase::marking, std::memory_order_relaxed);
    new (storage_) marker(g_cage.marked);
    marker_ = reinterpret_cast<marker*>(storage_);
    pacing_cycle_begins();
    pacing_progress(0, cpu_ns());
    mark_stopped_threads(*marker_);
    for_each_dead([](uintptr_t o, void* m) { static_cast<marker*>(m)->mark_only(o); }, marker_);
  }

  void finish() noexcept {
    pacing_progress(marker_->scanned_bytes(), cpu_ns());
    marker_->~marker();
    retire_cells(true);
    if (g_options.verify) verify_marks();
    drop_dead_ephemerons();
    detail::marking.store(0, std::memory_order_relaxed);
    g_phase.store(phase::sweeping, std::memory_order_relaxed);
    begin_sweep();
    // What was allocated since the beginning is alive and not counted by the marker.
    const uint64_t live = g_counters.live.load(std::memory_order_relaxed);
    const uint64_t during = live > live_before_ ? live - live_before_ : 0;
    const uint64_t marked = marked_bytes() + during;
    record_.heap_at_end = live;
    record_.heap_live = marked_bytes();
    record_.goal = heap_goal();
    record_.stacks = scanned_stack_bytes();
    g_stats.marked.store(marked, std::memory_order_relaxed);
    pacing_cycle_ends(marked);
    g_counters.live.store(marked, std::memory_order_relaxed);
    g_due.store(false, std::memory_order_relaxed);
    end_pause(g_options.stop_the_world ? 0 : 1, g_options.park ? sched::gate_scan : 0u);
    if (auto ended = base::current_alloc_port().cycle_ended) ended();
  }

  cycle_record record_{};
  int64_t pause_began_ = 0;
  uint64_t live_before_ = 0;
  marker* marker_ = nullptr;
  alignas(marker) std::byte storage_[sizeof(marker)];
};

cycle_cost sweep_all() noexcept {
  const int64_t cpu = cpu_ns();
  finish_sweep();
  g_phase.store(phase::off, std::memory_order_relaxed);
  const cycle_cost cost = pacing_swept(cpu_ns());
  if (auto ended = base::current_alloc_port().sweep_ended) ended();
  g_stats.cpu.fetch_add(static_cast<uint64_t>(cpu_ns() - cpu), std::memory_order_relaxed);
  return cost;
}

void wake_waiters(uint64_t cycle, bool swept) noexcept {
  waiter* due = nullptr;
  {
    std::lock_guard hold(g_lock);
    if (swept) g_ended = cycle;
    for (waiter** link = &g_waiters; *link != nullptr;) {
      waiter* w = *link;
      if (w->cycle > cycle || (w->sweep && !swept)) {
        link = &w->next;
        continue;
      }
      *link = w->next;
      w->next = due;
      due = w;
    }
  }
  while (due != nullptr) {
    waiter* w = std::exchange(due, due->next);
    sched::ready(w->t);
  }
}

void collector_loop(sched::thread* th) noexcept {
  int64_t last_ns = base::true_now_ns();
  for (;;) {
    if (!g_options.always || g_counters.live.load(std::memory_order_relaxed) == 0) {
      sched::foreign_sleep asleep(th);
      while (th->park_word.load(std::memory_order_acquire) == 0) {
        const int64_t left = forced_cycle_ns - (base::true_now_ns() - last_ns);
        if (left <= 0) break;
        const int64_t nap = std::min({left, scavenge(heap_goal()), pacing_nap()});
        if (base::futex_wait(th->park_word, 0, nap)) continue;
        if (pacing_poll()) {
          g_due.store(true, std::memory_order_relaxed);
          break;
        }
      }
    }
    th->park_word.store(0, std::memory_order_relaxed);
    uint64_t cycle;
    bool forced, asked;
    {
      std::lock_guard hold(g_lock);
      asked = g_wanted > g_started;
      const bool overdue = base::true_now_ns() - last_ns >= forced_cycle_ns;
      if (!asked && !overdue && !g_due.load(std::memory_order_relaxed) && !g_options.always)
        continue;
      forced = asked || overdue;
      if (forced) g_stats.forced.fetch_add(1, std::memory_order_relaxed);
      cycle = ++g_started;
    }
    if (asked) let_waker_leave();
    one_cycle it(cycle, forced);
    it.run();
    wake_waiters(cycle, false);
    it.record(sweep_all().assist_ns);
    start_reapers();
    wake_waiters(cycle, true);
    last_ns = base::true_now_ns();
  }
}

void* collector_main(void* arg) {
  auto* th = static_cast<sched::thread*>(arg);
  base::ask_for_slices_of(collector_slice_ns);
  sched::register_thread(th);
  collector_loop(th);
  return nullptr;
}

// A fork()ed child has no collector: it may allocate, and nothing is ever freed.
int g_crit_before_fork = 0;

void before_fork() noexcept {
  sched::thread* th = sched::self();
  g_crit_before_fork = th->crit.load(std::memory_order_relaxed);
  th->crit.store(1, std::memory_order_relaxed);
  lock_ephemerons();
  lock_weak_cells();
  lock_cleanups();
  lock_roots();
  lock_heap();
  lock_specials();
  lock_sweep();
  lock_page_heap();
  lock_pacing();
}

void after_fork() noexcept {
  unlock_pacing();
  unlock_page_heap();
  unlock_sweep();
  unlock_specials();
  unlock_heap();
  unlock_roots();
  unlock_cleanups();
  unlock_weak_cells();
  unlock_ephemerons();
  sched::self()->crit.store(g_crit_before_fork, std::memory_order_release);
}

void in_child() noexcept {
  detail::marking.store(0, std::memory_order_relaxed);
  sched::g_gate.store(0, std::memory_order_relaxed);
  g_counters.trigger.store(UINT64_MAX, std::memory_order_relaxed);
  after_fork();
}

}  // namespace

phase current_phase() noexcept { return g_phase.load(std::memory_order_acquire); }

void start_collector() noexcept {
  begin_records();
  start_pacing(g_options.percent, g_options.memory_limit);
  install_scan_port();
  if (g_options.park) sched::g_gate.fetch_or(sched::gate_scan, std::memory_order_seq_cst);
  ::pthread_atfork(before_fork, after_fork, in_child);
  g_collector = new sched::thread;
  g_collector->foreign = true;
  g_collector->role = "collector";
  g_collector->crit.store(1, std::memory_order_relaxed);
  pthread_attr_t attr;
  ::pthread_attr_init(&attr);
  ::pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_t id;
  const int error = ::pthread_create(&id, &attr, collector_main, g_collector);
  ::pthread_attr_destroy(&attr);
  if (error != 0) base::fatalf("cannot start the collector's thread: %s", std::strerror(error));
}

bool collector_is_gone() noexcept { return sched::in_forked_child(); }

void request_cycle() noexcept {
  if (g_due.load(std::memory_order_relaxed) || g_due.exchange(true)) return;
  if (!collector_is_gone()) wake_collector();
}

namespace {

// Until marking has ended, if it is on; or a whole cycle that begins now.
void wait_for_cycle(bool whole) noexcept {
  // Fake time stands still meanwhile.
  const bool in_world = sched::in_directed_world();
  sched::enter();
  if (in_world) sched::g_outside_work.fetch_add(1);
  g_lock.lock();
  // Marking ends with the world stopped, so in this critical section it is on or off.
  if (!whole && detail::marking.load(std::memory_order_relaxed) == 0) {
    g_lock.unlock();
    if (in_world) sched::g_outside_work.fetch_sub(1);
    sched::leave();
    return;
  }
  waiter w{sched::current_task(), whole ? g_started + 1 : g_started, whole, g_waiters};
  g_waiters = &w;
  if (whole) {
    g_wanted = w.cycle;
    wake_collector();
  }
  sched::park_unlock(whole ? sched::wait_reason::gc_cycle : sched::wait_reason::gc_assist, nullptr,
                     g_lock);
  if (in_world) sched::g_outside_work.fetch_sub(1);
  sched::leave();
}

}  // namespace

void collect_now() noexcept {
  if (g_heap_exists.load(std::memory_order_acquire) && !collector_is_gone()) wait_for_cycle(true);
}

void wait_if_over_limit() noexcept {
  if (detail::marking.load(std::memory_order_relaxed) == 0 || !over_hard_limit()) return;
  if (collector_is_gone() || sched::self() == g_collector) return;
  const int64_t began = base::true_now_ns();
  wait_for_cycle(false);
  g_stats.assist_waits.fetch_add(1, std::memory_order_relaxed);
  g_stats.assist_wait_ns.fetch_add(static_cast<uint64_t>(base::true_now_ns() - began),
                                   std::memory_order_relaxed);
}

bool is_marked(const void* object) noexcept {
  hit h;
  return find(reinterpret_cast<uintptr_t>(object), h) &&
         (g_cage.marked[h.word()].load(std::memory_order_relaxed) & h.bit()) != 0;
}

void collect() { collect_now(); }

int set_percent(int percent) {
  if (percent == 0 || percent > 1'000'000)
    throw std::invalid_argument("gc::set_percent: " + std::to_string(percent) +
                                "; it must be 1 to 1000000, or negative for no cycles by growth");
  make_heap_exist();
  return set_pacing_percent(percent);
}

int64_t set_memory_limit(int64_t bytes) {
  make_heap_exist();
  return bytes < 0 ? pacing_limit() : set_pacing_limit(bytes);
}

void free_os_memory() {
  collect_now();
  if (g_heap_exists.load(std::memory_order_acquire)) return_free_pages(SIZE_MAX);
}

heap_stats stats() noexcept {
  heap_stats s{};
  if (!g_heap_exists.load(std::memory_order_acquire)) return s;
  {
    std::lock_guard hold(g_lock);
    s.cycles = g_ended;
  }
  s.forced_cycles = g_stats.forced.load(std::memory_order_relaxed);
  for (const mutator* m = g_mutators.load(std::memory_order_acquire); m != nullptr;
       m = m->all_next) {
    s.allocated_objects += m->objects.load(std::memory_order_relaxed);
    s.allocated_bytes += m->bytes.load(std::memory_order_relaxed);
  }
  s.freed_bytes = g_counters.freed.load(std::memory_order_relaxed);
  s.freed_objects = g_counters.freed_objects.load(std::memory_order_relaxed);
  s.live_bytes = g_counters.live.load(std::memory_order_relaxed);
  s.trigger_bytes = g_counters.trigger.load(std::memory_order_relaxed);
  s.goal_bytes = heap_goal();
  s.marked_bytes = g_stats.marked.load(std::memory_order_relaxed);
  const page_statistics pages = page_counters();
  s.heap_in_use_bytes = pages.in_use_bytes;
  s.heap_free_bytes = pages.free_bytes;
  s.heap_returned_bytes = pages.returned_bytes;
  s.pause_total_ns = g_stats.pause_total.load(std::memory_order_relaxed);
  for (int i = 0; i < 2; ++i) s.last_pause_ns[i] = g_stats.pause[i].load(std::memory_order_relaxed);
  s.gc_cpu_ns = g_stats.cpu.load(std::memory_order_relaxed);
  s.assist_ns = assist_time_ns();
  s.assist_waits = g_stats.assist_waits.load(std::memory_order_relaxed);
  s.assist_wait_ns = g_stats.assist_wait_ns.load(std::memory_order_relaxed);
  s.stop_retries = g_stats.retries.load(std::memory_order_relaxed);
  s.percent = pacing_percent();
  s.memory_limit = pacing_limit();
  return s;
}

namespace detail {

void throw_out_of_memory(size_t) { throw std::bad_alloc(); }

}  // namespace detail
}  // namespace weft::gc
