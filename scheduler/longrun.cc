// WEFT_DEBUG=longrun=MS: reports a task that keeps a thread for more than MS milliseconds without
// giving way, once per task, with the stack it has at that moment.
//
// A thread of its own samples what the workers execute, four times per period: the same task on the
// same thread, and either the same tick of the processor it holds or no processor because the
// monitor took it away. Time in weft::blocking is declared and does not count. A task that switches
// and comes back between two samples shows another tick, so the report never blames one that gives
// way; one that stays on is seen after at most 1.25 periods.
#include <unistd.h>

#include <cstdio>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/options.h"
#include "scheduler/detectors.h"
#include "scheduler/ports.h"
#include "scheduler/scheduler.h"
#include "scheduler/service_thread.h"

namespace weft::sched {
namespace {

constexpr size_t most_remembered = 100'000;
std::atomic<uint64_t> g_reports{0};

struct slice {
  const task* executing = nullptr;
  uint64_t id = 0;
  uint32_t tick = 0;
  bool has_tick = false;
  int64_t since_ns = 0;
  bool seen = false;  // in the present round
};

struct observer {
  std::unordered_map<const thread*, slice> slices;
  std::unordered_set<uint64_t> reported;
  struct suspect {
    task* t;
    uint64_t id;
    int64_t for_ns;
  };
  std::vector<suspect> suspects;
  int64_t now = 0;
  int64_t limit_ns = 0;
};

// Of a task that executes, so its record may begin a new life meanwhile: the report checks again.
#if WEFT_TSAN
[[gnu::no_sanitize("thread")]]
#endif
uint64_t
id_of(const task* t) noexcept {
  return t->id;
}

void look_at_thread(thread* th, void* arg) noexcept {
  auto& o = *static_cast<observer*>(arg);
  if (th->foreign) return;
  task* t = th->current.load(std::memory_order_acquire);
  if (t == nullptr || th->declared_blocking.load(std::memory_order_relaxed)) return;
  slice& s = o.slices[th];
  s.seen = true;
  const processor* p = th->p.load(std::memory_order_acquire);
  const uint32_t tick = p != nullptr ? p->tick.load(std::memory_order_relaxed) : 0;
  const uint64_t id = id_of(t);
  if (s.executing != t || s.id != id || (p != nullptr && (!s.has_tick || s.tick != tick))) {
    s = {t, id, tick, p != nullptr, o.now, true};
    return;
  }
  if (o.now - s.since_ns < o.limit_ns || o.reported.contains(id)) return;
  if (o.reported.size() >= most_remembered) o.reported.clear();
  o.reported.insert(id);
  o.suspects.push_back({t, id, o.now - s.since_ns});
}

void report(const observer::suspect& s) {
  char text[160];
  int n = std::snprintf(
      text, sizeof text, "weft: longrun: task %llu has run for %lld ms without giving way\n",
      static_cast<unsigned long long>(s.id), static_cast<long long>(s.for_ns / 1'000'000));
  base::write_stderr(text, static_cast<size_t>(n));
  const report_port& port = current_report_port();
  if (port.dump_task != nullptr) port.dump_task(STDERR_FILENO, *s.t, s.id);
  g_reports.fetch_add(1, std::memory_order_release);
}

void observe(void* limit) {
  const int64_t limit_ms = static_cast<int64_t>(reinterpret_cast<intptr_t>(limit));
  observer o;
  o.limit_ns = limit_ms * 1'000'000;
  const int64_t pause_ns = o.limit_ns / 4;
  for (;;) {
    timespec pause{pause_ns / 1'000'000'000, pause_ns % 1'000'000'000};
    ::nanosleep(&pause, nullptr);
    o.now = base::true_now_ns();
    for (auto& [th, s] : o.slices) s.seen = false;
    for_each_thread(look_at_thread, &o);
    std::erase_if(o.slices, [](const auto& entry) { return !entry.second.seen; });
    for (const observer::suspect& s : o.suspects) report(s);
    o.suspects.clear();
  }
}

}  // namespace

uint64_t longrun_reports() noexcept { return g_reports.load(std::memory_order_acquire); }

void start_detectors() noexcept {
  const int64_t limit = base::debug_number("longrun", 1, 0);
  if (limit > 0) start_detector_thread("weft-longrun", observe, reinterpret_cast<void*>(limit));
  start_chandead();
  start_lockpark();
}

}  // namespace weft::sched
