// Channels: chan(capacity) is a ring buffer with a FIFO of waiting receivers and one of waiting
// senders.
//
// Invariants, under the channel's lock (as in Go's chan.go):
//   [C1] receivers wait  => the buffer is empty and no sender waits (but one of the same select)
//   [C2] senders wait    => the buffer is full and no receiver waits (same exception)
//   [C3] closed          => nobody waits
// A value goes straight to a waiting receiver, into that task's frame; a receive from a full buffer
// moves the first waiting sender's value to its tail. So no value overtakes another. A waiter is
// woken exactly once: by whoever takes it off the list, for a case of a select only after winning
// the claim that all cases of that select share. The lock is released by the parked task's commit
// step, so a waker cannot meet a task that is still on its stack.
#include <weft/chan.h>
#include <weft/context.h>
#include <weft/detail/chan_core.h>
#include <weft/gc/detail/heap.h>

#include <cstring>
#include <limits>

#include "runtime/timed_wait.h"
#include "runtime/wake.h"
#include "scheduler/park.h"

namespace weft::detail {

using sched::wait_reason;

namespace {

const element_ops no_elements{0, 1, true, false, nullptr, nullptr};

bool commit_unlock(sched::task*, void* core) {
  static_cast<chan_core*>(core)->unlock();
  return true;
}

error_code error_of(chan_core::wait_outcome o, error_code expired) noexcept {
  if (o == chan_core::wait_outcome::done) return {};
  return o == chan_core::wait_outcome::closed ? errc::channel_closed : expired;
}

}  // namespace

inline void chan_core::empty(void* slot) noexcept {
  if (!ops_.trivial) ops_.destroy(slot);
  if (!ops_.traced) return;
  // A slot without a value keeps nothing alive. Concurrent marking is told what it referred to.
  auto* words = static_cast<std::atomic<void*>*>(slot);
  for (size_t i = 0; i < ops_.size / sizeof(void*); ++i) {
    void* old = words[i].load(std::memory_order_relaxed);
    words[i].store(nullptr, std::memory_order_release);
    gc::detail::overwritten(old);
  }
}

inline void chan_core::move(void* to, void* from) noexcept {
  if (ops_.trivial && ops_.size == sizeof(uint64_t)) [[likely]]
    std::memcpy(to, from, sizeof(uint64_t));
  else if (ops_.trivial)
    std::memcpy(to, from, ops_.size);
  else
    ops_.move(to, from);
}

chan_ref chan_core::make(const element_ops& ops, size_t capacity) {
  size_t align = ops.align > alignof(chan_core) ? ops.align : alignof(chan_core);
  size_t head = (sizeof(chan_core) + align - 1) / align * align;
  constexpr size_t most = std::numeric_limits<std::ptrdiff_t>::max();
  if (capacity > (most - head) / ops.size) throw panic_error("makechan: size out of range");
  if (ops.traced) {
    auto* buffer = capacity != 0
                       ? static_cast<std::byte*>(gc::detail::allocate_traced(capacity * ops.size))
                       : nullptr;
    return chan_ref(new chan_core(ops, capacity, buffer));
  }
  auto* memory =
      static_cast<std::byte*>(::operator new (head + capacity * ops.size, std::align_val_t{align}));
  return chan_ref(new (memory) chan_core(ops, capacity, memory + head));
}

chan_core& chan_core::nil() noexcept {
  static chan_core* const core = [] {
    auto* c = new chan_core(no_elements, 0, nullptr);
    c->nil_ = true;
    return c;
  }();
  return *core;
}

void chan_core::drop_ref() noexcept {
  if (refs_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (source_ != nullptr) source_->abandoned();
  discard_locked();
  if (ops_.traced) {
    gc::detail::free_traced(buffer_);
    delete this;
    return;
  }
  size_t align = ops_.align > alignof(chan_core) ? ops_.align : alignof(chan_core);
  this->~chan_core();
  ::operator delete (static_cast<void*>(this), std::align_val_t{align});
}

bool chan_core::discard_locked() noexcept {
  size_t n = count_.load(std::memory_order_relaxed);
  if (n == 0) return false;
  for (; n > 0; --n) {
    empty(at(head_));
    head_ = head_ + 1 == capacity_ ? 0 : head_ + 1;
  }
  count_.store(0, std::memory_order_relaxed);
  return true;
}

inline waiter* chan_core::pop_claimed(waiter_list& list) noexcept {
  while (waiter* w = list.pop_front()) {
    if (w->select == nullptr || w->select->claim(w)) return w;
    // Another case of that select won; its task removes the rest of its waiters itself.
  }
  return nullptr;
}

inline waiter* chan_core::pop_receiver() noexcept { return pop_claimed(receivers_); }
inline waiter* chan_core::pop_sender() noexcept { return pop_claimed(senders_); }

chan_core::outcome chan_core::send_locked(void* from, waiter** to_wake) {
  if (closed_) return outcome::closed;
  if (waiter* r = pop_receiver()) {
    move(r->element, from);
    r->success = true;
    *to_wake = r;
    return outcome::done;
  }
  size_t count = count_.load(std::memory_order_relaxed);
  if (count == capacity_) return outcome::would_block;
  size_t tail = head_ + count;
  move(at(tail >= capacity_ ? tail - capacity_ : tail), from);
  count_.store(count + 1, std::memory_order_relaxed);
  return outcome::done;
}

chan_core::outcome chan_core::recv_locked(void* to, waiter** to_wake) {
  size_t count = count_.load(std::memory_order_relaxed);
  if (count > 0) {
    move(to, at(head_));
    empty(at(head_));
    size_t freed = head_;
    head_ = head_ + 1 == capacity_ ? 0 : head_ + 1;
    if (waiter* s = pop_sender()) {
      // The buffer was full, so the slot just freed is its new tail.
      move(at(freed), s->element);
      s->success = true;
      *to_wake = s;
    } else {
      count_.store(count - 1, std::memory_order_relaxed);
    }
    return outcome::done;
  }
  if (waiter* s = pop_sender()) {
    move(to, s->element);
    s->success = true;
    *to_wake = s;
    return outcome::done;
  }
  return closed_ ? outcome::closed : outcome::would_block;
}

void chan_core::send(void* from) {
  sched::thread* th = sched::enter();
  lock_.lock();
  waiter* wake = nullptr;
  outcome o = outcome::would_block;
  if (!nil_) [[likely]]
    o = send_locked(from, &wake);
  if (o == outcome::would_block) {
    waiter me;
    me.task = sched::current_task(th);
    me.element = from;
    if (!nil_) senders_.push_back(&me);
    th = sched::park(th, nil_ ? wait_reason::chan_send_nil : wait_reason::chan_send, this,
                     commit_unlock, this);
    sched::leave(th);
    if (!me.success) throw panic_error("send on closed channel");
    return;
  }
  lock_.unlock();
  if (wake != nullptr) sched::ready(th, wake->task);
  sched::leave(th);
  if (o == outcome::closed) throw panic_error("send on closed channel");
}

bool chan_core::recv(void* to) {
  sched::thread* th = sched::enter();
  lock_.lock();
  waiter* wake = nullptr;
  outcome o = outcome::would_block;
  if (!nil_) [[likely]]
    o = recv_locked(to, &wake);
  if (o == outcome::would_block) {
    waiter me;
    me.task = sched::current_task(th);
    me.element = to;
    if (!nil_) receivers_.push_back(&me);
    th = sched::park(th, nil_ ? wait_reason::chan_receive_nil : wait_reason::chan_receive, this,
                     commit_unlock, this);
    sched::leave(th);
    return me.success;
  }
  lock_.unlock();
  if (wake != nullptr) sched::ready(th, wake->task);
  sched::leave(th);
  return o == outcome::done;
}

// A value moves only after the waker has won the waiter's claim, so what a limit ends has neither
// taken nor given anything.
chan_core::wait_outcome chan_core::wait_locked(waiter& me, waiter_list& list,
                                               const wait_limit& limit,
                                               wait_reason reason) noexcept {
  me.task = sched::current_task();
  if (!nil_) list.push_back(&me);
  // A wait on the nil channel that will end names no channel, for chandead.
  if (wait_until(me, limit, reason, nil_ && !limit.none() ? nullptr : this, lock_))
    return me.success ? wait_outcome::done : wait_outcome::closed;
  if (me.queued) list.erase(&me);
  lock_.unlock();
  return wait_outcome::expired;
}

chan_core::wait_outcome chan_core::send_within(void* from, const wait_limit& limit) noexcept {
  if (limit.cancelled()) return wait_outcome::expired;
  sched::critical in_runtime;
  lock_.lock();
  waiter* wake = nullptr;
  outcome o = outcome::would_block;
  if (!nil_) o = send_locked(from, &wake);
  if (o == outcome::would_block) {
    waiter me;
    me.element = from;
    return wait_locked(me, senders_, limit,
                       nil_ ? wait_reason::chan_send_nil : wait_reason::chan_send);
  }
  lock_.unlock();
  if (wake != nullptr) sched::ready(wake->task);
  return o == outcome::done ? wait_outcome::done : wait_outcome::closed;
}

chan_core::wait_outcome chan_core::recv_within(void* to, const wait_limit& limit) noexcept {
  if (limit.cancelled()) return wait_outcome::expired;
  sched::critical in_runtime;
  lock_.lock();
  waiter* wake = nullptr;
  outcome o = outcome::would_block;
  if (!nil_) o = recv_locked(to, &wake);
  if (o == outcome::would_block) {
    waiter me;
    me.element = to;
    return wait_locked(me, receivers_, limit,
                       nil_ ? wait_reason::chan_receive_nil : wait_reason::chan_receive);
  }
  lock_.unlock();
  if (wake != nullptr) sched::ready(wake->task);
  return o == outcome::done ? wait_outcome::done : wait_outcome::closed;
}

error_code send_limited(chan_core& c, void* from, std::chrono::steady_clock::time_point t) {
  return error_of(c.send_within(from, limit_at(t)), errc::timed_out);
}
error_code send_limited(chan_core& c, void* from, std::chrono::nanoseconds d) {
  return error_of(c.send_within(from, limit_after(d)), errc::timed_out);
}
error_code send_limited(chan_core& c, void* from, const context& ctx) {
  const auto o = c.send_within(from, limit_of(ctx));
  return o == chan_core::wait_outcome::expired ? ctx.err() : error_of(o, {});
}
error_code recv_limited(chan_core& c, void* to, std::chrono::steady_clock::time_point t) {
  return error_of(c.recv_within(to, limit_at(t)), errc::timed_out);
}
error_code recv_limited(chan_core& c, void* to, std::chrono::nanoseconds d) {
  return error_of(c.recv_within(to, limit_after(d)), errc::timed_out);
}
error_code recv_limited(chan_core& c, void* to, const context& ctx) {
  const auto o = c.recv_within(to, limit_of(ctx));
  return o == chan_core::wait_outcome::expired ? ctx.err() : error_of(o, {});
}

bool chan_core::try_send(void* from) {
  if (nil_) return false;
  sched::critical in_runtime;
  lock_.lock();
  waiter* wake = nullptr;
  outcome o = send_locked(from, &wake);
  lock_.unlock();
  if (wake != nullptr) sched::ready(wake->task);
  if (o == outcome::closed) throw panic_error("send on closed channel");
  return o == outcome::done;
}

bool chan_core::try_recv(void* to, bool& open) {
  open = true;
  if (nil_) return false;
  sched::critical in_runtime;
  lock_.lock();
  waiter* wake = nullptr;
  outcome o = recv_locked(to, &wake);
  lock_.unlock();
  if (wake != nullptr) sched::ready(wake->task);
  open = o != outcome::closed;
  return o == outcome::done;
}

void chan_core::close() {
  if (nil_) throw panic_error("close of nil channel");
  sched::critical in_runtime;
  if (!close_inside()) throw panic_error("close of closed channel");
}

bool chan_core::close_inside() noexcept {
  lock_.lock();
  if (closed_) {
    lock_.unlock();
    return false;
  }
  closed_ = true;
  waiter_list woken;
  while (waiter* w = pop_receiver()) woken.push_back(w);
  while (waiter* w = pop_sender()) woken.push_back(w);
  lock_.unlock();
  wake_all(woken);
  return true;
}

}  // namespace weft::detail
