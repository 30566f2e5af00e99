#pragma once
// A critical section of the heap.
#include "scheduler/park.h"
#include "scheduler/thread.h"
#include "scheduler/world_stop.h"

namespace weft::gc {

// In a critical section that neither takes a processor nor gives one up.
class unstopped {
 public:
  unstopped() noexcept : th_(sched::self()) {
    if (th_ == &sched::g_unattached) {
      sched::attach_foreign("foreign");
      th_ = sched::self();
    }
    was_ = th_->crit.load(std::memory_order_relaxed);
    th_->crit.store(1, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~unstopped() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    th_->crit.store(was_, std::memory_order_release);
    if (was_ == 0) sched::stop_if_pending(th_);
  }
  unstopped(const unstopped&) = delete;
  sched::thread* thread() const noexcept { return th_; }

 private:
  sched::thread* th_;
  int was_;
};

}  // namespace weft::gc
