// The poller on epoll: one epoll descriptor, each fd registered once, edge-triggered.
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "net/poller.h"

namespace weft::net {
namespace {

static_assert(watch_stream == (EPOLLIN | EPOLLOUT | EPOLLRDHUP));

constexpr uint64_t wake_tag = 0;  // no record has it

class epoll_poller final : public io_poller {
 public:
  // Null or the step that failed.
  const char* open() noexcept {
    epfd_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (epfd_ < 0) return "epoll_create1";
    if (open_wake()) return "eventfd";
    epoll_event ev{};
    // Level-triggered: it stays until the waiting thread takes it.
    ev.events = EPOLLIN;
    ev.data.u64 = wake_tag;
    if (::epoll_ctl(epfd_, EPOLL_CTL_ADD, wake_fd(), &ev) != 0) return "epoll_ctl";
    return nullptr;
  }

  error_code add(int fd, uint64_t tag, uint32_t watch) noexcept override {
    epoll_event ev{};
    ev.events = watch | EPOLLET;
    ev.data.u64 = tag;
    count_registered(1);
    if (::epoll_ctl(epfd_, EPOLL_CTL_ADD, fd, &ev) == 0) return {};
    error_code e = last_system_error();
    count_registered(-1);
    return e;
  }

  void remove(int fd, uint64_t, bool shared) noexcept override {
    // Closing the last reference deregisters by itself and saves the call.
    if (shared) {
      epoll_event none{};
      ::epoll_ctl(epfd_, EPOLL_CTL_DEL, fd, &none);
    }
    count_registered(-1);
  }

  void poll(int64_t timeout_ns, sched::task_list& out) noexcept override {
    take_pending(out);
    const bool may_wait = timeout_ns != 0;
    if (!out.empty()) timeout_ns = 0;
    epoll_event events[batch];
    const int n = wait(events, timeout_ns);
    if (timeout_ns != 0) base::now_refresh();  // the tasks below are stamped with the coarse clock
    for (int i = 0; i < n; ++i) {
      if (events[i].data.u64 != wake_tag) {
        descriptor::deliver(events[i].data.u64, events[i].events, out);
      } else if (may_wait) {
        take_wake();
        take_pending(out);
      }
    }
  }

  const char* name() const noexcept override { return "epoll"; }

 private:
  int wait(epoll_event* events, int64_t timeout_ns) noexcept {
    const int saved = errno;
    int n;
    if (timeout_ns > 0 && have_pwait2_.load(std::memory_order_relaxed)) {
      timespec t{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
      n = ::epoll_pwait2(epfd_, events, batch, &t, nullptr);
      if (n >= 0 || errno == EINTR) {
        errno = saved;
        return n;
      }
      have_pwait2_.store(false, std::memory_order_relaxed);  // before Linux 5.11, or filtered
    }
    // Rounded up, so that the timer which set the timeout is due afterwards.
    int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + 999'999) / 1'000'000;
    n = ::epoll_wait(epfd_, events, batch, ms > 3'600'000 ? 3'600'000 : static_cast<int>(ms));
    errno = saved;
    return n;
  }

  int epfd_ = -1;
  std::atomic<bool> have_pwait2_{true};
};

}  // namespace

io_poller* make_epoll_poller(std::string& why) noexcept {
  static auto* const poller = new epoll_poller;  // never destroyed: threads use it to the very end
  if (const char* step = poller->open()) {
    why = std::string(step) + ": " + std::strerror(errno);
    return nullptr;
  }
  return poller;
}

}  // namespace weft::net
