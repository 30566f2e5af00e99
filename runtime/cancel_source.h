#pragma once
// Where a wait that a context limits is told of the cancellation.
#include <weft/detail/waiter.h>

#include <atomic>

namespace weft::detail {

// A place in a source's list; lives in the frame of whoever listens. `fire` runs at most once, with
// the source's lock held and the listener already off the list: it may claim a wait and ready a
// task, no more. It may run before subscribe() has returned.
struct cancel_listener {
  void (*fire)(cancel_listener* self) noexcept = nullptr;
  cancel_listener* prev = nullptr;
  cancel_listener* next = nullptr;
  bool queued = false;
};

// The part of a context that waits see: cancelled once, for good. All calls inside a critical
// section; the lock is a leaf but for what ready() takes.
class cancel_source {
 public:
  cancel_source() noexcept = default;
  cancel_source(const cancel_source&) = delete;

  // [ord cancel.state] acquire: the error and the cause can be read. Callable anywhere.
  bool cancelled() const noexcept { return cancelled_.load(std::memory_order_acquire); }

  // False if the source is cancelled: then l.fire is not and will not be called.
  bool subscribe(cancel_listener& l) noexcept {
    lock_.lock();
    const bool open = !cancelled_.load(std::memory_order_relaxed);
    if (open) push(l);
    lock_.unlock();
    return open;
  }

  // After this l.fire does not run: either it never will, or it has run to its end, because it runs
  // under the lock. Also right for a listener that was refused.
  void unsubscribe(cancel_listener& l) noexcept {
    lock_.lock();
    if (l.queued) erase(l);
    lock_.unlock();
  }

 protected:
  // Calls every listener, a batch per hold of the lock. After cancelled_ is set nobody joins.
  void fire_listeners() noexcept;

  void push(cancel_listener& l) noexcept {
    l.queued = true;
    l.prev = nullptr;
    l.next = first_;
    if (first_ != nullptr) first_->prev = &l;
    first_ = &l;
  }
  void erase(cancel_listener& l) noexcept {
    l.queued = false;
    (l.prev != nullptr ? l.prev->next : first_) = l.next;
    if (l.next != nullptr) l.next->prev = l.prev;
  }

  small_lock lock_;
  std::atomic<bool> cancelled_{false};  // written under lock_
  cancel_listener* first_ = nullptr;
};

}  // namespace weft::detail
