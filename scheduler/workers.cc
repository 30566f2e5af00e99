// Worker threads: starting them, their number, and the end of one.
//
// A thread is started only when a processor needs one and no spare sleeps, so their number is that
// of the tasks that once were in blocking calls at the same time, plus max_procs. Spares stay, as
// Go's do: a burst of blocking calls tends to come again, and a sleeping thread costs its touched
// stack (some 20 KB with the kernel's) and no CPU. Only the thread of a task that ended without
// unlocking it ends, because its state is not to be trusted by the next task.
//
// Rejected: ending spares after a while. It makes the count oscillate with the load, and every
// holder of a thread pointer would need a lock.
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cfenv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/check.h"
#include "base/events.h"
#include "base/options.h"
#include "scheduler/runtime_control.h"
#include "scheduler/scheduler.h"
#include "scheduler/signals.h"

namespace weft::sched {
namespace {

constexpr int default_thread_limit = 10'000;
constexpr int create_attempts = 20;

int limit_from_environment() noexcept {
  std::string text(base::option_value(base::option::WEFT_MAXTHREADS));
  if (text.empty()) return default_thread_limit;
  char* end = nullptr;
  long n = std::strtol(text.c_str(), &end, 10);
  if (*end == 0 && n >= 1 && n <= most_threads) return static_cast<int>(n);
  base::log_line("WEFT_MAXTHREADS=%s ignored: it must be a number from 1 to %d", text.c_str(),
                 most_threads);
  return default_thread_limit;
}

std::atomic<int>& the_limit() noexcept {
  static std::atomic<int> limit{limit_from_environment()};
  return limit;
}

void check_limit(int threads) noexcept {
  int limit = the_limit().load(std::memory_order_relaxed);
  if (threads <= limit) return;
  char text[256];
  int n = std::snprintf(
      text, sizeof text,
      "runtime: program exceeds %d-thread limit\n"
      "weft: too many tasks are in blocking calls or locked to threads at once; "
      "options::max_threads, WEFT_MAXTHREADS or weft::set_max_threads raises the limit\n",
      limit);
  [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, text, static_cast<size_t>(n));
  base::fatal("thread exhaustion");
}

long threads_max() noexcept {
  long n = -1;
  if (FILE* f = std::fopen("/proc/sys/kernel/threads-max", "re")) {
    if (std::fscanf(f, "%ld", &n) != 1) n = -1;
    std::fclose(f);
  }
  return n;
}

[[noreturn]] void cannot_create(int error) noexcept {
  rlimit processes{};
  ::getrlimit(RLIMIT_NPROC, &processes);
  char nproc[32] = "unlimited";
  if (processes.rlim_cur != RLIM_INFINITY)
    std::snprintf(nproc, sizeof nproc, "%llu", static_cast<unsigned long long>(processes.rlim_cur));
  base::fatalf(
      "cannot start thread number %d: %s; check RLIMIT_NPROC (ulimit -u, now %s, counts all "
      "threads of the user), kernel.threads-max (now %ld), kernel.pid_max, the cgroup's pids.max "
      "and free memory",
      g_sched.worker_threads.load(), std::strerror(error), nproc, threads_max());
}

// The floating-point environment of the first run's caller. A new thread inherits its creator's,
// which may be that of a task inside a fenv_guard.
const std::fenv_t& workers_environment() noexcept {
  static const std::fenv_t environment = [] {
    std::fenv_t now;
    std::fegetenv(&now);
    return now;
  }();
  return environment;
}

void* thread_entry(void* arg) {
  // The creator's mask may block everything; the runtime's own signals must get through.
  unblock_own_signals();
  std::fesetenv(&workers_environment());
  worker_main(static_cast<thread*>(arg));
  return nullptr;
}

}  // namespace

void create_worker(processor* p, bool spinning) noexcept {
  check_limit(g_sched.worker_threads.fetch_add(1, std::memory_order_relaxed) + 1);
  static_cast<void>(workers_environment());
  thread* th = make_thread_record();
  th->next_p = p;
  th->spinning = spinning;
  base::emit(base::event_kind::thread_create, reinterpret_cast<uintptr_t>(th), 0);
  pthread_attr_t attr;
  ::pthread_attr_init(&attr);
  ::pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_t id;
  int error = ::pthread_create(&id, &attr, thread_entry, th);
  // EAGAIN may pass: other processes of the user end, a cgroup's threads are reaped late.
  for (int i = 1; error == EAGAIN && i < create_attempts; ++i) {
    timespec pause{0, i * 1'000'000L};
    ::nanosleep(&pause, nullptr);
    error = ::pthread_create(&id, &attr, thread_entry, th);
  }
  ::pthread_attr_destroy(&attr);
  if (error != 0) cannot_create(error);
}

void worker_ended(thread* th) noexcept {
  unregister_thread(th);
  g_sched.worker_threads.fetch_sub(1, std::memory_order_relaxed);
  recycle_thread_record(th);
}

int thread_limit() noexcept { return the_limit().load(std::memory_order_relaxed); }

void set_thread_limit(int n) noexcept {
  the_limit().store(n, std::memory_order_relaxed);
  check_limit(g_sched.worker_threads.load(std::memory_order_relaxed));
}

int worker_thread_count() noexcept {
  return g_sched.worker_threads.load(std::memory_order_relaxed);
}

}  // namespace weft::sched
