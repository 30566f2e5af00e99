#pragma once
// What the headers of the primitives need to embed: a small lock and an intrusive list of waiters.
#include <weft/detail/config.h>
#include <weft/detail/lock_listener.h>

#include <atomic>
#include <cstdint>

namespace weft::sched {
struct task;
enum class wait_reason : uint8_t;
}  // namespace weft::sched

namespace weft {
class context;
}

namespace weft::detail {

// base::spinlock behind an installed name.
class small_lock {
 public:
  void lock() noexcept {
    if (word_.exchange(base::lock_held, std::memory_order_acquire) != base::lock_free) lock_slow();
  }
  void unlock() noexcept { base::release_lock(word_); }

 private:
  void lock_slow() noexcept;
  std::atomic<uint8_t> word_{base::lock_free};
};

class chan_core;
struct debug_offsets;  // debug_layout.cc
struct select_wait;
struct wait_limit;

// One task's place in one wait list. Lives on the waiting task's stack; all fields but `select` are
// guarded by the lock of the list's owner.
struct waiter {
  sched::task* task = nullptr;
  waiter* prev = nullptr;
  waiter* next = nullptr;
  void* element = nullptr;  // channels: where the value is or goes
  select_wait* select =
      nullptr;  // not null: one of several cases; the waker must win select->claim()
  int case_index = 0;
  bool queued = false;
  bool success = false;  // channels: false when woken by close. Locks: ownership handed over
  bool parked = false;   // condition variables: the task is off its stack
  int64_t since_ns = 0;  // locks: when it began to wait; 0 if nobody asks
};

class waiter_list {
 public:
  bool empty() const noexcept { return head_ == nullptr; }
  waiter* front() const noexcept { return head_; }
  waiter* back() const noexcept { return tail_; }
  void push_back(waiter* w) noexcept {
    w->queued = true;
    w->next = nullptr;
    w->prev = tail_;
    (tail_ != nullptr ? tail_->next : head_) = w;
    tail_ = w;
  }
  void push_front(waiter* w) noexcept {
    w->queued = true;
    w->prev = nullptr;
    w->next = head_;
    (head_ != nullptr ? head_->prev : tail_) = w;
    head_ = w;
  }
  void erase(waiter* w) noexcept {
    w->queued = false;
    (w->prev != nullptr ? w->prev->next : head_) = w->next;
    (w->next != nullptr ? w->next->prev : tail_) = w->prev;
    w->prev = w->next = nullptr;
  }
  waiter* pop_front() noexcept {
    waiter* w = head_;
    if (w != nullptr) erase(w);
    return w;
  }

 private:
  waiter* head_ = nullptr;
  waiter* tail_ = nullptr;
};

}  // namespace weft::detail
