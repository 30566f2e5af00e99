#include "gc/cycle_record.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <mutex>

#include "base/clock.h"
#include "base/spinlock.h"
#include "gc/stress.h"
#include "gc/unstopped.h"

namespace weft::gc {
namespace {

base::spinlock g_lock;
pause_history g_history{};
int64_t g_spent_ns = 0;  // the collector's: pauses times processors, marking, helping

uint64_t wall_ns() noexcept {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

// Go's itoaDiv and fmtNSAsMS: two significant digits, no more than three decimals.
struct ms_text {
  char text[32];
  explicit ms_text(int64_t ns) noexcept {
    if (ns >= 10'000'000) {
      std::snprintf(text, sizeof text, "%" PRId64, ns / 1'000'000);
      return;
    }
    int64_t us = ns / 1000;
    if (us == 0) {
      std::snprintf(text, sizeof text, "0");
      return;
    }
    int decimals = 3;
    while (us >= 100) {
      us /= 10;
      --decimals;
    }
    int64_t whole = us, unit = 1;
    for (int i = 0; i < decimals; ++i) unit *= 10;
    whole = us / unit;
    std::snprintf(text, sizeof text, "%" PRId64 ".%0*" PRId64, whole, decimals, us % unit);
  }
};

}  // namespace

void begin_records() noexcept { g_history.first_began_ns = base::true_now_ns(); }

size_t format_cycle(const cycle_record& r, int64_t since_start_ns, int percent, char* out,
                    size_t size) noexcept {
  const int64_t p = r.processors;
  const auto mb = [](uint64_t bytes) { return bytes >> 20; };
  const int n = std::snprintf(
      out, size,
      "gc %" PRIu64 " @%" PRId64 ".%03" PRId64
      "s %d%%: %s+%s+%s ms clock, %s+%s/%s/0+%s ms cpu, "
      "%" PRIu64 "->%" PRIu64 "->%" PRIu64 " MB, %" PRIu64 " MB goal, %" PRIu64
      " MB stacks, 0 MB globals, %d P%s",
      r.number, since_start_ns / 1'000'000'000, since_start_ns / 1'000'000 % 1000, percent,
      ms_text(r.pause_ns[0]).text, ms_text(r.mark_ns).text, ms_text(r.pause_ns[1]).text,
      ms_text(r.pause_ns[0] * p).text, ms_text(r.assist_ns).text, ms_text(r.collector_ns).text,
      ms_text(r.pause_ns[1] * p).text, mb(r.heap_before), mb(r.heap_at_end), mb(r.heap_live),
      mb(r.goal), mb(r.stacks), r.processors, r.forced ? " (forced)" : "");
  return n < 0 ? 0 : std::min(static_cast<size_t>(n), size - 1);
}

void record_cycle(const cycle_record& r) noexcept {
  const auto pause = static_cast<uint64_t>(r.pause_ns[0] + r.pause_ns[1]);
  g_spent_ns += static_cast<int64_t>(pause) * r.processors + r.collector_ns + r.assist_ns;
  int64_t since = 0;
  {
    std::lock_guard hold(g_lock);
    const size_t at = g_history.cycles++ % kept_cycles;
    g_history.pause_ns[at] = pause;
    g_history.pause_end_ns[at] =
        wall_ns() - static_cast<uint64_t>(base::true_now_ns() - r.ended_ns);
    g_history.total_ns += pause;
    since = r.began_ns - g_history.first_began_ns;
  }
  if (g_options.trace == 0) return;
  const int64_t age = std::max<int64_t>(base::true_now_ns() - g_history.first_began_ns, 1);
  const auto percent = static_cast<int>(100.0 * static_cast<double>(g_spent_ns) /
                                        (static_cast<double>(age) * r.processors));
  char line[256];
  size_t n = format_cycle(r, since, percent, line, sizeof line - 1);
  line[n++] = '\n';
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line, n);
}

void read_pauses(pause_history& out) noexcept {
  unstopped here;
  std::lock_guard hold(g_lock);
  out = g_history;
}

}  // namespace weft::gc
