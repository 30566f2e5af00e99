// WEFT_DEBUG=lockpark: reports, once per task and with its stack, a task that gives way while it
// holds a std::mutex or another pthread mutex. The next task on that thread that wants the mutex
// then blocks the thread, and a task that goes on elsewhere unlocks what another thread has locked.
//
// Who holds what is counted per thread by libweft-lockpark.so (preload/lockpark.c), which the
// program must be started with: LD_PRELOAD=…/libweft-lockpark.so. Without it nothing is reported
// but that. The count belongs to the task: it is taken off the thread when the task leaves it and
// put on the one where it goes on, so no other task is blamed. pthread_cond_wait() keeps its mutex
// in the count, and needs no special care: it blocks the thread, not the task.
//
// The stack is taken at once, but symbolized and written by a thread of its own: the task parks
// inside the runtime, with the lock of what it waits for.
//
// Rejected: wrapping pthread_mutex_lock() in the library itself, which costs every lock of every
// program, and cannot count those of libraries linked before it.
#include "scheduler/lockpark.h"

#include <dlfcn.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "base/check.h"
#include "base/options.h"
#include "scheduler/detectors.h"
#include "scheduler/ports.h"
#include "scheduler/service_thread.h"
#include "scheduler/task.h"
#include "scheduler/wait_watch.h"

namespace weft::sched {

std::atomic<bool> g_lockpark{false};

namespace {

constexpr size_t most_remembered = 100'000;

std::atomic<uint64_t> g_reports{0};
int (*g_exchange)(int) = nullptr;  // before g_lockpark is set

struct finding {
  uint64_t id;
  int held;
  wait_reason reason;
  void* stack;
};

struct mailbox {
  std::mutex lock;
  std::condition_variable filled;
  std::vector<finding> findings;
  std::unordered_set<uint64_t> reported;
};
mailbox& the_mailbox() noexcept {
  static auto* const m = new mailbox;
  return *m;
}

void serve(void*) {
  mailbox& m = the_mailbox();
  for (;;) {
    std::vector<finding> now;
    {
      std::unique_lock hold(m.lock);
      m.filled.wait(hold, [&] { return !m.findings.empty(); });
      now.swap(m.findings);
    }
    for (const finding& f : now) {
      const char* where = f.reason == wait_reason::none ? "gives way" : reason_name(f.reason);
      char text[200];
      int n = std::snprintf(text, sizeof text,
                            "weft: lockpark: task %llu leaves its thread (%s) while it holds %d "
                            "pthread mutex%s\n",
                            static_cast<unsigned long long>(f.id), where, f.held,
                            f.held == 1 ? "" : "es");
      base::write_stderr(text, static_cast<size_t>(n));
      const report_port& port = current_report_port();
      if (f.stack != nullptr) {
        port.write_kept(STDERR_FILENO, f.stack);
        port.drop_kept(f.stack);
      }
      g_reports.fetch_add(1, std::memory_order_release);
    }
  }
}

}  // namespace

int lockpark_leave(task& me, bool stays_alive, wait_reason reason) noexcept {
  const int held = g_exchange(0);
  // Below zero: it unlocked what another task had locked.
  if (held <= 0 || !stays_alive) return held;
  mailbox& m = the_mailbox();
  {
    std::lock_guard hold(m.lock);
    if (m.reported.size() >= most_remembered) m.reported.clear();
    if (!m.reported.insert(me.id).second) return held;
  }
  const report_port& port = current_report_port();
  void* stack = port.keep_stack != nullptr ? port.keep_stack() : nullptr;
  {
    std::lock_guard hold(m.lock);
    m.findings.push_back({me.id, held, reason, stack});
  }
  m.filled.notify_one();
  return held;
}

void lockpark_resume(int held) noexcept { g_exchange(held + g_exchange(0)); }

uint64_t lockpark_reports() noexcept { return g_reports.load(std::memory_order_acquire); }

void start_lockpark() noexcept {
  if (base::debug_switch("lockpark").empty()) return;
  g_exchange = reinterpret_cast<int (*)(int)>(::dlsym(RTLD_DEFAULT, "weft_lockpark_exchange"));
  if (g_exchange == nullptr) {
    base::log_line(
        "WEFT_DEBUG=lockpark ignored: it counts pthread mutexes by a library that is not loaded; "
        "start the program with LD_PRELOAD=DIR/libweft-lockpark.so, DIR being where weft's "
        "libraries are installed");
    return;
  }
  start_detector_thread("weft-lockpark", serve);
  g_lockpark.store(true, std::memory_order_release);
  watch_every_switch();
}

}  // namespace weft::sched
