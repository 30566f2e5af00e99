// Timers, tickers and after_func: entries of the scheduler's timer heaps that can be stopped and
// set again from anywhere.
//
// A timer's function runs under its heap's lock, so once remove_timer() has returned it runs no
// more and there is nothing to wait for. A second lock, `changing`, makes stop() and reset() one
// step each: it is taken before the heap's, and never by the function. That is all the protocol
// there is; Go's sequence numbers and lazy removal answer to a heap whose functions run unlocked.
//
// A channel's timer lives as long as the channel (chan_source): the heap's entry holds no
// reference, and the last handle takes the entry out. A function's timer is counted; its entry in
// the heap is one reference, which passes to the task that runs the function.
#include <weft/labels.h>
#include <weft/time.h>

#include <memory>
#include <mutex>

#include "base/clock.h"
#include "runtime/label_node.h"
#include "scheduler/park.h"

namespace weft {
namespace detail {

using time_point = std::chrono::steady_clock::time_point;

namespace {

// One entry of a timer heap, and whether an event is to come. All under `changing`, but for what
// the timer's function reads: that changes only while the entry is in no heap.
struct alarm_entry {
  small_lock changing;
  bool never = false;  // an event was asked for that is too far away to come
  sched::timer entry;

  // True if the entry was in a heap.
  bool disarm() noexcept { return sched::remove_timer(entry); }
  // True if it went into a heap. Not if it is in one.
  bool arm(std::chrono::nanoseconds d) noexcept {
    int64_t now = base::now_ns();
    entry.when_ns = d.count() <= 0 ? now : sched::deadline_after(now, d.count());
    never = entry.when_ns == sched::never_ns;
    if (!never) sched::add_timer(entry);
    return !never;
  }
};

class clock_channel final : public chan_source {
 public:
  static recv_chan<time_point> make(std::chrono::nanoseconds d, int64_t period_ns) {
    chan<time_point> c(1);
    auto* s = new clock_channel(*c.ref());
    c.ref()->set_source(s);
    sched::critical in_runtime;
    s->period_ns_ = period_ns;
    s->alarm_.arm(d);
    return c;
  }
  static clock_channel& of(const recv_chan<time_point>& c) noexcept {
    return static_cast<clock_channel&>(*c.ref()->source());
  }

  bool stop() noexcept {
    sched::critical in_runtime;
    std::lock_guard hold(alarm_.changing);
    return disarm();
  }
  bool reset(std::chrono::nanoseconds d, int64_t period_ns) noexcept {
    sched::critical in_runtime;
    std::lock_guard hold(alarm_.changing);
    bool was_to_come = disarm();
    period_ns_ = period_ns;
    alarm_.arm(d);
    return was_to_come;
  }
  void abandoned() noexcept override {
    {
      sched::critical in_runtime;
      alarm_.disarm();
    }
    delete this;
  }

 private:
  explicit clock_channel(chan_core& c) noexcept : channel_(c) {
    alarm_.entry.fire = send_time;
    alarm_.entry.arg = this;
  }

  // Also takes back a value that nobody has received.
  bool disarm() noexcept {
    bool was_to_come = alarm_.disarm() || alarm_.never;
    alarm_.never = false;
    channel_.lock();
    if (channel_.discard_locked()) was_to_come = true;
    channel_.unlock();
    return was_to_come;
  }

  static void send_time(sched::timer* t, int64_t now) noexcept {
    auto* self = static_cast<clock_channel*>(t->arg);
    time_point when{std::chrono::nanoseconds(now)};
    waiter* wake = nullptr;
    self->channel_.lock();
    self->channel_.send_locked(&when, &wake);  // no room: this tick is lost
    self->channel_.unlock();
    if (wake != nullptr) sched::ready(wake->task);
    if (self->period_ns_ == 0) return;
    int64_t missed = (now - t->when_ns) / self->period_ns_;
    sched::rearm_timer(*t, sched::deadline_after(t->when_ns, self->period_ns_ * (missed + 1)));
  }

  chan_core& channel_;
  int64_t period_ns_ = 0;  // 0: once
  alarm_entry alarm_;
};

}  // namespace

class func_timer {
 public:
  func_timer(std::unique_ptr<later> f, uintptr_t created_by)
      : f_(std::move(f)), labels_(this_task::labels()), created_by_(created_by) {
    alarm_.entry.fire = start_task;
    alarm_.entry.arg = this;
  }

  void add_ref() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }
  void drop_ref() noexcept {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  // Both for a caller that holds a reference.
  bool stop() noexcept {
    bool removed;
    bool was_to_come;
    {
      sched::critical in_runtime;
      std::lock_guard hold(alarm_.changing);
      removed = alarm_.disarm();
      was_to_come = removed || alarm_.never;
      alarm_.never = false;
    }
    if (removed) drop_ref();
    return was_to_come;
  }
  bool reset(std::chrono::nanoseconds d) noexcept {
    add_ref();  // the heap's, before the timer may fire
    bool removed;
    bool was_to_come;
    bool armed;
    {
      sched::critical in_runtime;
      std::lock_guard hold(alarm_.changing);
      removed = alarm_.disarm();
      was_to_come = removed || alarm_.never;
      armed = alarm_.arm(d);
    }
    if (removed) drop_ref();
    if (!armed) drop_ref();
    return was_to_come;
  }

 private:
  ~func_timer() = default;

  static void start_task(sched::timer* t, int64_t) noexcept {
    auto* self = static_cast<func_timer*>(t->arg);
    sched::start_task(run, self, self->created_by_);
  }
  static void run(void* arg) {
    func_timer_ref self(static_cast<func_timer*>(arg));
    set_current_labels(self.get()->labels_);
    self.get()->f_->run();
  }

  std::atomic<uint32_t> refs_{1};
  std::unique_ptr<later> f_;
  labels labels_;
  uintptr_t created_by_;
  alarm_entry alarm_;
};

func_timer_ref::func_timer_ref(const func_timer_ref& o) noexcept : timer_(o.timer_) {
  if (timer_ != nullptr) timer_->add_ref();
}
func_timer_ref::~func_timer_ref() {
  if (timer_ != nullptr) timer_->drop_ref();
}

[[gnu::noinline]] func_timer_ref start_func_timer(std::chrono::nanoseconds d, later* f) {
  auto created_by = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  func_timer_ref t(new func_timer(std::unique_ptr<later>(f), created_by));
  t.get()->reset(d);
  return t;
}

}  // namespace detail

using detail::clock_channel;

detail::time_point now() noexcept {
  return detail::time_point(std::chrono::nanoseconds(base::now_ns()));
}

timer::timer(std::chrono::nanoseconds d) : channel_(clock_channel::make(d, 0)) {}

bool timer::stop() const {
  if (func_.get() != nullptr) return func_.get()->stop();
  if (channel_.is_nil()) throw panic_error("time: Stop called on uninitialized Timer");
  return clock_channel::of(channel_).stop();
}

bool timer::reset(std::chrono::nanoseconds d) const {
  if (func_.get() != nullptr) return func_.get()->reset(d);
  if (channel_.is_nil()) throw panic_error("time: Reset called on uninitialized Timer");
  return clock_channel::of(channel_).reset(d, 0);
}

ticker::ticker(std::chrono::nanoseconds period) {
  if (period.count() <= 0) throw panic_error("non-positive interval for NewTicker");
  channel_ = clock_channel::make(period, period.count());
}

void ticker::stop() const {
  if (!channel_.is_nil()) clock_channel::of(channel_).stop();
}

void ticker::reset(std::chrono::nanoseconds period) const {
  if (period.count() <= 0) throw panic_error("non-positive interval for Ticker.Reset");
  if (channel_.is_nil()) throw panic_error("time: Reset called on uninitialized Ticker");
  clock_channel::of(channel_).reset(period, period.count());
}

recv_chan<detail::time_point> after(std::chrono::nanoseconds d) {
  return clock_channel::make(d, 0);
}

recv_chan<detail::time_point> tick(std::chrono::nanoseconds period) {
  if (period.count() <= 0) return {};
  return clock_channel::make(period, period.count());
}

}  // namespace weft
