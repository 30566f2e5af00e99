#include "scheduler/signals.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "base/options.h"

namespace weft::sched {
namespace {

struct entry {
  std::atomic<signal_handler> ours{nullptr};
  struct sigaction before {};
};
entry g_entries[_NSIG];

void dispatch(int signo, siginfo_t* info, void* ucontext) noexcept {
  const int saved = errno;
  entry& e = g_entries[signo];
  const bool done = e.ours.load(std::memory_order_acquire)(info, ucontext);
  errno = saved;
  // Without a handler of the program's the signal is dropped: a late tick of a profile that has
  // ended must not end the process.
  if (!done) call_previous(e.before, signo, info, ucontext);
}

struct choice {
  int capture = SIGURG;
  int profile = SIGPROF;
  char error[256] = {};
};

// Taken by the runtime for other purposes (fault.cc, core_dump.cc, SIGQUIT's report).
bool is_taken(int signo) noexcept {
  static constexpr int taken[] = {SIGABRT, SIGBUS, SIGFPE,  SIGILL,  SIGQUIT,
                                  SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU, SIGXFSZ};
  return std::find(std::begin(taken), std::end(taken), signo) != std::end(taken);
}

bool parse_item(std::string_view item, choice& to) noexcept {
  const auto refuse = [&](const char* why) {
    std::snprintf(to.error, sizeof to.error, "WEFT_SIGNALS: %.*s: %s",
                  static_cast<int>(std::min<size_t>(item.size(), 64)), item.data(), why);
    return false;
  };
  const size_t equals = item.find('=');
  const std::string_view name = item.substr(0, equals);
  const std::string_view number =
      equals == std::string_view::npos ? std::string_view{} : item.substr(equals + 1);
  int signo = 0;
  const char* const last = number.data() + number.size();
  const auto [end, error] = std::from_chars(number.data(), last, signo);
  if ((name != "capture" && name != "profile") || error != std::errc{} || end != last ||
      signo < 1 || signo >= _NSIG || signo == SIGKILL || signo == SIGSTOP)
    return refuse(
        "it must be capture=NUMBER or profile=NUMBER, a signal from 1 to 64 that can be handled");
  if (signo >= __SIGRTMIN && signo < SIGRTMIN) return refuse("the C library uses this signal");
  if (is_taken(signo)) return refuse("this signal reports faults and makes core files");
  (name == "capture" ? to.capture : to.profile) = signo;
  return true;
}

choice parse() noexcept {
  choice chosen;
  std::string_view rest = base::option_value(base::option::WEFT_SIGNALS);
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    if (!parse_item(rest.substr(0, comma), chosen)) return chosen;
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
  }
  if (chosen.capture == chosen.profile)
    std::snprintf(chosen.error, sizeof chosen.error,
                  "WEFT_SIGNALS: capture and profile are both signal %d; they must differ",
                  chosen.capture);
  return chosen;
}

const choice& the_choice() noexcept {
  static const choice chosen = parse();
  // The report of a fatal error captures tasks, so it asks again.
  static std::atomic<bool> said{false};
  if (chosen.error[0] != 0 && !said.exchange(true)) base::fatal(chosen.error);
  return chosen;
}

}  // namespace

void install_signal(int signo, signal_handler handler) {
  entry& e = g_entries[signo];
  signal_handler nobody = nullptr;
  if (!e.ours.compare_exchange_strong(nobody, handler))
    base::fatalf("signal %d has a handler of the runtime's already", signo);
  if (::sigaction(signo, nullptr, &e.before) != 0)
    base::fatalf("cannot handle signal %d: %s", signo, std::strerror(errno));
  struct sigaction action {};
  action.sa_sigaction = dispatch;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  if (::sigaction(signo, &action, nullptr) != 0)
    base::fatalf("cannot handle signal %d: %s", signo, std::strerror(errno));
}

int capture_signal() noexcept { return the_choice().capture; }
int profile_signal() noexcept { return the_choice().profile; }

void unblock_own_signals() noexcept {
  sigset_t own;
  ::sigemptyset(&own);
  ::sigaddset(&own, capture_signal());
  ::sigaddset(&own, profile_signal());
  ::pthread_sigmask(SIG_UNBLOCK, &own, nullptr);
}

bool call_previous(struct sigaction& previous, int signo, siginfo_t* info,
                   void* ucontext) noexcept {
  const struct sigaction call = previous;
  if (call.sa_handler == SIG_DFL) return false;
  // The kernel does not let a program ignore a fault of its own.
  if (call.sa_handler == SIG_IGN) return info->si_code <= 0;
  if ((call.sa_flags & SA_RESETHAND) != 0) previous.sa_handler = SIG_DFL;
  sigset_t before;
  ::pthread_sigmask(SIG_BLOCK, &call.sa_mask, &before);
  if ((call.sa_flags & SA_NODEFER) != 0) {
    sigset_t own;
    ::sigemptyset(&own);
    ::sigaddset(&own, signo);
    ::pthread_sigmask(SIG_UNBLOCK, &own, nullptr);
  }
  if ((call.sa_flags & SA_SIGINFO) != 0)
    call.sa_sigaction(signo, info, ucontext);
  else
    call.sa_handler(signo);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return true;
}

}  // namespace weft::sched
