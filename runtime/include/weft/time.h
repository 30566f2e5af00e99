#pragma once
// Time as channels, functions that run later, and what time it is (now()). Sleeping is in
// <weft/task.h>.
//
//   weft::timer limit(5s);
//   weft::ticker beat(100ms);
//   for (bool done = false; !done;)
//     weft::select(weft::on_recv(beat.channel(), [&] { work(); }),
//                  weft::on_recv(limit.channel(), [&] { done = true; }));
//
// As in Go since 1.23: the channels show themselves as unbuffered (size and capacity 0), after
// stop() or reset() no value of before can be received, and a timer or ticker of which neither a
// handle nor its channel is held any more is gone at once. All of it may be used from any thread
// while the runtime runs (run.h). Durations too long to represent mean never.
#include <weft/chan.h>
#include <weft/detail/now.h>

#include <chrono>
#include <functional>
#include <type_traits>
#include <utility>

namespace weft {

namespace detail {

// The function of after_func(), whatever its type.
class later {
 public:
  virtual ~later() = default;
  virtual void run() = 0;
};

class func_timer;  // time.cc

// Intrusive counted reference.
class func_timer_ref {
 public:
  func_timer_ref() noexcept = default;
  explicit func_timer_ref(func_timer* adopted) noexcept : timer_(adopted) {}
  func_timer_ref(const func_timer_ref& o) noexcept;
  func_timer_ref(func_timer_ref&& o) noexcept : timer_(std::exchange(o.timer_, nullptr)) {}
  func_timer_ref& operator=(func_timer_ref o) noexcept {
    std::swap(timer_, o.timer_);
    return *this;
  }
  ~func_timer_ref();
  func_timer* get() const noexcept { return timer_; }

 private:
  func_timer* timer_ = nullptr;
};

// Takes over f. The return address of this call is recorded as the place where the task is created.
[[gnu::noinline]] func_timer_ref start_func_timer(std::chrono::nanoseconds d, later* f);

}  // namespace detail

// One event in the future: a value on a channel, or the start of a function (after_func). A handle:
// copies refer to the same timer. Go's Timer.
class timer {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  // Refers to nothing: its channel is nil, stop() and reset() throw panic_error.
  timer() noexcept = default;

  // Sends the then current time on channel(), once, d from now; d <= 0: at once.
  explicit timer(std::chrono::nanoseconds d);

  // The nil channel if the timer is one of after_func(). Receiving works as long as the channel is
  // held, also without the timer.
  const recv_chan<time_point>& channel() const& noexcept { return channel_; }
  recv_chan<time_point> channel() && noexcept { return std::move(channel_); }

  // True if this call prevented the event: it had not happened, or its value had not been received
  // yet. Does not close the channel, and does not wait for the function of after_func(), which may
  // be running when stop() returns false.
  bool stop() const;

  // Sets the event d from now, whether it was still to come or not; true if it was. A function of
  // after_func() that has started is neither stopped nor waited for: two calls of it may then run
  // at the same time.
  bool reset(std::chrono::nanoseconds d) const;

 private:
  template <class F>
  friend timer after_func(std::chrono::nanoseconds d, F f);

  recv_chan<time_point> channel_;
  detail::func_timer_ref func_;
};

// Sends the time on a channel every `period`. When the receiver is slow it misses ticks: one waits
// in the channel, and the next is due at a whole number of periods after the first. A handle:
// copies refer to the same ticker. Go's Ticker.
class ticker {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  // Refers to nothing: its channel is nil, stop() does nothing, reset() throws panic_error.
  ticker() noexcept = default;

  // The first tick comes after one period. Throws panic_error ("non-positive interval for
  // NewTicker") for period <= 0.
  explicit ticker(std::chrono::nanoseconds period);

  const recv_chan<time_point>& channel() const& noexcept { return channel_; }
  recv_chan<time_point> channel() && noexcept { return std::move(channel_); }

  // No more ticks. Does not close the channel.
  void stop() const;

  // Ticks every `period` from now on, also after stop(). Throws panic_error ("non-positive interval
  // for Ticker.Reset") for period <= 0.
  void reset(std::chrono::nanoseconds period) const;

 private:
  recv_chan<time_point> channel_;
};

// timer(d).channel(): a channel that receives the then current time once, d from now. In a select
// on_timeout(d) does the same at less cost.
recv_chan<std::chrono::steady_clock::time_point> after(std::chrono::nanoseconds d);

// ticker(period).channel(), for ticks that nobody needs to stop; the nil channel for period <= 0.
recv_chan<std::chrono::steady_clock::time_point> tick(std::chrono::nanoseconds period);

// Runs f() in a new task, d from now; d <= 0: at once. The task carries the labels of the caller of
// after_func(), runs under background() and shows that call as the place of its creation. An
// exception that escapes f ends the process.
// The timer that is returned can stop or repeat it; f lives as long as a call may come, and
// dropping the timer does not stop it.
template <class F>
WEFT_ALWAYS_INLINE timer after_func(std::chrono::nanoseconds d, F f) {
  static_assert(std::is_invocable_v<F&>, "weft::after_func(d, f) calls f without arguments");
  struct holder final : detail::later {
    explicit holder(F&& g) : fn(std::move(g)) {}
    void run() override { std::invoke(fn); }
    F fn;
  };
  timer t;
  t.func_ = detail::start_func_timer(d, new holder(std::move(f)));
  return t;
}

}  // namespace weft
