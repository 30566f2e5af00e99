#include "profiler/raw_capture.h"

#include <weft/mutex.h>

#include <cstring>

#include "runtime/label_node.h"
#include "scheduler/park.h"
#include "scheduler/stack.h"

namespace weft::prof {
namespace {

using sched::task;
using sched::task_status;

bool is_lock(sched::wait_reason r) noexcept {
  using enum sched::wait_reason;
  return r == mutex_lock || r == rwmutex_lock || r == rwmutex_rlock;
}

void copy_bounds(raw_capture& out, const task& t) noexcept {
  if (t.stk != nullptr) {
    out.stack_lo = reinterpret_cast<uintptr_t>(t.stk->lo);
    out.stack_hi = reinterpret_cast<uintptr_t>(t.stk->hi);
  } else if (t.foreign) {
    out.stack_lo = t.own_thread->stack_lo;
    out.stack_hi = t.own_thread->stack_hi;
  }
}

// What a waiting task waits for.
void copy_wait(raw_capture& out, const task& t) noexcept {
  out.waits_on = t.waits_on;
  // The lock outlives the wait, and the claim keeps the waiter from ending it.
  if (is_lock(out.reason) && t.waits_on != nullptr)
    out.owner_page = weft::detail::owner_page(*static_cast<const mutex*>(t.waits_on));
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

void keep(raw_capture& out, unwind_result r) noexcept {
  out.depth = r.depth;
  out.truncated = r.end == unwind_end::truncated;
}

}  // namespace

void copy_identity(raw_capture& out, const task& t, uint32_t state_word) noexcept {
  out.waits_on = nullptr;
  out.owner_page = out.stack_lo = out.stack_hi = 0;
  out.stack = {};
  out.depth = 0;
  out.truncated = out.leaf_is_exact = false;
  out.id = t.id;
  out.parent_id = t.parent_id;
  out.created_by = t.created_by;
  out.status = sched::status_of(state_word);
  out.reason = sched::reason_of(state_word);
  out.locked_to_thread = t.locked_to_thread;
  out.foreign = t.foreign;
  out.since_ns = t.since_ns.load(std::memory_order_relaxed);
  out.labels = weft::detail::retain_labels(
      static_cast<const weft::detail::label_node*>(t.labels.load(std::memory_order_acquire)));
  out.name[0] = 0;
  if (t.name != nullptr) {
    const size_t length = ::strnlen(t.name, max_captured_name - 1);
    std::memcpy(out.name, t.name, length);
    out.name[length] = 0;
  }
}

void copy_claimed(raw_capture& out, task& t, uint32_t state_word,
                  const sched::instant_note* note) noexcept {
  copy_identity(out, t, state_word);
  copy_bounds(out, t);
  if (out.status == task_status::waiting) copy_wait(out, t);
  if (note != nullptr && out.status == task_status::runnable) {
    const sched::wait_reason reason = note->waited_for.load(std::memory_order_relaxed);
    if (reason != sched::wait_reason::none) {
      // It has been woken since. Who holds the lock now is not who held it then.
      out.status = task_status::waiting;
      out.reason = reason;
      out.since_ns = note->since_ns.load(std::memory_order_relaxed);
      out.waits_on = t.waits_on;
    }
  }
  if (t.stk == nullptr) {
    // Not started: the only frame is the one it will begin with.
    if (t.body != nullptr && out.room > 0) {
      out.pcs[0] = reinterpret_cast<uintptr_t>(t.body->invoke);
      out.depth = 1;
    }
    out.leaf_is_exact = true;
    return;
  }
  const sched::saved_registers r = sched::registers_of(t.ctx);
  copy_stack(out, t, r.rsp);
  keep(out, unwind({r.rip, r.rsp, r.rbp, r.rbx}, task_stack_range(t), {out.pcs, out.room}));
}

void copy_executing(raw_capture& out, const sched::thread& th, const task& t,
                    const regs* from) noexcept {
  copy_identity(out, t, t.state.load(std::memory_order_relaxed));
  copy_bounds(out, t);
  if (out.status == task_status::waiting) copy_wait(out, t);
  if (from != nullptr) {
    out.leaf_is_exact = true;
    copy_stack(out, t, from->rsp);
    keep(out, unwind(*from, range_for(th, &t, from->rsp), {out.pcs, out.room}));
    return;
  }
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  copy_stack(out, t, here);
  keep(out, unwind_here(range_for(th, &t, here), {out.pcs, out.room}));
}

void drop_captured_labels(raw_capture& raw) noexcept {
  if (raw.labels != nullptr)
    weft::detail::drop_labels(static_cast<const weft::detail::label_node*>(raw.labels));
  raw.labels = nullptr;
}

void fill_snapshot(task_snapshot& s, raw_capture& raw, int64_t now) {
  s.id = raw.id;
  s.parent_id = raw.parent_id;
  s.name = raw.name;
  const bool waiting = raw.status == task_status::waiting;
  s.status = waiting ? sched::reason_name(raw.reason) : sched::status_name(raw.status);
  const bool timed = waiting || raw.status == task_status::blocking;
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
  if (raw.labels != nullptr)
    s.labels = static_cast<const weft::detail::label_node*>(raw.labels)->pairs;
  drop_captured_labels(raw);
}

}  // namespace weft::prof
