#include "scheduler/thread_signal.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/spinlock.h"
#include "scheduler/signals.h"
#include "scheduler/world_stop.h"

namespace weft::sched {
namespace {

constexpr int spins_before_sleep = 200;

std::atomic<signal_visitor> g_visitor{nullptr};

bool on_signal(siginfo_t*, void* ucontext) noexcept {
  bool ours = false;
  if (thread* th = self_or_null()) {
    // [ord thread.fence] The ticket is read first and answered last; what the thread stored before
    // the signal is visible to whoever sees the answer, and what it loads afterwards is no older
    // than the ticket. A late signal may answer a newer ticket: its fence serves that one as well.
    uint32_t ticket = th->fence_ticket.load(std::memory_order_seq_cst);
    ours = th->fence_passed.exchange(ticket, std::memory_order_seq_cst) != ticket;
  }
  if (signal_visitor visit = g_visitor.load(std::memory_order_acquire)) ours |= visit(ucontext);
  ours |= stop_on_signal(ucontext);
  return ours;
}

}  // namespace

void install_thread_signal() noexcept {
  static const bool installed = [] {
    install_signal(capture_signal(), on_signal);
    return true;
  }();
  static_cast<void>(installed);
}

bool send_thread_signal(const thread& th) noexcept {
  return ::syscall(SYS_tgkill, ::getpid(), th.tid, capture_signal()) == 0;
}

void set_signal_visitor(signal_visitor visit) noexcept {
  g_visitor.store(visit, std::memory_order_release);
}

bool fence_by_signal(thread& th, int64_t patience_ns, bool (*wanted)(const thread&)) noexcept {
  uint32_t ticket = th.fence_ticket.fetch_add(1, std::memory_order_seq_cst) + 1;
  if (!send_thread_signal(th)) return false;
  int64_t deadline = base::true_now_ns() + patience_ns;
  for (int round = 0;; ++round) {
    if (th.fence_passed.load(std::memory_order_seq_cst) == ticket) return true;
    if (!wanted(th)) return false;
    if (round < spins_before_sleep) {
      base::cpu_relax();
      continue;
    }
    if (base::true_now_ns() > deadline) return false;
    timespec pause{0, 20'000};
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace weft::sched
