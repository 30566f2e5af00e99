#include "scheduler/signals.h"

#include <atomic>
#include <cerrno>
#include <charconv>

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
  const entry& e = g_entries[signo];
  const bool done = e.ours.load(std::memory_order_acquire)(info, ucontext);
  errno = saved;
  if (done) return;
  // Without a handler of the program's the signal is dropped: a late tick of a profile that has
  // ended must not end the process.
  if ((e.before.sa_flags & SA_SIGINFO) != 0)
    e.before.sa_sigaction(signo, info, ucontext);
  else if (e.before.sa_handler != SIG_DFL && e.before.sa_handler != SIG_IGN)
    e.before.sa_handler(signo);
}

}  // namespace

void install_signal(int signo, signal_handler handler) {
  entry& e = g_entries[signo];
  ::sigaction(signo, nullptr, &e.before);
  e.ours.store(handler, std::memory_order_release);
  struct sigaction action {};
  action.sa_sigaction = dispatch;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(signo, &action, nullptr);
}

int signal_for(std::string_view use, int otherwise) {
  std::string_view rest = base::option_value(base::option::WEFT_SIGNALS);
  int chosen = otherwise;
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    const size_t equals = item.find('=');
    const std::string_view name = item.substr(0, equals);
    const std::string_view number =
        equals == std::string_view::npos ? std::string_view{} : item.substr(equals + 1);
    int signo = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), signo);
    if ((name != "capture" && name != "profile") || error != std::errc{} ||
        end != number.data() + number.size() || signo < 1 || signo >= _NSIG || signo == SIGKILL ||
        signo == SIGSTOP)
      base::fatalf(
          "WEFT_SIGNALS: %.*s: it must be capture=NUMBER or profile=NUMBER, a signal from 1 to %d",
          static_cast<int>(item.size()), item.data(), _NSIG - 1);
    if (name == use) chosen = signo;
  }
  return chosen;
}

}  // namespace weft::sched
