// Capture: the stacks of all tasks, without stopping the world.
//
// A task that does not execute (runnable, waiting) is claimed: one bit in its state word keeps it
// from starting to execute while its saved registers and stack are read, a microsecond or so. A
// task that does execute is asked: its thread gets a signal and unwinds itself into a request slot.
// Between the look and the act a task may change sides, so each is tried by whichever means fits
// until one succeeds.
//
// While a claim is held, nothing is allocated and no lock is taken: the claimed task may be what
// another thread is about to run. Copying into snapshots happens after the release.
//
// Rejected: stopping all processors (Go stalls everyone for 0.7 s at 100 000 tasks); signalling
// threads that are parked in the kernel for nothing; resuming each task to let it report (needs
// free workers).
#include "profiler/capture.h"

#include <sched.h>
#include <weft/blocking.h>
#include <weft/mutex.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/futex.h"
#include "profiler/stack_bounds.h"
#include "profiler/unwind.h"
#include "runtime/label_node.h"
#include "scheduler/park.h"
#include "scheduler/signals.h"
#include "scheduler/stack.h"
#include "scheduler/thread_signal.h"

namespace weft::prof {
namespace {

using sched::status_of;
using sched::task;
using sched::task_status;
using sched::thread;

constexpr size_t max_depth = 1024;
constexpr size_t max_name = 128;
constexpr int64_t signal_patience_ns = 100'000'000;
constexpr int max_attempts = 64;
constexpr int max_silences = 3;  // a thread that blocks the signal does not answer at all

// What is copied while the task cannot run or from inside its thread's handler.
struct raw_capture {
  uint64_t id;
  uint64_t parent_id;
  uintptr_t created_by;
  task_status status;
  sched::wait_reason reason;
  bool locked_to_thread;
  bool foreign;
  int64_t since_ns;
  const void* labels;  // retained
  task_stack stack;
  const void* waits_on;
  uintptr_t owner_page;          // of the lock it waits for (lock_owner.h), 0: of none
  uintptr_t stack_lo, stack_hi;  // of what it runs on; 0 before the first run
  char name[max_name];
  size_t depth;
  bool truncated;
  bool leaf_is_exact;
  uintptr_t pcs[max_depth];
};

bool is_lock(sched::wait_reason r) noexcept {
  using enum sched::wait_reason;
  return r == mutex_lock || r == rwmutex_lock || r == rwmutex_rlock;
}

// For the holder of a claim, and for the task itself.
void copy_place(raw_capture& out, const task& t) noexcept {
  if (t.stk != nullptr) {
    out.stack_lo = reinterpret_cast<uintptr_t>(t.stk->lo);
    out.stack_hi = reinterpret_cast<uintptr_t>(t.stk->hi);
  } else if (t.foreign) {
    out.stack_lo = t.own_thread->stack_lo;
    out.stack_hi = t.own_thread->stack_hi;
  }
  if (out.status != task_status::waiting) return;
  out.waits_on = t.waits_on;
  // The lock outlives the wait, and the claim keeps the waiter from ending it.
  if (is_lock(out.reason) && t.waits_on != nullptr)
    out.owner_page = weft::detail::owner_page(*static_cast<const mutex*>(t.waits_on));
}

void copy_identity(raw_capture& out, const task& t, uint32_t word) noexcept {
  out.waits_on = nullptr;
  out.owner_page = out.stack_lo = out.stack_hi = 0;
  out.id = t.id;
  out.parent_id = t.parent_id;
  out.created_by = t.created_by;
  out.status = status_of(word);
  out.reason = sched::reason_of(word);
  out.locked_to_thread = t.locked_to_thread;
  out.foreign = t.foreign;
  out.since_ns = t.since_ns.load(std::memory_order_relaxed);
  out.labels = weft::detail::retain_labels(
      static_cast<const weft::detail::label_node*>(t.labels.load(std::memory_order_acquire)));
  out.name[0] = 0;
  if (t.name != nullptr) {
    std::strncpy(out.name, t.name, max_name - 1);
    out.name[max_name - 1] = 0;
  }
}

// While the task's stack cannot change hands. `sp` may lie elsewhere.
void copy_stack(raw_capture& out, const task& t, uintptr_t sp) noexcept {
  out.stack = {};
  if (t.stk == nullptr) return;
  const stack_range range = task_stack_range(t);
  out.stack.lo = range.lo;
  out.stack.hi = range.hi;
  out.stack.sp = sp > range.lo && sp <= range.hi ? sp : 0;
  out.stack.reserved = sched::stack_reserve(t.stk->cls);
  out.stack.class_name = sched::stack_class_name(t.stk->cls);
}

void unwind_into(raw_capture& out, const regs& from, stack_range range, size_t depth) noexcept {
  unwind_result r = unwind(from, range, {out.pcs, depth});
  out.depth = r.depth;
  out.truncated = r.end == unwind_end::truncated;
}

bool capture_claimed(task& t, size_t depth, raw_capture& out) noexcept {
  uint32_t word;
  if (!sched::claim(t, word)) return false;
  copy_identity(out, t, word);
  copy_place(out, t);
  out.leaf_is_exact = false;
  out.stack = {};
  if (t.stk == nullptr) {
    // Not started: the only frame is the one it will begin with.
    out.pcs[0] = t.body != nullptr ? reinterpret_cast<uintptr_t>(t.body->invoke) : 0;
    out.depth = out.pcs[0] != 0 ? 1 : 0;
    out.truncated = false;
    out.leaf_is_exact = true;
  } else {
    sched::saved_registers r = sched::registers_of(t.ctx);
    copy_stack(out, t, r.rsp);
    unwind_into(out, {r.rip, r.rsp, r.rbp, r.rbx}, task_stack_range(t), depth);
  }
  sched::unclaim(t);
  return true;
}

// The one request slot. state: 0 free, 1 asked, 2 being filled, 3 filled.
struct request {
  std::mutex one_capture;
  std::atomic<uint32_t> state{0};
  std::atomic<thread*> target{nullptr};
  size_t depth = 0;
  task* executing = nullptr;  // what the target was executing; null in the scheduler
  raw_capture result;
};
request& slot() noexcept {
  static auto* const r = new request;
  return *r;
}
std::atomic<request*> g_slot{nullptr};

bool answer(void* ucontext) noexcept {
  request* r = g_slot.load(std::memory_order_acquire);
  thread* th = sched::self_or_null();
  uint32_t asked = 1;
  // [ord capture.slot] acquire: target and depth were written before state became 1
  if (r != nullptr && th != nullptr && r->target.load(std::memory_order_relaxed) == th &&
      r->state.compare_exchange_strong(asked, 2, std::memory_order_acq_rel)) {
    task* t = th->current.load(std::memory_order_relaxed);
    regs from = regs_from_ucontext(ucontext);
    r->executing = t;
    if (t != nullptr) {
      copy_identity(r->result, *t, t->state.load(std::memory_order_relaxed));
      copy_place(r->result, *t);
      r->result.leaf_is_exact = true;
      copy_stack(r->result, *t, from.rsp);
      unwind_into(r->result, from, range_for(*th, t, from.rsp), r->depth);
    }
    r->state.store(3, std::memory_order_release);
    base::futex_wake(r->state, 1);
    return true;
  }
  return false;
}

enum class answered : uint8_t { yes, moved, no };

// Asks the thread that executes `t`. moved: no thread does any more; no: it did not answer in time.
answered capture_running(task& t, size_t depth, raw_capture& out) {
  request& r = slot();
  struct search {
    task* wanted;
    request* r;
    bool sent;
  } s{&t, &r, false};
  r.depth = depth;
  sched::for_each_thread(
      [](thread* th, void* arg) {
        auto* found = static_cast<search*>(arg);
        if (found->sent || th->current.load(std::memory_order_relaxed) != found->wanted) return;
        found->r->target.store(th, std::memory_order_relaxed);
        found->r->state.store(1, std::memory_order_release);
        // Under the registry's lock, so the thread cannot have ended.
        found->sent = sched::send_thread_signal(*th);
        if (!found->sent) found->r->state.store(0, std::memory_order_relaxed);
      },
      &s);
  if (!s.sent) return answered::moved;
  int64_t deadline = base::true_now_ns() + signal_patience_ns;
  for (;;) {
    uint32_t state = r.state.load(std::memory_order_acquire);
    if (state == 3) break;
    int64_t left = deadline - base::true_now_ns();
    if (left <= 0 && state == 1) {
      if (r.state.compare_exchange_strong(state, 0, std::memory_order_acq_rel)) return answered::no;
      continue;
    }
    base::futex_wait(r.state, state, left > 0 ? left : 1'000'000);
  }
  r.state.store(0, std::memory_order_relaxed);
  if (r.executing == nullptr) return answered::moved;
  if (r.executing != &t) {
    weft::detail::drop_labels(static_cast<const weft::detail::label_node*>(r.result.labels));
    return answered::moved;
  }
  out = r.result;
  return answered::yes;
}

void fill_snapshot(task_snapshot& s, const raw_capture& raw, int64_t now) {
  s.id = raw.id;
  s.parent_id = raw.parent_id;
  s.name = raw.name;
  bool waiting = raw.status == task_status::waiting;
  s.status = waiting ? sched::reason_name(raw.reason) : sched::status_name(raw.status);
  bool timed = waiting || raw.status == task_status::blocking;
  s.wait_ns = timed && now > raw.since_ns ? now - raw.since_ns : 0;
  s.since_ns = raw.since_ns;
  s.waits_on = raw.waits_on;
  s.held_by = 0;
  s.locked_to_thread = raw.locked_to_thread;
  s.foreign = raw.foreign;
  s.pcs.assign(raw.pcs, raw.pcs + raw.depth);
  s.leaf_is_exact = raw.leaf_is_exact;
  s.truncated = raw.truncated;
  s.created_by = raw.created_by;
  s.stack = raw.stack;
  s.labels.clear();
  if (raw.labels != nullptr) {
    const auto* node = static_cast<const weft::detail::label_node*>(raw.labels);
    s.labels = node->pairs;
    weft::detail::drop_labels(node);
  }
}

}  // namespace

void install_capture_signal() {
  static const bool installed = [] {
    g_slot.store(&slot(), std::memory_order_release);
    sched::set_signal_visitor(answer);
    sched::install_thread_signal();
    return true;
  }();
  static_cast<void>(installed);
}

task_snapshot capture_self(size_t depth) {
  unwind_refresh();
  if (depth > max_depth) depth = max_depth;
  task_snapshot s;
  s.pcs.resize(depth);
  thread* th = sched::self_or_null();
  task* t = th != nullptr ? th->current.load(std::memory_order_relaxed) : nullptr;
  char here;
  stack_range range = th != nullptr ? range_for(*th, t, reinterpret_cast<uintptr_t>(&here))
                                    : unknown_thread_range();
  unwind_result r = unwind_here(range, s.pcs);
  // The first frame is this function's.
  s.pcs.resize(r.depth);
  if (!s.pcs.empty()) s.pcs.erase(s.pcs.begin());
  s.truncated = r.end == unwind_end::truncated;
  s.status = "running";
  if (t != nullptr) {
    auto raw = std::make_unique<raw_capture>();
    copy_identity(*raw, *t, t->state.load(std::memory_order_relaxed));
    copy_stack(*raw, *t, reinterpret_cast<uintptr_t>(&here));
    std::vector<uintptr_t> pcs = std::move(s.pcs);
    bool truncated = s.truncated;
    raw->depth = 0;
    fill_snapshot(s, *raw, 0);
    s.pcs = std::move(pcs);
    s.truncated = truncated;
    s.leaf_is_exact = false;
    // Its processor may have been retaken while it was busy here; it executes all the same.
    s.status = "running";
    s.wait_ns = 0;
  }
  return s;
}

namespace {

// Whether the record stands for a thread that waits in a primitive and whose stack is wanted. It is
// the thread's own, so it has to be asked.
bool is_waiting_thread(task& t) noexcept {
  uint32_t word;
  if (!sched::claim(t, word)) return false;
  const bool yes = status_of(word) == task_status::waiting && t.foreign &&
                   !t.own_thread->service.load(std::memory_order_relaxed);
  sched::unclaim(t);
  return yes;
}

// False when the record is free, or not wanted.
bool capture_one(task& t, const capture_options& options, size_t depth, raw_capture& raw) {
  int silences = 0;
  for (int attempt = 0; attempt < max_attempts && silences < max_silences; ++attempt) {
    uint32_t word = t.state.load(std::memory_order_acquire);
    if (status_of(word) == task_status::free) return false;
    const bool ask = t.system && options.foreign_threads && is_waiting_thread(t);
    if (t.system && !options.system_tasks && !ask) return false;
    {
      // Nobody parks while holding it, so it is held for the capture of one task.
      std::lock_guard one(slot().one_capture);
      if (!ask && capture_claimed(t, depth, raw)) return true;
      answered a = capture_running(t, depth, raw);
      if (a == answered::yes) return true;
      if (a == answered::no) ++silences;
    }
    ::sched_yield();
  }
  // It exists, so it counts, if only without a stack.
  raw.stack = {};
  copy_identity(raw, t, t.state.load(std::memory_order_acquire));
  raw.depth = 0;
  raw.truncated = false;
  raw.leaf_is_exact = false;
  if (status_of(t.state.load(std::memory_order_acquire)) != task_status::free) return true;
  weft::detail::drop_labels(static_cast<const weft::detail::label_node*>(raw.labels));
  return false;
}

}  // namespace

namespace {

// Which task a page of a stack belongs to. Made when the first task that waits for a lock is met: a
// second pass over all tasks, for their stacks' bounds alone.
class stack_owners {
 public:
  uint64_t at(uintptr_t page, raw_capture& scratch) {
    if (stacks_.empty()) collect(scratch);
    const auto after = std::ranges::upper_bound(stacks_, page, {}, &entry::lo);
    if (after == stacks_.begin() || page >= after[-1].hi) return 0;
    return after[-1].id;
  }

 private:
  struct entry {
    uintptr_t lo, hi;
    uint64_t id;
  };
  void collect(raw_capture& scratch) {
    using weft::detail::lock_owner;
    const size_t records = sched::task_record_count();
    for (size_t i = 0; i < records; ++i) {
      if (!capture_one(sched::task_record(i), {.system_tasks = true}, 1, scratch)) continue;
      weft::detail::drop_labels(static_cast<const weft::detail::label_node*>(scratch.labels));
      if (scratch.stack_hi == 0) continue;
      // As far as an owner's address tells: whole pages, and not their highest bits.
      stacks_.push_back({scratch.stack_lo & lock_owner::address_bits & ~(lock_owner::page_size - 1),
                         scratch.stack_hi & lock_owner::address_bits, scratch.id});
    }
    std::ranges::sort(stacks_, {}, &entry::lo);
    if (stacks_.empty()) stacks_.push_back({0, 0, 0});
  }
  std::vector<entry> stacks_;
};

}  // namespace

size_t capture_tasks(const capture_options& options,
                     const std::function<void(const task_snapshot&)>& visit) {
  thread* th = sched::self_or_null();
  task* me = th != nullptr ? th->current.load(std::memory_order_relaxed) : nullptr;
  std::optional<weft::detail::blocking_scope> without_processor;
  const auto give_up = [&] {
    if (options.give_up_processor && me != nullptr && !me->foreign) without_processor.emplace();
  };
  // Before anything else: the visitor may name the first frames it meets from the program's files.
  give_up();
  install_capture_signal();
  unwind_refresh();
  size_t depth = options.depth < max_depth ? options.depth : max_depth;
  size_t visited = 0;
  if (me != nullptr && (options.system_tasks || !me->system)) {
    visit(capture_self(depth));
    ++visited;
  }
  task_snapshot snapshot;
  auto raw = std::make_unique<raw_capture>();
  std::unique_ptr<raw_capture> other;
  stack_owners owners;
  size_t records = sched::task_record_count();
  for (size_t i = 0; i < records; ++i) {
    task& t = sched::task_record(i);
    if (&t == me) continue;
    if (options.stop && i % options.between_stops == options.between_stops - 1) {
      without_processor.reset();
      if (options.stop()) break;
      give_up();
    }
    if (!capture_one(t, options, depth, *raw)) continue;
    fill_snapshot(snapshot, *raw, base::now_ns());
    if (!options.owners) snapshot.waits_on = nullptr;
    if (options.owners && raw->owner_page != 0) {
      if (other == nullptr) other = std::make_unique<raw_capture>();
      snapshot.held_by = owners.at(raw->owner_page, *other);
      // A lock that its waiter was handed already, or a writer's that waits for readers.
      if (snapshot.held_by == snapshot.id) snapshot.held_by = 0;
    }
    visit(snapshot);
    ++visited;
  }
  return visited;
}

bool capture_task(sched::task& t, uint64_t id, task_snapshot& out) {
  install_capture_signal();
  unwind_refresh();
  auto raw = std::make_unique<raw_capture>();
  capture_options all;
  all.system_tasks = true;
  if (!capture_one(t, all, all.depth, *raw)) return false;
  fill_snapshot(out, *raw, base::now_ns());
  return out.id == id;
}

}  // namespace weft::prof
