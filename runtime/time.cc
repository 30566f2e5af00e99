#include <weft/time.h>

#include "base/clock.h"
#include "scheduler/park.h"

namespace weft {
namespace {

using time_point = std::chrono::steady_clock::time_point;

struct after_timer {
  sched::timer timer;
  chan<time_point> channel{1};
};

void send_time(sched::timer* t, int64_t now) noexcept {
  auto* a = static_cast<after_timer*>(t->arg);
  time_point when{std::chrono::nanoseconds(now)};
  detail::waiter* wake = nullptr;
  detail::chan_core& core = *a->channel.ref();
  core.lock();
  core.send_locked(&when, &wake);
  core.unlock();
  if (wake != nullptr) sched::ready(wake->task);
  delete a;
}

}  // namespace

time_point now() noexcept { return time_point(std::chrono::nanoseconds(base::now_ns())); }

recv_chan<time_point> after(std::chrono::nanoseconds d) {
  auto* a = new after_timer;
  recv_chan<time_point> result = a->channel;
  int64_t now = base::now_ns();
  a->timer.when_ns = d.count() <= 0 ? now : sched::deadline_after(now, d.count());
  a->timer.fire = send_time;
  a->timer.arg = a;
  if (a->timer.when_ns == sched::never_ns) {
    delete a;
    return result;
  }
  sched::critical in_runtime;
  sched::add_timer(a->timer);
  return result;
}

}  // namespace weft
