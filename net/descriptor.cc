// The descriptor protocol: who may use a file descriptor, who waits on it, and who wakes whom.
//
// Words      use: the span of one operation. word: the readiness word of one direction. waiter:
// what a
//            word holds while somebody waits, a parked task or a starter. kick: to end a wait
//            without readiness, so that the waiter looks at `closed` and its deadline again.
// Word       FROM     -> TO       cause
//             idle     -> ready    edge from the poller, or a user gives readiness back
//             ready    -> idle     a user takes the readiness, before it does the operation
//             idle     -> intent   a user is about to park
//             intent   -> ready    edge;  -> idle  kick, or the user changed its mind
//             intent   -> waiting  the park's commit step, on the scheduler's side
//             idle     -> waiting  a starter is armed
//             waiting  -> ready    edge;  -> idle  kick. Whoever does it owns the waiter and runs
//             it.
// Invariants [D1] A waiter is run exactly once: by the winner of the exchange out of `waiting`.
//            [D2] Edges are not lost: readiness is taken before the operation, so one that arrives
//            during
//                 it stays in the word.
//            [D3] close and deadlines are not lost: both are stored before the word is kicked, and
//            a user
//                 looks at both after `intent` (or `waiting` for a starter) is visible. One sees
//                 the other.
//            [D4] A word changes only for the generation that it carries, so an event of an earlier
//            life,
//                 of a recycled fd number or of a duplicate that outlived close() reaches nobody.
//            [D5] The fd is open while there are users; it is closed once, by whoever makes the
//            state
//                 "closed, no users". The record returns to the pool after that and after
//                 destroy().
// Deadlines  A store, if the timer is due no later than the new deadline. The timer then fires
// early, finds
//            what the deadlines are now and links itself anew. A stale expiry cannot do harm:
//            expire() exchanges the very value that it found passed for `expired`, and fails if it
//            was moved.
// Contexts   Cancelling one is a third such fact, stored before a kick by a listener that stays for
//            the length of one wait(). No request of a wait lives in the kernel, with either
//            poller: a standing registration reports edges, and the operation itself never blocks.
//            So there is nothing to cancel there, and no buffer that a completion could still write
//            to.
// Not done   Consuming readiness after the operation: an edge between the two would be lost or need
// a tick
//            count as in tokio. A waiter that trusts its waker's reason: every wake is a hint, and
//            the woken task looks at the facts, which also covers deadlines moved between wake and
//            run.
// Locks      timer_lock_ -> the scheduler's timer heap. queue_lock_ is a leaf, released by park.
#include "net/descriptor.h"

#include <unistd.h>

#include <mutex>
#include <new>

#include "base/check.h"
#include "base/clock.h"
#include "net/poller.h"
#include "scheduler/ports.h"

namespace weft::net {

struct descriptor_pool {
  base::spinlock lock;
  descriptor* free = nullptr;
  std::atomic<int64_t> open{0};

  descriptor* take() noexcept {
    std::lock_guard hold(lock);
    if (free == nullptr) grow();
    descriptor* d = free;
    free = d->pool_next_;
    d->pool_next_ = nullptr;
    return d;
  }

  void give(descriptor* d) noexcept {
    std::lock_guard hold(lock);
    d->pool_next_ = free;
    free = d;
  }

  // Chunks are kept for good: tags in the kernel may point into them.
  void grow() noexcept {
    constexpr int batch = 32;
    auto* chunk = new descriptor[batch];
    for (int i = 0; i < batch; ++i) {
      chunk[i].pool_next_ = free;
      free = &chunk[i];
    }
  }
};

namespace {

descriptor_pool& pool() noexcept {
  static auto* const p = new descriptor_pool;
  return *p;
}

// IN, PRI, RDHUP, HUP, ERR: a read would say something. OUT, HUP, ERR: so would a write.
constexpr uint32_t in_events = 0x1 | 0x2 | 0x2000 | 0x10 | 0x8;
constexpr uint32_t out_events = 0x4 | 0x10 | 0x8;
constexpr uint32_t hang_up_events = 0x2000 | 0x10 | 0x8;

// Tags: address / 64 in the upper 48 bits, generation below.
constexpr int tag_generation_bits = 16;

}  // namespace

uint64_t descriptor::tag() const noexcept {
  return (static_cast<uint64_t>(reinterpret_cast<uintptr_t>(this)) / 64) << tag_generation_bits |
         generation();
}

descriptor* descriptor::from_tag(uint64_t tag) noexcept {
  return reinterpret_cast<descriptor*>(static_cast<uintptr_t>((tag >> tag_generation_bits) * 64));
}

int64_t descriptor::open_count() noexcept { return pool().open.load(std::memory_order_relaxed); }

result<descriptor*> descriptor::open(int fd, const options& o) noexcept {
  io_poller& io = ensure_poller();
  descriptor* d = pool().take();
  d->fd_.store(fd, std::memory_order_relaxed);
  d->events_.store(0, std::memory_order_relaxed);
  d->watch_.store(o.watch, std::memory_order_relaxed);
  d->hung_up_.store(false, std::memory_order_relaxed);
  d->merged_.store(o.merged, std::memory_order_relaxed);
  d->shared_.store(false, std::memory_order_relaxed);
  d->deadline_[0].store(no_deadline, std::memory_order_relaxed);
  d->deadline_[1].store(no_deadline, std::memory_order_relaxed);
  const uint64_t top = d->generation() << generation_shift;
  d->word_[0].store(top | idle_word, std::memory_order_relaxed);
  d->word_[1].store(top | (o.writable_at_start ? ready_word : idle_word),
                    std::memory_order_relaxed);
  d->hang_up_watch_.store(top, std::memory_order_relaxed);
  // [ord desc.state] release: whoever enters sees the fields above
  d->state_.store(0, std::memory_order_release);
  // [ord desc.life] The tag travels through the kernel; this store publishes the record to
  // deliver().
  d->generation_.store(d->generation(), std::memory_order_release);
  pool().open.fetch_add(1, std::memory_order_relaxed);
  if (error_code e = io.add(fd, d->tag(), o.watch)) {
    // Not registered, so nobody else knows the record; the fd stays the caller's.
    pool().open.fetch_sub(1, std::memory_order_relaxed);
    d->generation_.store((d->generation() + 1) & 0xffff, std::memory_order_release);
    d->state_.store(closed_bit, std::memory_order_relaxed);
    pool().give(d);
    return e;
  }
  return d;
}

// -- users

error_code descriptor::enter() noexcept {
  uint64_t s = state_.load(std::memory_order_relaxed);
  do {
    if ((s & closed_bit) != 0) return errc::closed;
  } while (!state_.compare_exchange_weak(s, s + users_one, std::memory_order_acquire,
                                         std::memory_order_relaxed));
  return {};
}

void descriptor::leave() noexcept { drop_user(0); }

error_code descriptor::enter(direction d, detail::cancel_source* stop) noexcept {
  uint64_t s = state_.load(std::memory_order_relaxed);
  for (;;) {
    if ((s & closed_bit) != 0) return errc::closed;
    if ((s & lock_bit[index(d)]) != 0) return enter_slow(d, stop);
    // [ord desc.state] acquire: what the last holder of this direction did
    if (state_.compare_exchange_weak(s, (s | lock_bit[index(d)]) + users_one,
                                     std::memory_order_acquire, std::memory_order_relaxed))
      return {};
  }
}

error_code descriptor::enter_slow(direction d, detail::cancel_source* stop) noexcept {
  const uint64_t lock = lock_bit[index(d)], queue = queue_bit[index(d)];
  sched::enter();
  queue_lock_.lock();
  uint64_t s = state_.load(std::memory_order_relaxed);
  for (;;) {
    if ((s & closed_bit) != 0) {
      queue_lock_.unlock();
      sched::leave();
      return errc::closed;
    }
    if ((s & lock) == 0) {
      if (!state_.compare_exchange_weak(s, (s | lock) + users_one, std::memory_order_acquire,
                                        std::memory_order_relaxed))
        continue;
      queue_lock_.unlock();
      sched::leave();
      return {};
    }
    // The holder sees the bit when it leaves and then needs queue_lock_ to hand the direction over.
    if ((s & queue) != 0 || state_.compare_exchange_weak(s, s | queue, std::memory_order_relaxed,
                                                         std::memory_order_relaxed))
      break;
  }
  detail::waiter me;
  me.task = sched::current_task();
  detail::waiter_list& waiters = lock_queue_[index(d)];
  waiters.push_back(&me);
  if (!detail::wait_until(me, stop, sched::wait_reason::io_wait, this, queue_lock_)) {
    if (me.queued) waiters.erase(&me);
    if (waiters.empty()) state_.fetch_and(~queue, std::memory_order_relaxed);
    queue_lock_.unlock();
    sched::leave();
    return errc::canceled;
  }
  sched::leave();
  // The direction and a use came with the wake-up.
  if ((state_.load(std::memory_order_acquire) & closed_bit) == 0) return {};
  leave(d);
  return errc::closed;
}

void descriptor::leave(direction d) noexcept {
  uint64_t s = state_.load(std::memory_order_relaxed);
  if ((s & queue_bit[index(d)]) != 0) {
    hand_over(d);
    return;
  }
  drop_user(lock_bit[index(d)]);
}

void descriptor::hand_over(direction d) noexcept {
  sched::enter();
  queue_lock_.lock();
  detail::waiter* w = detail::pop_claimable(lock_queue_[index(d)]);
  if (lock_queue_[index(d)].empty())
    state_.fetch_and(~queue_bit[index(d)], std::memory_order_relaxed);
  queue_lock_.unlock();
  // [ord desc.state] the task's state door publishes what was done here
  if (w != nullptr) sched::ready(w->task, false);
  sched::leave();
  if (w == nullptr) drop_user(lock_bit[index(d)]);  // all of them were cancelled
}

// Ends a use and clears `bits`, the lock of its direction.
void descriptor::drop_user(uint64_t bits, bool inside_scheduler) noexcept {
  uint64_t s = state_.load(std::memory_order_relaxed);
  uint64_t to;
  do {
    // Somebody queued up for the lock since leave() looked.
    for (direction d : {direction::in, direction::out}) {
      if ((bits & lock_bit[index(d)]) != 0 && (s & queue_bit[index(d)]) != 0) {
        hand_over(d);
        return;
      }
    }
    to = (s & ~bits) - users_one;
    // [ord desc.state] release: the next holder, or whoever closes, sees this use's effects
  } while (
      !state_.compare_exchange_weak(s, to, std::memory_order_acq_rel, std::memory_order_relaxed));
  if ((to & closed_bit) != 0 && to / users_one == 0) close_fd(inside_scheduler);
}

bool descriptor::close() noexcept {
  // The generation cannot change before this function lets go of its use.
  uint64_t s = state_.load(std::memory_order_relaxed);
  do {
    if ((s & closed_bit) != 0) return false;
  } while (!state_.compare_exchange_weak(s, (s | closed_bit) + users_one, std::memory_order_seq_cst,
                                         std::memory_order_relaxed));
  const uint64_t g = generation();
  kick(direction::in, g);
  kick(direction::out, g);
  if (starter* watch = take_watch(g)) {
    sched::critical c;
    sched::start_task(watch->start, watch->arg, watch->created_by);
  }
  drop_user(0);
  return true;
}

void descriptor::close_fd(bool inside_scheduler) noexcept {
  if (!inside_scheduler) sched::enter();
  timer_lock_.lock();
  sched::remove_timer(timer_);
  armed_at_.store(sched::never_ns, std::memory_order_relaxed);
  timer_lock_.unlock();
  if (!inside_scheduler) sched::leave();
  const int fd = fd_.load(std::memory_order_relaxed);
  ensure_poller().remove(fd, tag(), shared_.load(std::memory_order_relaxed));
  // From here an event of this life changes no word [D4].
  const uint64_t next = (generation() + 1) & 0xffff;
  generation_.store(next, std::memory_order_release);
  for (auto& w : word_) w.store(next << generation_shift | idle_word, std::memory_order_release);
  fd_.store(-1, std::memory_order_relaxed);
  ::close(fd);
  pool().open.fetch_sub(1, std::memory_order_relaxed);
  if ((state_.fetch_or(fd_gone_bit, std::memory_order_acq_rel) & handle_gone_bit) != 0)
    pool().give(this);
}

void descriptor::destroy() noexcept {
  close();
  if ((state_.fetch_or(handle_gone_bit, std::memory_order_acq_rel) & fd_gone_bit) != 0)
    pool().give(this);
}

// -- waiting

error_code descriptor::check(direction d) const noexcept {
  if ((state_.load(std::memory_order_seq_cst) & closed_bit) != 0) return errc::closed;
  int64_t when = deadline_[index(d)].load(std::memory_order_seq_cst);
  // The coarse clock may lag, which only lets an operation begin that the timer ends in time.
  if (when != no_deadline && when <= base::coarse_ns()) return errc::deadline_exceeded;
  return {};
}

bool descriptor::commit_wait(sched::task*, void* arg) {
  auto* a = static_cast<commit_arg*>(arg);
  uint64_t expected = a->intent;
  // After success *a is the woken task's again: nothing may follow.
  return a->word->compare_exchange_strong(expected, a->waiting, std::memory_order_acq_rel,
                                          std::memory_order_relaxed);
}

// Ends a wait when a context is cancelled. The user that waits keeps the descriptor's life.
struct descriptor::context_listener : detail::cancel_listener {
  context_listener(descriptor& d, direction dir) noexcept : self(d), waits(dir) {
    fire = [](detail::cancel_listener* l) noexcept {
      auto* mine = static_cast<context_listener*>(l);
      mine->self.kick_inside(mine->waits, mine->self.generation());
    };
  }

  // False: cancelled already.
  bool listen(detail::cancel_source* stop) noexcept {
    if (stop == nullptr || source != nullptr) return true;
    sched::critical c;
    if (!stop->subscribe(*this)) return false;
    source = stop;
    return true;
  }
  ~context_listener() {
    if (source == nullptr) return;
    sched::critical c;
    source->unsubscribe(*this);
  }
  descriptor& self;
  direction waits;
  detail::cancel_source* source = nullptr;
};

error_code descriptor::wait(direction d, detail::cancel_source* stop) noexcept {
  std::atomic<uint64_t>& word = word_[index(d)];
  context_listener listener(*this, d);
  for (;;) {
    if (error_code e = check(d)) return e;
    if (stop != nullptr && stop->cancelled()) return errc::canceled;
    uint64_t w = word.load(std::memory_order_acquire);
    if (payload(w) == ready_word) {
      if (word.compare_exchange_strong(w, with_payload(w, idle_word), std::memory_order_acq_rel,
                                       std::memory_order_relaxed))
        return {};
      continue;
    }
    WEFT_CHECK(payload(w) == idle_word);  // the direction's lock admits one waiter
    uint64_t intent = with_payload(w, intent_word);
    if (!word.compare_exchange_strong(w, intent, std::memory_order_seq_cst)) continue;
    if (check(d) || !listener.listen(stop)) {  // [D3]
      word.compare_exchange_strong(intent, with_payload(intent, idle_word),
                                   std::memory_order_acq_rel, std::memory_order_relaxed);
      continue;
    }
    sched::enter();
    commit_arg arg{&word, intent,
                   with_payload(intent, reinterpret_cast<uintptr_t>(sched::current_task()))};
    sched::park(sched::wait_reason::io_wait, this, commit_wait, &arg);
    sched::leave();
  }
}

void descriptor::set_ready(direction d) noexcept {
  uint64_t w = word_[index(d)].load(std::memory_order_relaxed);
  while (payload(w) == idle_word && !word_[index(d)].compare_exchange_weak(
                                        w, with_payload(w, ready_word), std::memory_order_acq_rel,
                                        std::memory_order_relaxed)) {
  }
}

bool descriptor::take_ready(direction d) noexcept {
  uint64_t w = word_[index(d)].load(std::memory_order_relaxed);
  while (payload(w) == ready_word) {
    if (word_[index(d)].compare_exchange_weak(w, with_payload(w, idle_word),
                                              std::memory_order_acq_rel, std::memory_order_relaxed))
      return true;
  }
  return false;
}

bool descriptor::arm(starter* s) noexcept {
  const uint64_t g = generation();
  std::atomic<uint64_t>& word = word_[index(direction::in)];
  const uint64_t waiting = g << generation_shift | reinterpret_cast<uintptr_t>(s) | starter_mark;
  for (;;) {
    if (check(direction::in)) return false;
    uint64_t w = word.load(std::memory_order_relaxed);
    if (payload(w) == ready_word) return false;
    WEFT_CHECK(payload(w) == idle_word);
    if (word.compare_exchange_strong(w, waiting, std::memory_order_seq_cst)) break;
  }
  // The record may be in its next life by now. Then check() speaks of that one, and a kick of the
  // old generation does nothing.
  if (check(direction::in)) kick(direction::in, g);  // [D3]
  return true;
}

// As with a word: whoever exchanges the starter out of it owns it, and only in the life that it was
// put there for. The fact is stored before the watch is taken, and looked at after it is set [D3].
bool descriptor::watch_hang_up(starter* s) noexcept {
  hang_up_watch_.store(generation() << generation_shift | reinterpret_cast<uintptr_t>(s),
                       std::memory_order_seq_cst);
  const bool over = hung_up() || (state_.load(std::memory_order_seq_cst) & closed_bit) != 0;
  return !over || !unwatch_hang_up(s);
}

bool descriptor::unwatch_hang_up(starter* s) noexcept {
  uint64_t w = hang_up_watch_.load(std::memory_order_seq_cst);
  return payload(w) == reinterpret_cast<uintptr_t>(s) &&
         hang_up_watch_.compare_exchange_strong(w, with_payload(w, 0), std::memory_order_seq_cst);
}

starter* descriptor::take_watch(uint64_t generation) noexcept {
  uint64_t w = hang_up_watch_.load(std::memory_order_seq_cst);
  if (w >> generation_shift != generation || payload(w) == 0 ||
      !hang_up_watch_.compare_exchange_strong(w, with_payload(w, 0), std::memory_order_seq_cst))
    return nullptr;
  return reinterpret_cast<starter*>(payload(w));
}

uint64_t descriptor::take_waiter(direction d, uint64_t generation, bool becomes_ready) noexcept {
  std::atomic<uint64_t>& word = word_[index(d)];
  uint64_t w = word.load(std::memory_order_seq_cst);
  for (;;) {
    if (w >> generation_shift != generation) return 0;  // [D4]
    const uint64_t p = payload(w);
    if (p == ready_word || (p == idle_word && !becomes_ready)) return 0;
    const uint64_t to = with_payload(w, becomes_ready ? ready_word : idle_word);
    // [ord desc.word] release: the waker's facts; acquire: the waiter's
    if (word.compare_exchange_weak(w, to, std::memory_order_seq_cst)) {
      return p == idle_word || p == intent_word ? 0 : p;
    }
  }
}

// Inside a critical section, but not inside poll().
void descriptor::kick_inside(direction d, uint64_t generation) noexcept {
  uint64_t waiter = take_waiter(d, generation, false);
  if (waiter == 0) return;
  if ((waiter & starter_mark) != 0)
    ensure_poller().start_soon(reinterpret_cast<starter*>(waiter & ~starter_mark));
  else
    sched::ready(reinterpret_cast<sched::task*>(waiter), false);
}

void descriptor::kick(direction d, uint64_t generation) noexcept {
  sched::critical c;
  kick_inside(d, generation);
}

// -- deadlines

int64_t descriptor::earliest_deadline() const noexcept {
  int64_t first = sched::never_ns;
  for (const auto& d : deadline_) {
    int64_t when = d.load(std::memory_order_seq_cst);
    if (when > expired && when < first) first = when;
  }
  return first;
}

void descriptor::set_deadline(direction d, int64_t when_ns) noexcept {
  if (enter()) return;
  // The coarse clock is some milliseconds behind: far deadlines need no exact one.
  const int64_t coarse = base::coarse_ns();
  const bool passed = when_ns != no_deadline && when_ns - coarse < 1'000'000'000 &&
                      (when_ns <= coarse || when_ns <= base::now_ns());
  deadline_[index(d)].store(passed ? expired : when_ns, std::memory_order_seq_cst);
  if (passed) {
    kick(d, generation());
  } else if (when_ns != no_deadline && armed_at_.load(std::memory_order_seq_cst) > when_ns) {
    arm_timer(when_ns);
  }
  leave();
}

void descriptor::arm_timer(int64_t when_ns) noexcept {
  sched::critical c;
  std::lock_guard hold(timer_lock_);
  if (armed_at_.load(std::memory_order_seq_cst) <= when_ns) return;
  // After this the timer is in no heap and expire() does not run: it is this function's.
  sched::remove_timer(timer_);
  int64_t first = earliest_deadline();
  if (first == sched::never_ns) {
    armed_at_.store(sched::never_ns, std::memory_order_seq_cst);
    return;
  }
  timer_.when_ns = first;
  timer_.fire = expire;
  timer_.arg = this;
  armed_at_.store(first, std::memory_order_seq_cst);
  sched::add_timer(timer_);
}

// Runs inside the lock of the timer's heap, so neither arm_timer() nor close_fd() is past its
// remove_timer().
void descriptor::expire(sched::timer* t, int64_t now_ns) noexcept {
  auto* self = static_cast<descriptor*>(t->arg);
  // Before the deadlines are read: whoever stores one later sees that no timer is due and arms it.
  self->armed_at_.store(sched::never_ns, std::memory_order_seq_cst);
  for (direction d : {direction::in, direction::out}) {
    int64_t when = self->deadline_[index(d)].load(std::memory_order_seq_cst);
    if (when > expired && when <= now_ns &&
        self->deadline_[index(d)].compare_exchange_strong(when, expired,
                                                          std::memory_order_seq_cst)) {
      self->kick_inside(d, self->generation());
    }
  }
  int64_t first = self->earliest_deadline();
  if (first == sched::never_ns) return;
  self->armed_at_.store(first, std::memory_order_seq_cst);
  sched::rearm_timer(*t, first);
}

// -- the poller's side

void descriptor::deliver(uint64_t tag, uint32_t events, sched::task_list& out) noexcept {
  descriptor* self = from_tag(tag);
  const uint64_t generation = tag & 0xffff;
  if (self->generation() != generation) return;
  const bool merged = self->merged_.load(std::memory_order_relaxed);
  if (merged) self->events_.fetch_or(events, std::memory_order_acq_rel);
  // Stale marks of a race with the next life cost that one a failed recv, no more.
  if ((events & hang_up_events) != 0) {
    self->hung_up_.store(true, std::memory_order_seq_cst);
    if (starter* s = self->take_watch(generation))
      out.push_back(sched::make_starter_task(s->start, s->arg, s->created_by));
  }
  for (direction d : {direction::in, direction::out}) {
    const uint32_t mine = d == direction::in ? (merged ? ~uint32_t{0} : in_events)
                                             : (merged ? uint32_t{0} : out_events);
    if ((events & mine) == 0) continue;
    uint64_t waiter = self->take_waiter(d, generation, true);
    if (waiter == 0) continue;
    if ((waiter & starter_mark) != 0) {
      auto* s = reinterpret_cast<starter*>(waiter & ~starter_mark);
      out.push_back(sched::make_starter_task(s->start, s->arg, s->created_by));
      continue;
    }
    auto* t = reinterpret_cast<sched::task*>(waiter);
    if (t->foreign) {
      sched::ready(t);
    } else {
      sched::make_ready(t);
      out.push_back(t);
    }
  }
}

void descriptor::renew(uint64_t tag,
                       void (*again)(io_poller&, int fd, uint64_t tag, uint32_t watch),
                       io_poller& poller) noexcept {
  descriptor* self = from_tag(tag);
  if (self->enter()) return;
  if (self->generation() == (tag & 0xffff))
    again(poller, self->fd(), tag, self->watch_.load(std::memory_order_relaxed));
  self->drop_user(0, true);
}

}  // namespace weft::net
