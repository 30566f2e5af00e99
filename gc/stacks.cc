// [G2] in heap.cc: the stacks of tasks that do not run are scanned one by one while the others go
// on, by the collector, or by the thread that is about to run the task, whichever comes first. The
// epoch in the stack's header says whether it has been done; the claim bit of the task keeps the
// two apart.
//
// A task that has not begun has no stack: its closure lies in its record, or in a block of memory.
// That is scanned again at its first run, because there is no room for an epoch.
#include "gc/stacks.h"

#include <sched.h>
#include <time.h>
#include <weft/detail/config.h>
#include <weft/gc/detail/heap.h>

#include "base/check.h"
#include "gc/cycle.h"
#include "gc/give_way.h"
#include "gc/stress.h"
#include "scheduler/park.h"
#include "scheduler/world_stop.h"

namespace weft::gc {
namespace {

using sched::task;
using sched::task_status;

constexpr size_t tasks_in_a_row = 32;

std::atomic<size_t> g_scanned{0};

uint32_t epoch() noexcept { return sched::g_scan_epoch.load(std::memory_order_relaxed); }

// [ord gc.scanned] the end of a rest may read what the collector has just written: whoever sees a
// stack scanned sees its marks too.
bool is_scanned(const std::atomic<uint32_t>& e) noexcept {
  return e.load(std::memory_order_acquire) == epoch();
}
void set_scanned(std::atomic<uint32_t>& e) noexcept { e.store(epoch(), std::memory_order_release); }

void mark_body(marker& m, task& t) noexcept {
  const auto* at = static_cast<const char*>(sched::body_of(t));
  if (at == nullptr) return;
  if (t.stk != nullptr && at >= t.stk->lo && at < t.stk->hi) return;
  m.mark_range(at, at + t.body->size);
}

// The caller has a claim on the task, or nobody else can.
void mark_task(marker& m, task& t) noexcept {
  if (t.stk != nullptr) {
    const auto* sp = static_cast<const char*>(t.ctx.sp);
    WEFT_CHECK(sp >= t.stk->lo && sp <= t.stk->hi);
    m.mark_range(sp, t.stk->hi);
    g_scanned.fetch_add(static_cast<size_t>(t.stk->hi - sp), std::memory_order_relaxed);
  }
  mark_body(m, t);
}

void mark_thread_roots(marker& m, sched::thread& th, const sched::thread_roots& roots) noexcept {
  for (int i = 0; i < roots.count; ++i) m.mark_range(roots.ranges[i].lo, roots.ranges[i].hi);
  if (roots.t != nullptr) {
    mark_body(m, *roots.t);
    set_scanned(roots.t->stk->scan_epoch);
  } else {
    set_scanned(th.scan_epoch);
  }
}

void mark_thread(marker& m, sched::thread& th) noexcept {
  sched::thread_roots roots;
  if (sched::roots_of(th, roots)) mark_thread_roots(m, th, roots);
}

bool scanned(const sched::thread& th, const task* t) noexcept {
  return is_scanned(th.foreign ? th.scan_epoch : t->stk->scan_epoch);
}

bool world_is_stopped() noexcept {
  return (sched::g_gate.load(std::memory_order_relaxed) & sched::gate_stop) != 0;
}

// World stopped: where the thread is to stay.
sched::thread_place settled_place(const sched::thread& th) noexcept {
  for (;;) {
    const sched::thread_place place = sched::place_of(th);
    if (place != sched::thread_place::passing) return place;
    base::cpu_relax();
  }
}

struct resting_scan {
  marker* m;
  bool all;
};

// Under the registry's lock, so that no thread ends and takes its stack with it.
void mark_if_resting(sched::thread* th, void* arg) noexcept {
  auto& scan = *static_cast<resting_scan*>(arg);
  if (world_is_stopped() && settled_place(*th) != sched::thread_place::resting) return;
  const task* t = th->current.load(std::memory_order_acquire);
  if (t == nullptr || !th->rests.load(std::memory_order_acquire)) return;
  if (!scan.all && scanned(*th, t)) return;
  // The rest may end at any moment: then the thread scans the same itself before it goes on, and
  // what is read here is stale at worst. But the roots must be those of one rest.
  sched::thread_roots roots;
  if (!sched::roots_of(*th, roots) || !th->rests.load(std::memory_order_acquire) ||
      th->current.load(std::memory_order_acquire) != t || (roots.t != nullptr && roots.t != t))
    return;
  mark_thread_roots(*scan.m, *th, roots);
}

// Stress: the gate stays, and the world stops right after the task has gone on.
void ask_for_a_cycle() noexcept {
  request_cycle();
  timespec pause{0, 5'000};
  ::nanosleep(&pause, nullptr);
}

void before_run(task& t) noexcept {
  if (g_options.park && detail::marking.load(std::memory_order_relaxed) == 0)
    return ask_for_a_cycle();
  if (g_options.skip_scan_on_run) return;
  if (t.stk != nullptr && is_scanned(t.stk->scan_epoch)) return;
  marker m(g_cage.marked);
  uint32_t word;
  while (!sched::claim(t, word)) ::sched_yield();
  if (t.stk == nullptr || !is_scanned(t.stk->scan_epoch)) {
    mark_task(m, t);
    if (t.stk != nullptr) set_scanned(t.stk->scan_epoch);
  }
  sched::unclaim(t);
}

void before_return(sched::thread& th) noexcept {
  if (g_options.park && detail::marking.load(std::memory_order_relaxed) == 0) return;
  task* t = th.current.load(std::memory_order_relaxed);
  if (scanned(th, t)) return;
  marker m(g_cage.marked);
  mark_thread(m, th);  // from where the rest began: what lies below is this call
}

}  // namespace

void install_scan_port() noexcept {
  static const sched::scan_port port{before_run, before_return};
  sched::set_scan_port(port);
}

void mark_stopped_threads(marker& m) noexcept {
  sched::for_each_thread(
      [](sched::thread* th, void* arg) {
        // One that passes the gate names a task that it does not execute; it has no roots.
        if (sched::place_of(*th) == sched::thread_place::stopped)
          mark_thread(*static_cast<marker*>(arg), *th);
      },
      &m);
}

WEFT_NO_SANITIZE void mark_parked_tasks(marker& m, bool all) noexcept {
  resting_scan scan{&m, all};
  sched::for_each_thread(mark_if_resting, &scan);
  const size_t n = sched::task_record_count();
  for (size_t i = 0; i < n; ++i) {
    if (i % tasks_in_a_row == 0) give_way();
    task& t = sched::task_record(i);
    for (int round = 0;; ++round) {
      uint32_t word = t.state.load(std::memory_order_acquire);
      const task_status s = sched::status_of(word);
      if (s == task_status::free || t.foreign) break;
      if (s == task_status::running || s == task_status::blocking) {
        // It runs, so it has been scanned; or it is on its way off its stack, and will be claimable
        // in a moment; or its thread has just begun to rest, having been scanned.
        const sched::stack* stk = sched::stack_while_executing(t);
        if (stk == nullptr || is_scanned(stk->scan_epoch)) break;
        if (round % 16 == 15) {
          sched::for_each_thread(mark_if_resting, &scan);
          ::sched_yield();
        } else {
          base::cpu_relax();
        }
        continue;
      }
      if (!sched::claim(t, word)) continue;
      if (all || t.stk == nullptr || !is_scanned(t.stk->scan_epoch)) {
        mark_task(m, t);
        if (t.stk != nullptr) set_scanned(t.stk->scan_epoch);
      }
      sched::unclaim(t);
      break;
    }
  }
}

size_t scanned_stack_bytes() noexcept { return g_scanned.load(std::memory_order_relaxed); }
void reset_scanned_stack_bytes() noexcept { g_scanned.store(0, std::memory_order_relaxed); }

}  // namespace weft::gc
