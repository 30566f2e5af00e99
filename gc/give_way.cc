#include "gc/give_way.h"

#include <sys/resource.h>
#include <time.h>

#include <utility>

#include "base/clock.h"
#include "scheduler/world_stop.h"

namespace weft::gc {
namespace {

constexpr int64_t piece_ns = 200'000;

// The collector's.
int64_t g_looked_ns = 0;
long g_seen = 0;

// How often the kernel has given the core to another thread although this one could go on.
long involuntary_switches() noexcept {
  rusage use{};
  ::getrusage(RUSAGE_THREAD, &use);
  return use.ru_nivcsw;
}

void sleep_a_moment() noexcept {
  timespec pause{0, 30'000};
  ::nanosleep(&pause, nullptr);
}

}  // namespace

void let_waker_leave() noexcept { sleep_a_moment(); }

void give_way() noexcept {
  const int64_t now = base::true_now_ns();
  if (now - g_looked_ns < piece_ns) return;
  if ((sched::g_gate.load(std::memory_order_relaxed) & sched::gate_stop) != 0) return;
  g_looked_ns = now;
  const long switches = involuntary_switches();
  if (switches == std::exchange(g_seen, switches)) return;
  sleep_a_moment();
}

}  // namespace weft::gc
