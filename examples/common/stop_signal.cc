#include "examples/common/stop_signal.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

namespace example {
namespace {

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

stop_signal::stop_signal() {
  sigset_t set = stop_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { wait(); });
}

stop_signal::~stop_signal() {
  leaving_ = true;
  pthread_kill(thread_.native_handle(), SIGTERM);
  thread_.join();
}

void stop_signal::wait() {
  sigset_t set = stop_signals();
  for (int seen = 0;; ++seen) {
    int signal = 0;
    sigwait(&set, &signal);
    if (leaving_) return;
    if (seen > 0) _exit(130);
    cancellable_.second();
  }
}

}  // namespace example
