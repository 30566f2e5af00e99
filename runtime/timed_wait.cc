#include "runtime/timed_wait.h"

namespace weft::detail {
namespace {

struct timed_frame {
  small_lock* lock;
  sched::task* task;
  select_wait wait;
  small_lock arming;  // held until the commit step no longer touches this frame
  sched::timer deadline;
};

bool commit_unlock(sched::task*, void* lock) {
  static_cast<small_lock*>(lock)->unlock();
  return true;
}

bool commit_timed(sched::task*, void* arg) {
  auto* f = static_cast<timed_frame*>(arg);
  // The list's lock is not held while the timer heap's is taken: a timer's function, which runs
  // under the latter, may want the former.
  f->lock->unlock();
  sched::add_timer(f->deadline);
  f->arming.unlock();
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
  f.arming.lock();
  sched::park(reason, waits_on, commit_timed, &f);
  f.arming.lock();
  sched::remove_timer(f.deadline);
  if (f.wait.winner.load(std::memory_order_acquire) != &select_wait::timed_out) return true;
  // A waker that lost the claim may still hold the lock and touch this frame. The lock is kept:
  // without its claim, the waiter must not be found on the list.
  lock.lock();
  w.select = nullptr;
  return false;
}

}  // namespace weft::detail
