#include "scheduler/service_thread.h"

#include <pthread.h>
#include <signal.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <new>

#include "base/check.h"
#include "scheduler/deadlock.h"
#include "scheduler/signals.h"

namespace weft::sched {
namespace {

struct start_record {
  const char* name;
  void (*body)(void*);
  void* arg;
};

void* service_main(void* arg) {
  const start_record r = *std::unique_ptr<start_record>(static_cast<start_record*>(arg));
  ::pthread_setname_np(::pthread_self(), r.name);
  service_thread not_an_actor;
  unblock_own_signals();
  r.body(r.arg);
  return nullptr;
}

}  // namespace

int start_service_thread(const char* name, void (*body)(void*), void* arg) noexcept {
  std::unique_ptr<start_record> r(new (std::nothrow) start_record{name, body, arg});
  if (r == nullptr) return ENOMEM;
  // The new thread has the mask from its first instruction on. A blocked fault would end the
  // process without a report.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS})
    ::sigdelset(&all, fault);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  pthread_attr_t attr;
  ::pthread_attr_init(&attr);
  ::pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_t id;
  const int error = ::pthread_create(&id, &attr, service_main, r.get());
  ::pthread_attr_destroy(&attr);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error == 0) static_cast<void>(r.release());
  return error;
}

void start_detector_thread(const char* name, void (*body)(void*), void* arg) noexcept {
  if (int error = start_service_thread(name, body, arg))
    base::log_line("WEFT_DEBUG: %s does not work: cannot start a thread for it: %s", name,
                   std::strerror(error));
}

}  // namespace weft::sched
