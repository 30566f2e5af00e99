#pragma once
// The poller of the process: one of two backends behind the scheduler's port.
#include <weft/result.h>

#include <atomic>
#include <string>

#include "base/spinlock.h"
#include "net/descriptor.h"
#include "scheduler/ports.h"

namespace weft::net {

class io_poller : public sched::poller {
 public:
  // Registers `fd` for edges of `watch`, once for its life; each edge goes to
  // descriptor::deliver(tag). What is ready already counts as an edge. EPERM: the kind of file is
  // always ready.
  virtual error_code add(int fd, uint64_t tag, uint32_t watch) noexcept = 0;

  // The fd is about to be closed. `shared`: a duplicate may keep the open file alive.
  virtual void remove(int fd, uint64_t tag, bool shared) noexcept = 0;

  // Has a starter run in a new task without an edge. Any thread, also inside the scheduler; not
  // inside poll().
  void start_soon(starter* s) noexcept;

  bool has_waiters() const noexcept final {
    return registered_.load(std::memory_order_relaxed) > 0 ||
           pending_count_.load(std::memory_order_relaxed) > 0;
  }
  void wake() noexcept final;

 protected:
  static constexpr int batch = 256;

  // Opens the eventfd behind wake().
  error_code open_wake() noexcept;
  int wake_fd() const noexcept { return wake_fd_; }
  // Only a thread that waits may take a wake-up: a passing poll(0) would take it from the one it is
  // for.
  void take_wake() noexcept;

  // Moves the starters of start_soon() to `out` as tasks.
  void take_pending(sched::task_list& out) noexcept;
  void count_registered(int n) noexcept { registered_.fetch_add(n, std::memory_order_relaxed); }

 private:
  int wake_fd_ = -1;
  std::atomic<bool> wake_sent_{false};
  std::atomic<int64_t> registered_{0};
  base::spinlock pending_lock_;
  starter* pending_first_ = nullptr;
  starter* pending_last_ = nullptr;
  std::atomic<int64_t> pending_count_{0};
};

// Null, with the failing step and its error in `why`, if the kernel does not allow it.
io_poller* make_epoll_poller(std::string& why) noexcept;
io_poller* make_uring_poller(std::string& why) noexcept;

// The process's poller; chosen and handed to the scheduler at the first call. Thread-safe. The
// first call must not be inside a critical section.
io_poller& ensure_poller() noexcept;

// "epoll" or "uring", and why it is that one, once chosen ("" before).
const char* poller_name() noexcept;
const char* poller_reason() noexcept;

}  // namespace weft::net
