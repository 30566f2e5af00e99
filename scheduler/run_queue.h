#pragma once
// The run queue of one processor: a ring of 256 tasks that its owner pushes to and everybody pops
// from.
//
// The single-producer, multiple-consumer ring of Go's scheduler: the owner alone moves tail; head
// moves by compare-and-swap, by the owner for one task and by thieves for half. A full ring sheds
// half of its tasks to the global queue, so that a producer of many tasks pays the global lock once
// in 128 pushes.
#include <atomic>
#include <cstdint>

#include "scheduler/task.h"

namespace weft::sched {

class run_queue {
 public:
  static constexpr uint32_t capacity = 256;

  // Owner only. False when full; then take_half_for_overflow() makes room.
  bool push(task* t) noexcept {
    // [ord runq.head] acquire: slots below head have been read by their consumers and may be reused
    uint32_t head = head_.load(std::memory_order_acquire);
    uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head >= capacity) return false;
    slots_[tail % capacity].store(t, std::memory_order_relaxed);
    tail_.store(tail + 1, std::memory_order_release);  // [ord runq.tail] publishes the slot
    return true;
  }

  // Owner only.
  task* pop() noexcept {
    uint32_t head = head_.load(std::memory_order_relaxed);
    for (;;) {
      uint32_t tail = tail_.load(std::memory_order_relaxed);
      if (tail == head) return nullptr;
      task* t = slots_[head % capacity].load(std::memory_order_relaxed);
      // [ord runq.head] release pairs with push and steal
      if (head_.compare_exchange_weak(head, head + 1, std::memory_order_acq_rel,
                                      std::memory_order_relaxed))
        return t;
    }
  }

  // Owner only, while there are no other processors and hence no thieves: pop() without its locked
  // instruction.
  task* pop_alone() noexcept {
    uint32_t head = head_.load(std::memory_order_relaxed);
    if (tail_.load(std::memory_order_relaxed) == head) return nullptr;
    task* t = slots_[head % capacity].load(std::memory_order_relaxed);
    head_.store(head + 1, std::memory_order_release);
    return t;
  }

  // Moves half of this queue (rounded up) to `out`, at most `max`. Any thread. Returns the number.
  uint32_t grab_half(task** out, uint32_t max) noexcept {
    uint32_t head = head_.load(std::memory_order_acquire);
    for (;;) {
      // [ord runq.tail] acquire: the slots below tail may be read
      uint32_t tail = tail_.load(std::memory_order_acquire);
      uint32_t n = tail - head;
      n -= n / 2;
      if (n == 0) return 0;
      if (n > capacity / 2) {  // head and tail were read at different times
        head = head_.load(std::memory_order_acquire);
        continue;
      }
      if (n > max) n = max;
      for (uint32_t i = 0; i < n; ++i)
        out[i] = slots_[(head + i) % capacity].load(std::memory_order_relaxed);
      if (head_.compare_exchange_strong(head, head + n, std::memory_order_acq_rel,
                                        std::memory_order_acquire))
        return n;
    }
  }

  uint32_t size() const noexcept {
    uint32_t head = head_.load(std::memory_order_acquire);
    uint32_t tail = tail_.load(std::memory_order_acquire);
    return tail - head > capacity ? 0 : tail - head;
  }
  bool empty() const noexcept { return size() == 0; }

 private:
  alignas(64) std::atomic<uint32_t> head_{0};
  alignas(64) std::atomic<uint32_t> tail_{0};
  std::atomic<task*> slots_[capacity]{};
};

// A plain FIFO of tasks linked through task::next; the holder provides the lock.
class task_list {
 public:
  void push_back(task* t) noexcept {
    t->next = nullptr;
    (tail_ != nullptr ? tail_->next : head_) = t;
    tail_ = t;
    ++size_;
  }
  task* pop_front() noexcept {
    task* t = head_;
    if (t == nullptr) return nullptr;
    head_ = t->next;
    if (head_ == nullptr) tail_ = nullptr;
    t->next = nullptr;
    --size_;
    return t;
  }
  void append(task_list& other) noexcept {
    if (other.head_ == nullptr) return;
    (tail_ != nullptr ? tail_->next : head_) = other.head_;
    tail_ = other.tail_;
    size_ += other.size_;
    other = task_list{};
  }
  bool empty() const noexcept { return head_ == nullptr; }
  size_t size() const noexcept { return size_; }

 private:
  task* head_ = nullptr;
  task* tail_ = nullptr;
  size_t size_ = 0;
};

}  // namespace weft::sched
