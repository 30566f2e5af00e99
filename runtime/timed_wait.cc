#include "runtime/timed_wait.h"

namespace weft::detail {
namespace {

struct timed_frame {
  small_lock* lock;
  sched::task* task;
  select_wait wait;
  sched::timer deadline;
};

bool commit_unlock(sched::task*, void* lock) {
  static_cast<small_lock*>(lock)->unlock();
  return true;
}

bool commit_timed(sched::task*, void* arg) {
  auto* f = static_cast<timed_frame*>(arg);
  small_lock* lock = f->lock;
  sched::add_timer(f->deadline);  // may wake the task at once, but it needs the lock to go on
  lock->unlock();
  return true;
}

void deadline_passed(sched::timer* t, int64_t) noexcept {
  auto* f = static_cast<timed_frame*>(t->arg);
  sched::task* task = f->task;
  if (f->wait.claim(&select_wait::timed_out)) sched::ready(task);
}

}  // namespace

bool wait_until(waiter& w, int64_t deadline_ns, sched::wait_reason reason, const void* waits_on,
                small_lock& lock) noexcept {
  if (deadline_ns == sched::never_ns) {
    sched::park(reason, waits_on, commit_unlock, &lock);
    return true;
  }
  timed_frame f;
  f.lock = &lock;
  f.task = w.task;
  f.deadline.when_ns = deadline_ns;
  f.deadline.fire = deadline_passed;
  f.deadline.arg = &f;
  w.select = &f.wait;
  sched::park(reason, waits_on, commit_timed, &f);
  sched::remove_timer(f.deadline);
  bool woken = f.wait.winner.load(std::memory_order_acquire) != &select_wait::timed_out;
  if (!woken) {
    // The commit step, or a waker that lost the claim, may still hold the lock and touch this frame.
    lock.lock();
    w.select = nullptr;
    lock.unlock();
  }
  return woken;
}

}  // namespace weft::detail
