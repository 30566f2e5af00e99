// WEFT_DEBUG=chandead=MS: looks every MS milliseconds for tasks whose channel operation can never
// complete, and reports each once, with its stack.
//
// Only what is certain: a send or receive without a limit on the nil channel, and a select with
// nothing to wait for (no cases, or nil channels only). Both are facts of the wait itself, so one
// look under the task's claim is enough. A task that sleeps that way on purpose, as `select {}` in
// Go, is reported as well.
//
// Rejected: reporting a channel whose waiters outnumber its handles, as nobody else seems to have
// one. A handle is often captured by reference (`wg.go([&] { c.send(1); }); c.recv();`), so the
// count is too small exactly where another task can still complete the operation, and the report
// would be false in the most ordinary programs. To be sure, all memory would have to be searched
// for addresses of the handles and of whatever contains them.
#include <unistd.h>

#include <cstdio>
#include <unordered_set>
#include <vector>

#include "base/check.h"
#include "base/options.h"
#include "scheduler/detectors.h"
#include "scheduler/park.h"
#include "scheduler/ports.h"
#include "scheduler/service_thread.h"

namespace weft::sched {
namespace {

std::atomic<uint64_t> g_reports{0};

struct stuck_task {
  task* t;
  uint64_t id;
  wait_reason reason;
};

void look_at_task(task& t, void* arg) {
  stuck_task found{&t, 0, wait_reason::none};
  uint32_t word;
  if (!claim(t, word)) return;
  if (status_of(word) == task_status::waiting) {
    const wait_reason r = reason_of(word);
    // A wait on the nil channel that has a limit names no channel (chan.cc).
    const bool nil = (r == wait_reason::chan_receive_nil || r == wait_reason::chan_send_nil) &&
                     t.waits_on != nullptr;
    if (nil || r == wait_reason::select_no_cases) found.reason = r;
  }
  found.id = t.id;
  unclaim(t);
  if (found.reason != wait_reason::none)
    static_cast<std::vector<stuck_task>*>(arg)->push_back(found);
}

void observe(void* pause_in_ms) {
  const int64_t pause_ms = static_cast<int64_t>(reinterpret_cast<intptr_t>(pause_in_ms));
  std::unordered_set<uint64_t> reported;
  std::vector<stuck_task> stuck;
  for (;;) {
    timespec pause{pause_ms / 1000, pause_ms % 1000 * 1'000'000};
    ::nanosleep(&pause, nullptr);
    stuck.clear();
    for_each_task(look_at_task, &stuck);
    for (const stuck_task& s : stuck) {
      if (!reported.insert(s.id).second) continue;
      char text[160];
      int n = std::snprintf(text, sizeof text,
                            "weft: chandead: task %llu waits for ever: %s can never complete\n",
                            static_cast<unsigned long long>(s.id), reason_name(s.reason));
      base::write_stderr(text, static_cast<size_t>(n));
      const report_port& port = current_report_port();
      if (port.dump_task != nullptr) port.dump_task(STDERR_FILENO, *s.t, s.id);
      g_reports.fetch_add(1, std::memory_order_release);
    }
  }
}

}  // namespace

uint64_t chandead_reports() noexcept { return g_reports.load(std::memory_order_acquire); }

void start_chandead() noexcept {
  const int64_t pause = base::debug_number("chandead", 1, 0);
  if (pause > 0) start_detector_thread("weft-chandead", observe, reinterpret_cast<void*>(pause));
}

}  // namespace weft::sched
