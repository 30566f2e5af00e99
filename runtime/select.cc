// select over channels, as Go's selectgo.
//
// First the cases are tried one after the other, in random order, each under its own channel's
// lock; mostly one is ready. If none was, all channels are locked in address order, each once, and
// the cases are tried again: only this look, at all of them in one moment, may say that nothing is
// ready. A context is ready once it is cancelled. Then a waiter is put on every channel, sharing
// one claim; the task parks and the commit step unlocks the channels in the same order, then starts
// the deadline's timer and listens to the contexts; the task waits for that before it goes on, so
// the frame outlives the commit step. Whoever claims first ends the wait; afterwards the channels
// are locked again to take the other waiters off, each in O(1).
#include <weft/select.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <new>

#include "base/clock.h"
#include "runtime/timed_wait.h"
#include "scheduler/park.h"

namespace weft::detail {
namespace {

using kind = select_case::kind;
using sched::wait_reason;

constexpr int inline_cases = 8;

// Frames of up to eight cases live on the task's stack.
template <class T, int inline_size = inline_cases>
class small_array {
 public:
  explicit small_array(int n) : data_(n <= inline_size ? inline_ : new T[static_cast<size_t>(n)]) {}
  ~small_array() {
    if (data_ != inline_) delete[] data_;
  }
  small_array(const small_array&) = delete;
  T& operator[](int i) noexcept { return data_[i]; }
  T* data() noexcept { return data_; }

 private:
  T inline_[inline_size];
  T* data_;
};

bool is_channel(const select_case& c) noexcept {
  return (c.what == kind::recv || c.what == kind::send) && c.channel != nullptr;
}

struct frame;

struct context_listener : cancel_listener {
  frame* owner = nullptr;
  cancel_source* source = nullptr;
  waiter* mine = nullptr;  // says which case it is
};

struct frame {
  chan_core** locked = nullptr;  // distinct channels in address order
  int count = 0;
  select_wait wait;
  sched::task* task = nullptr;
  small_lock arming;  // with a limit: held until the commit step no longer touches this frame
  sched::timer deadline;
  context_listener* listeners = nullptr;
  int listener_count = 0;

  bool limited() const noexcept { return deadline.fire != nullptr || listener_count > 0; }

  void lock_all() noexcept {
    for (int i = 0; i < count; ++i) locked[i]->lock();
  }
  void unlock_all() noexcept {
    // After the last unlock the woken task may already have left the frame.
    chan_core** list = locked;
    for (int i = 0, n = count; i < n; ++i) list[i]->unlock();
  }
};

void deadline_passed(sched::timer* t, int64_t) noexcept {
  auto* f = static_cast<frame*>(t->arg);
  sched::task* task = f->task;
  if (f->wait.claim(&select_wait::timed_out)) sched::ready(task);
}

void context_cancelled(cancel_listener* l) noexcept {
  auto* c = static_cast<context_listener*>(l);
  sched::task* task = c->owner->task;
  if (c->owner->wait.claim(c->mine)) sched::ready(task, false);
}

// False: one is cancelled already, and the claim is the caller's.
bool listen(frame& f) noexcept {
  for (int i = 0; i < f.listener_count; ++i) {
    context_listener& l = f.listeners[i];
    if (!l.source->subscribe(l)) return !f.wait.claim(l.mine);
  }
  return true;
}

bool commit_select(sched::task*, void* arg) {
  auto* f = static_cast<frame*>(arg);
  const bool limited = f->limited();
  f->unlock_all();
  if (!limited) return true;
  // Not before the task is off its stack: the timer may fire at once. And not under the channels'
  // locks: a timer's function runs under its heap's lock and may send to one of these channels.
  if (f->deadline.fire != nullptr) sched::add_timer(f->deadline);
  const bool stays = listen(*f);
  f->arming.unlock();
  return stays;
}

int collect_channels(select_case* cases, int n, chan_core** out) noexcept {
  int count = 0;
  if (n > 32) {
    for (int i = 0; i < n; ++i) {
      if (is_channel(cases[i])) out[count++] = cases[i].channel;
    }
    std::sort(out, out + count, std::less<>());
    return static_cast<int>(std::unique(out, out + count) - out);
  }
  for (int i = 0; i < n; ++i) {
    if (!is_channel(cases[i])) continue;
    chan_core* c = cases[i].channel;
    int at = count;
    while (at > 0 && out[at - 1] > c) --at;
    if (at > 0 && out[at - 1] == c) continue;
    for (int k = count; k > at; --k) out[k] = out[k - 1];
    out[at] = c;
    ++count;
  }
  return count;
}

// The cases in random order: of several that are ready each is as likely to be the first. One
// number serves for eight draws, as its digits in a mixed base.
void shuffle(int* order, int n, uint32_t seed) noexcept {
  uint32_t digits = seed;
  for (int i = 0; i < n; ++i) {
    if (i % 8 == 7) {
      seed ^= seed << 13;
      seed ^= seed >> 17;
      seed ^= seed << 5;
      digits = seed;
    }
    const uint64_t draw = uint64_t{digits} * static_cast<uint64_t>(i + 1);
    digits = static_cast<uint32_t>(draw);
    const auto j = static_cast<int>(draw >> 32);
    order[i] = order[j];
    order[j] = i;
  }
}

// With the channel's lock held.
chan_core::outcome attempt(const select_case& c, waiter** wake) {
  return c.what == kind::recv ? c.channel->recv_locked(c.element, wake)
                              : c.channel->send_locked(c.element, wake);
}

bool is_cancelled(const select_case& c) noexcept {
  return c.what == kind::cancelled && c.element != nullptr &&
         static_cast<cancel_source*>(c.element)->cancelled();
}

// Case i was carried out; ends the critical section.
int carried_out(sched::thread* th, select_case* cases, int i, chan_core::outcome o, waiter* wake) {
  if (wake != nullptr) sched::ready(th, wake->task);
  sched::leave(th);
  select_case& c = cases[i];
  c.success = o == chan_core::outcome::done;
  if (c.what == kind::send && !c.success) throw panic_error("send on closed channel");
  return i;
}

// None was ready by itself.
[[gnu::noinline]] int select_waiting(select_case* cases, int n, const int* order, int contexts) {
  int otherwise = -1;
  int timeout = -1;
  small_array<chan_core*> channels(n);
  small_array<context_listener, 2> listeners(contexts);
  // Here, as the channels are locked where they are used.
  const std::unique_ptr<waiter[]> many(n > inline_cases ? new waiter[static_cast<size_t>(n)]
                                                        : nullptr);
  for (int i = 0; i < n; ++i) {
    if (cases[i].what == kind::otherwise && otherwise < 0) otherwise = i;
    if (cases[i].what == kind::timeout &&
        (timeout < 0 || cases[i].timeout_ns < cases[timeout].timeout_ns))
      timeout = i;
  }
  sched::thread* th = sched::enter();
  frame f;
  f.locked = channels.data();
  f.count = collect_channels(cases, n, f.locked);

  f.lock_all();
  for (int k = 0; k < n; ++k) {
    const select_case& c = cases[order[k]];
    if (is_cancelled(c)) {
      f.unlock_all();
      sched::leave(th);
      return order[k];
    }
    if (!is_channel(c)) continue;
    waiter* wake = nullptr;
    const auto o = attempt(c, &wake);
    if (o == chan_core::outcome::would_block) continue;
    f.unlock_all();
    return carried_out(th, cases, order[k], o, wake);
  }
  int at_once = otherwise;
  if (at_once < 0 && timeout >= 0 && cases[timeout].timeout_ns <= 0) at_once = timeout;
  if (at_once >= 0) {
    f.unlock_all();
    sched::leave(th);
    return at_once;
  }

  f.task = sched::current_task(th);
  for (int i = 0; i < f.count; ++i) f.locked[i]->add_ref();
  waiter few[inline_cases];
  waiter* const waiters = many != nullptr ? many.get() : few;
  // In the shuffled order: of two cases on one channel whoever comes must not always find the same.
  for (int k = 0; k < n; ++k) {
    const int i = order[k];
    select_case& c = cases[i];
    waiter& w = waiters[i];
    w.case_index = i;
    if (c.what == kind::cancelled && c.element != nullptr) {
      context_listener& l = listeners[f.listener_count++];
      l.fire = context_cancelled;
      l.owner = &f;
      l.source = static_cast<cancel_source*>(c.element);
      l.mine = &w;
    }
    if (!is_channel(c)) continue;
    w.task = f.task;
    w.element = c.element;
    w.select = &f.wait;
    (c.what == kind::recv ? c.channel->receivers() : c.channel->senders()).push_back(&w);
  }
  f.listeners = listeners.data();
  if (timeout >= 0) {
    f.deadline.when_ns = sched::deadline_after(base::now_refresh(), cases[timeout].timeout_ns);
    f.deadline.fire = deadline_passed;
    f.deadline.arg = &f;
  }
  if (f.limited()) f.arming.lock();
  if (f.count == 0 && !f.limited()) {
    th = sched::park(th, wait_reason::select_no_cases, nullptr, nullptr, nullptr);
  } else {
    th = sched::park(th, wait_reason::select, f.count > 0 ? f.locked[0] : nullptr, commit_select,
                     &f);
  }

  if (f.limited()) {
    f.arming.lock();
    sched::remove_timer(f.deadline);
    for (int i = 0; i < f.listener_count; ++i) listeners[i].source->unsubscribe(listeners[i]);
  }
  f.lock_all();
  for (int i = 0; i < n; ++i) {
    select_case& c = cases[i];
    if (is_channel(c) && waiters[i].queued)
      (c.what == kind::recv ? c.channel->receivers() : c.channel->senders()).erase(&waiters[i]);
  }
  f.unlock_all();
  sched::leave(th);
  for (int i = 0; i < f.count; ++i) f.locked[i]->drop_ref();
  waiter* winner = f.wait.winner.load(std::memory_order_acquire);
  if (winner == &select_wait::timed_out) return timeout;
  int chosen = winner->case_index;
  cases[chosen].success = winner->success;
  if (cases[chosen].what == kind::send && !winner->success)
    throw panic_error("send on closed channel");
  return chosen;
}

}  // namespace

int select_cases(select_case* cases, int n) {
  small_array<int> order(n);
  int contexts = 0;
  for (int i = 0; i < n; ++i) {
    if (cases[i].what != kind::cancelled) continue;
    cases[i].element = limit_of(*cases[i].ctx).cancellation;
    if (cases[i].element != nullptr) ++contexts;
  }
  sched::thread* th = sched::enter();
  shuffle(order.data(), n, sched::next_random_number());
  for (int k = 0; k < n; ++k) {
    select_case& c = cases[order[k]];
    if (is_channel(c)) {
      waiter* wake = nullptr;
      c.channel->lock();
      const auto o = attempt(c, &wake);
      c.channel->unlock();
      if (o != chan_core::outcome::would_block) return carried_out(th, cases, order[k], o, wake);
    } else if (is_cancelled(c)) {
      sched::leave(th);
      return order[k];
    }
  }
  sched::leave(th);
  return select_waiting(cases, n, order.data(), contexts);
}

}  // namespace weft::detail
