#include "runtime/timed_wait.h"

namespace weft::detail {
namespace {

struct limited_frame : cancel_listener {
  small_lock* lock;
  sched::task* task;
  cancel_source* source;
  select_wait wait;
  small_lock arming;  // held until the commit step no longer touches this frame
  sched::timer deadline;
};

// Arms the ends of the wait, once the task is off its stack: each may strike at once. The list's
// lock is not held while the timer heap's or the source's is taken: a timer's function, which runs
// under the former, may want it.
bool commit_limited(sched::task*, void* arg) {
  auto* f = static_cast<limited_frame*>(arg);
  f->lock->unlock();
  sched::add_timer(f->deadline);
  // Cancelled already: nobody will call. The task goes on at once unless a waker or the timer has
  // won, who then readies it.
  const bool stays =
      f->source == nullptr || f->source->subscribe(*f) || !f->wait.claim(&select_wait::cancelled);
  f->arming.unlock();
  return stays;
}

void deadline_passed(sched::timer* t, int64_t) noexcept {
  auto* f = static_cast<limited_frame*>(t->arg);
  sched::task* task = f->task;
  if (f->wait.claim(&select_wait::timed_out)) sched::ready(task);
}

void source_cancelled(cancel_listener* l) noexcept {
  auto* f = static_cast<limited_frame*>(l);
  sched::task* task = f->task;
  if (f->wait.claim(&select_wait::cancelled)) sched::ready(task, false);
}

}  // namespace

wait_end wait_within(waiter& w, const wait_limit& limit, sched::wait_reason reason,
                     const void* waits_on, small_lock& lock) noexcept {
  if (limit.none()) {
    wait_unlimited(reason, waits_on, lock);
    return wait_end::woken;
  }
  limited_frame f;
  f.fire = source_cancelled;
  f.lock = &lock;
  f.task = w.task;
  f.source = limit.cancellation;
  f.deadline.when_ns = limit.deadline_ns;
  f.deadline.fire = deadline_passed;
  f.deadline.arg = &f;
  w.select = &f.wait;
  f.arming.lock();
  sched::park(reason, waits_on, commit_limited, &f);
  f.arming.lock();
  sched::remove_timer(f.deadline);
  if (f.source != nullptr) f.source->unsubscribe(f);
  const waiter* winner = f.wait.winner.load(std::memory_order_acquire);
  if (winner != &select_wait::timed_out && winner != &select_wait::cancelled)
    return wait_end::woken;
  // A waker that lost the claim may still hold the lock and touch this frame. The lock is kept:
  // without its claim, the waiter must not be found on the list.
  lock.lock();
  w.select = nullptr;
  return winner == &select_wait::cancelled ? wait_end::cancelled : wait_end::timed_out;
}

}  // namespace weft::detail
