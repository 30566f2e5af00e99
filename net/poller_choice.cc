// What both pollers share, and the choice between them.
//
// epoll is the default for sockets: a loopback echo gained 5 to 14 % from a ring at 64 connections
// and nothing at one, and containers often forbid rings. WEFT_IO=uring asks for one; if the kernel
// refuses, epoll serves and one line says why.
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>

#include "base/check.h"
#include "base/options.h"
#include "net/poller.h"

namespace weft::net {
namespace {

std::atomic<io_poller*> g_poller{nullptr};
std::string* g_reason = nullptr;  // written once, before g_poller

io_poller* choose(std::string& reason) {
  const std::string_view wanted = base::option_value(base::option::WEFT_IO);
  bool say = !base::debug_switch("netlog").empty();
  io_poller* p = nullptr;
  if (wanted == "uring") {
    std::string why;
    p = make_uring_poller(why);
    reason = p != nullptr ? "WEFT_IO=uring" : "WEFT_IO=uring is not possible here: " + why;
    say |= p == nullptr;
  } else if (wanted == "epoll") {
    reason = "WEFT_IO=epoll";
  } else if (wanted.empty()) {
    reason = "default";
  } else {
    reason = "WEFT_IO=" + std::string(wanted) + " is neither epoll nor uring";
    say = true;
  }
  if (p == nullptr) {
    std::string why;
    p = make_epoll_poller(why);
    if (p == nullptr) base::fatalf("cannot set up a poller: %s", why.c_str());
  }
  if (say) base::log_line("sockets use %s (%s)", p->name(), reason.c_str());
  return p;
}

}  // namespace

error_code io_poller::open_wake() noexcept {
  wake_fd_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return wake_fd_ < 0 ? last_system_error() : error_code{};
}

void io_poller::wake() noexcept {
  // [ord poller.wake] publishes what the waiting thread is to look at
  if (wake_sent_.exchange(true, std::memory_order_acq_rel)) return;
  const int saved = errno;
  uint64_t one = 1;
  while (::write(wake_fd_, &one, sizeof one) < 0 && errno == EINTR) {
  }
  errno = saved;
}

void io_poller::take_wake() noexcept {
  uint64_t count = 0;
  while (::read(wake_fd_, &count, sizeof count) < 0 && errno == EINTR) {
  }
  // [ord poller.wake] After the read: a wake() from here on writes again, one before is seen by
  // now.
  wake_sent_.exchange(false, std::memory_order_acq_rel);
}

void io_poller::start_soon(starter* s) noexcept {
  {
    std::lock_guard hold(pending_lock_);
    s->next = nullptr;
    (pending_last_ != nullptr ? pending_last_->next : pending_first_) = s;
    pending_last_ = s;
    pending_count_.fetch_add(1, std::memory_order_relaxed);
  }
  wake();
}

void io_poller::take_pending(sched::task_list& out) noexcept {
  if (pending_count_.load(std::memory_order_relaxed) == 0) return;
  starter* s;
  {
    std::lock_guard hold(pending_lock_);
    s = pending_first_;
    pending_first_ = pending_last_ = nullptr;
    pending_count_.store(0, std::memory_order_relaxed);
  }
  while (s != nullptr) {
    starter* next = s->next;  // s may end as soon as its task runs
    out.push_back(sched::make_starter_task(s->start, s->arg, s->created_by));
    s = next;
  }
}

io_poller& ensure_poller() noexcept {
  io_poller* p = g_poller.load(std::memory_order_acquire);
  if (p != nullptr) return *p;
  static std::mutex choosing;
  std::lock_guard hold(choosing);
  p = g_poller.load(std::memory_order_relaxed);
  if (p == nullptr) {
    g_reason = new std::string;
    p = choose(*g_reason);
    sched::set_poller(p);
    g_poller.store(p, std::memory_order_release);
  }
  return *p;
}

const char* poller_name() noexcept {
  io_poller* p = g_poller.load(std::memory_order_acquire);
  return p != nullptr ? p->name() : "";
}

const char* poller_reason() noexcept {
  return g_poller.load(std::memory_order_acquire) != nullptr ? g_reason->c_str() : "";
}

}  // namespace weft::net
