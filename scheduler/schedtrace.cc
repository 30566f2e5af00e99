// WEFT_DEBUG=schedtrace=MS: one line per period about the scheduler, in the form of Go 1.19's
// GODEBUG=schedtrace, so that its readers work.
//
//   SCHED 1004ms: gomaxprocs=2 idleprocs=1 threads=4 spinningthreads=0 idlethreads=1 runqueue=1 [0
//   0]
//
// With scheddetail=1 a line for each processor (P), thread (M) and task (G) follows instead of the
// local queues' lengths. An M's number is its thread id; counters that only Go has are 0, and
// gfreecnt, which nobody but the owner may read, is -1. Nothing is stopped, so the lines may not
// fit together to the last task.
#include "scheduler/schedtrace.h"

#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <string>

#include "base/check.h"
#include "base/clock.h"
#include "base/options.h"
#include "scheduler/park.h"
#include "scheduler/scheduler.h"
#include "scheduler/service_thread.h"

namespace weft::sched {
namespace {

[[gnu::format(printf, 2, 3)]] void append(std::string& out, const char* format, ...) {
  char line[256];
  va_list args;
  va_start(args, format);
  std::vsnprintf(line, sizeof line, format, args);
  va_end(args);
  out += line;
}

// The id of a task that executes. It may end meanwhile and its record begin a new life; the line
// then shows either.
#if WEFT_TSAN
[[gnu::no_sanitize("thread")]]
#endif
long long
id_of(const task* t) noexcept {
  return t != nullptr ? static_cast<long long>(t->id) : -1;
}

int go_status(task_status s) noexcept {
  switch (s) {
    case task_status::free:
      return 6;
    case task_status::runnable:
      return 1;
    case task_status::running:
      return 2;
    case task_status::blocking:
      return 3;
    case task_status::waiting:
      return 4;
  }
  return 0;
}

void append_processors(std::string& out) {
  const int n = g_sched.max_procs.load(std::memory_order_relaxed);
  for (int i = 0; i < n; ++i) {
    processor* p = g_sched.processors[i].load(std::memory_order_acquire);
    const processor_status status = p->status.load(std::memory_order_relaxed);
    const thread* owner = p->owner.load(std::memory_order_acquire);
    size_t timers;
    {
      std::lock_guard hold(p->timers.lock);
      timers = p->timers.size();
    }
    append(
        out,
        "  P%d: status=%d schedtick=%u syscalltick=0 m=%d runqsize=%u gfreecnt=-1 timerslen=%zu\n",
        p->id,
        status == processor_status::running ? 1
        : status == processor_status::idle  ? 0
                                            : 3,
        p->tick.load(std::memory_order_relaxed), owner != nullptr ? owner->tid : -1, p->ring.size(),
        timers);
  }
}

void append_threads(std::string& out) {
  for_each_thread(
      [](thread* th, void* arg) {
        const processor* p = th->p.load(std::memory_order_acquire);
        const task* t = th->current.load(std::memory_order_acquire);
        append(*static_cast<std::string*>(arg),
               "  M%d: p=%d curg=%lld mallocing=0 throwing=0 preemptoff= locks=%d dying=0 "
               "spinning=%s blocked=%s lockedg=-1\n",
               th->tid, p != nullptr ? p->id : -1, id_of(t),
               th->crit.load(std::memory_order_relaxed),
               p != nullptr && t == nullptr ? "true" : "false",
               p == nullptr && t == nullptr ? "true" : "false");
      },
      &out);
}

void append_tasks(std::string& out) {
  for_each_task(
      [](task& t, void* arg) {
        auto& to = *static_cast<std::string*>(arg);
        uint32_t word = t.state.load(std::memory_order_acquire);
        const bool claimed = claim(t, word);
        const long long id = id_of(&t);
        if (claimed) unclaim(t);
        const task_status s = status_of(word);
        append(to, "  G%lld: status=%d(%s) m=-1 lockedm=-1\n", id, go_status(s),
               s == task_status::waiting ? reason_name(reason_of(word)) : "");
      },
      &out);
}

std::string describe(int64_t since_start_ns, bool detail) {
  std::string out;
  int idle_threads;
  {
    std::lock_guard hold(g_sched.lock);
    idle_threads = g_sched.idle_thread_count;
  }
  append(out,
         "SCHED %lldms: gomaxprocs=%d idleprocs=%d threads=%d spinningthreads=%d idlethreads=%d "
         "runqueue=%lld",
         static_cast<long long>(since_start_ns / 1'000'000), g_sched.max_procs.load(),
         g_sched.idle_procs.load(), thread_count(), g_sched.spinning.load(), idle_threads,
         static_cast<long long>(g_sched.global_size.load()));
  if (detail) {
    append(out, " gcwaiting=%d nmidlelocked=0 stopwait=0 sysmonwait=%u\n",
           g_sched.stop_requested.load() ? 1 : 0, g_sched.monitor_word.load());
    append_processors(out);
    append_threads(out);
    append_tasks(out);
    return out;
  }
  const int n = g_sched.max_procs.load(std::memory_order_relaxed);
  for (int i = 0; i < n; ++i)
    append(out, "%s%u", i == 0 ? " [" : " ",
           g_sched.processors[i].load(std::memory_order_acquire)->ring.size());
  out += "]\n";
  return out;
}

struct trace_options {
  int64_t period_ms;
  bool detail;
};

void print_for_ever(void* arg) {
  const auto [period_ms, detail] = *static_cast<const trace_options*>(arg);
  const int64_t start = base::true_now_ns();
  for (int64_t next = start;; next += period_ms * 1'000'000) {
    const int64_t wait = next - base::true_now_ns();
    if (wait > 0) {
      timespec pause{wait / 1'000'000'000, wait % 1'000'000'000};
      ::nanosleep(&pause, nullptr);
    }
    const std::string text = describe(base::true_now_ns() - start, detail);
    base::write_stderr(text.data(), text.size());
  }
}

}  // namespace

void start_schedtrace() noexcept {
  static trace_options options;
  options = {base::debug_number("schedtrace", 1, 0), base::debug_number("scheddetail", 0, 0) > 0};
  if (options.period_ms > 0) start_detector_thread("weft-schedtrace", print_for_ever, &options);
}

}  // namespace weft::sched
