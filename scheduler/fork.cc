// A forked child has one thread: the workers and the monitor are gone, and with them whoever held
// the scheduler's locks at that moment. Nothing of the runtime can work there, so only fork
// followed by exec (or _exit) is supported, which is also what posix_spawn, system and popen do. A
// child that uses the runtime is told so instead of hanging.
//
// The check costs nothing: the child handler of pthread_atfork poisons the one surviving thread's
// steal word, so its next enter() takes the slow path, and that asks. No report of tasks is made:
// it would wait for locks of threads that do not exist.
#include "scheduler/fork.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cstdlib>

#include "base/check.h"
#include "scheduler/thread.h"

namespace weft::sched {
namespace {

constexpr int poison = -2;
std::atomic<bool> g_forked{false};

void in_child() noexcept {
  g_forked.store(true, std::memory_order_relaxed);
  if (thread* th = self_or_null()) th->steal.store(poison, std::memory_order_relaxed);
}

}  // namespace

void watch_forks() noexcept { ::pthread_atfork(nullptr, nullptr, in_child); }

bool in_forked_child() noexcept { return g_forked.load(std::memory_order_relaxed); }

void refuse_in_forked_child() noexcept {
  if (!in_forked_child()) return;
  static constexpr char text[] =
      "fatal error: the runtime was used in a forked child process; only fork followed by exec or "
      "_exit is supported\n";
  base::write_stderr(text, sizeof text - 1);
  ::signal(SIGABRT, SIG_DFL);
  std::abort();
}

}  // namespace weft::sched
