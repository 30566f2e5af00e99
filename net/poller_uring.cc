// The poller on io_uring: one ring, each fd registered once by a multishot poll request.
//
// The ring is set up with COOP_TASKRUN and without SINGLE_ISSUER, because any thread registers and
// any thread reaps. Submission and reaping each have a lock, held for a system call at most;
// waiting holds none. A thread waits with ppoll(2) on the ring's fd and the eventfd rather than in
// io_uring_enter(2): a poll request completes in the context of the thread that submitted it, so an
// eventfd watched through the ring would wake late if that thread computes; watched beside the ring
// it always wakes at once.
//
// Differences from epoll that this file hides: closing an fd does not end its poll request, which
// holds the open file, so remove() cancels it and shuts the socket down; a request ends (no F_MORE)
// when the submitting thread exits or the completion queue overflows, and is then renewed if its
// descriptor still lives.
#include <liburing.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>

#include "base/clock.h"
#include "net/poller.h"

namespace weft::net {
namespace {

constexpr unsigned sq_entries = 64;
constexpr unsigned cq_entries = 8192;
constexpr uint64_t ignored_tag = 0;  // completions of cancel requests

std::string failed(const char* step, int error) {
  return std::string(step) + ": " + std::strerror(error);
}

class uring_poller final : public io_poller {
 public:
  // The empty string, or what failed.
  std::string open() {
    if (std::string why = open_ring(); !why.empty()) return why;
    std::string why = probe();
    if (why.empty() && open_wake()) why = failed("eventfd", errno);
    if (!why.empty()) io_uring_queue_exit(&ring_);
    return why;
  }

  error_code add(int fd, uint64_t tag, uint32_t watch) noexcept override {
    count_registered(1);
    error_code e = submit_poll(fd, tag, watch);
    if (e) count_registered(-1);
    return e;
  }

  void remove(int fd, uint64_t tag, bool shared) noexcept override {
    // The request's own reference goes when the thread that submitted it gets to that. The peer, or
    // whoever connects to a closed listener, should not have to wait for it.
    if (!shared) ::shutdown(fd, SHUT_RDWR);
    std::lock_guard hold(sq_lock_);
    if (io_uring_sqe* sqe = get_sqe()) {
      // Not a poll-remove request: that one gives up (EALREADY) on a request that is just firing.
      io_uring_prep_cancel64(sqe, tag, 0);
      io_uring_sqe_set_data64(sqe, ignored_tag);
      submit();
    }
    count_registered(-1);
  }

  void poll(int64_t timeout_ns, sched::task_list& out) noexcept override {
    const int saved = errno;
    take_pending(out);
    if (timeout_ns != 0 && out.empty() && !completions_wait()) wait(timeout_ns, out);
    // Work of this thread that waits for it to enter the kernel, or completions that found no room.
    if ((flags() & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0)
      io_uring_enter(static_cast<unsigned>(ring_.ring_fd), 0, 0, IORING_ENTER_GETEVENTS, nullptr);
    reap(out);
    errno = saved;
  }

  const char* name() const noexcept override { return "uring"; }

 private:
  struct completion {
    uint64_t tag;
    int result;
    bool more;
  };

  std::string open_ring() {
    io_uring_params params{};
    params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
                   IORING_SETUP_TASKRUN_FLAG;
    params.cq_entries = cq_entries;
    int r = io_uring_queue_init_params(sq_entries, &ring_, &params);
    if (r == -EINVAL) {  // before Linux 5.19
      params = {};
      params.flags = IORING_SETUP_CQSIZE;
      params.cq_entries = cq_entries;
      r = io_uring_queue_init_params(sq_entries, &ring_, &params);
    }
    if (r < 0) return failed("io_uring_setup", -r);
    if ((params.features & IORING_FEAT_NODROP) == 0) {
      io_uring_queue_exit(&ring_);
      return "the kernel's io_uring drops completions (before Linux 5.5)";
    }
    return {};
  }

  // A filter may allow the set-up and forbid the use; an old kernel may lack the operations.
  std::string probe() {
    io_uring_probe* p = io_uring_get_probe_ring(&ring_);
    if (p == nullptr) return "io_uring_register: the opcode probe is refused";
    const bool known = io_uring_opcode_supported(p, IORING_OP_POLL_ADD) != 0 &&
                       io_uring_opcode_supported(p, IORING_OP_ASYNC_CANCEL) != 0;
    io_uring_free_probe(p);
    if (!known) return "the kernel's io_uring cannot poll";
    io_uring_prep_nop(io_uring_get_sqe(&ring_));
    int r = io_uring_submit_and_wait(&ring_, 1);
    if (r < 0) return failed("io_uring_enter", -r);
    io_uring_cqe* cqe = nullptr;
    r = io_uring_peek_cqe(&ring_, &cqe);
    if (r < 0) return failed("io_uring round trip", -r);
    r = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    return r < 0 ? failed("IORING_OP_NOP", -r) : std::string{};
  }

  unsigned flags() const noexcept { return __atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED); }

  // A glance without the lock; liburing's own reads the head as its single consumer would.
  bool completions_wait() const noexcept {
    return __atomic_load_n(ring_.cq.ktail, __ATOMIC_ACQUIRE) !=
           __atomic_load_n(ring_.cq.khead, __ATOMIC_RELAXED);
  }

  // sq_lock_ held. Each entry is submitted before the lock is released, so there is always room
  // unless the kernel refuses submissions just then.
  io_uring_sqe* get_sqe() noexcept {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) {
      submit();
      sqe = io_uring_get_sqe(&ring_);
    }
    return sqe;
  }

  int submit() noexcept {
    int r;
    do {
      r = io_uring_submit(&ring_);
    } while (r == -EINTR || r == -EAGAIN);
    return r;
  }

  error_code submit_poll(int fd, uint64_t tag, uint32_t watch) noexcept {
    std::lock_guard hold(sq_lock_);
    io_uring_sqe* sqe = get_sqe();
    if (sqe == nullptr) return {ENOBUFS, boost::system::system_category()};
    io_uring_prep_poll_multishot(sqe, fd, watch);
    io_uring_sqe_set_data64(sqe, tag);
    // EBUSY: the completion queue has overflowed; the entry stays queued and leaves with the next
    // one.
    int r = submit();
    if (r < 0 && r != -EBUSY) return {-r, boost::system::system_category()};
    return {};
  }

  void wait(int64_t timeout_ns, sched::task_list& out) noexcept {
    pollfd fds[2] = {{ring_.ring_fd, POLLIN, 0}, {wake_fd(), POLLIN, 0}};
    timespec t{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
    if (::ppoll(fds, 2, timeout_ns < 0 ? nullptr : &t, nullptr) > 0 && fds[1].revents != 0) {
      take_wake();
      take_pending(out);
    }
    base::now_refresh();  // the tasks that reap() finds are stamped with the coarse clock
  }

  int take_completions(completion* into) noexcept {
    std::lock_guard hold(cq_lock_);
    io_uring_cqe* cqes[batch];
    const unsigned n = io_uring_peek_batch_cqe(&ring_, cqes, batch);
    for (unsigned i = 0; i < n; ++i)
      into[i] = {cqes[i]->user_data, cqes[i]->res, (cqes[i]->flags & IORING_CQE_F_MORE) != 0};
    io_uring_cq_advance(&ring_, n);
    return static_cast<int>(n);
  }

  void reap(sched::task_list& out) noexcept {
    if (!completions_wait()) return;
    completion done[batch];
    const int n = take_completions(done);
    for (int i = 0; i < n; ++i) {
      const completion& c = done[i];
      if (c.tag == ignored_tag) continue;
      if (c.result > 0) descriptor::deliver(c.tag, static_cast<uint32_t>(c.result), out);
      if (c.more) continue;
      // A request that failed for good would fail again: its users learn of it from the operation.
      if (c.result < 0 && c.result != -ECANCELED) {
        descriptor::deliver(c.tag, EPOLLIN | EPOLLOUT | EPOLLERR, out);
        continue;
      }
      descriptor::renew(
          c.tag,
          [](io_poller& self, int fd, uint64_t tag, uint32_t watch) {
            static_cast<uring_poller&>(self).submit_poll(fd, tag, watch);
          },
          *this);
    }
  }

  io_uring ring_{};
  base::spinlock sq_lock_;
  base::spinlock cq_lock_;
};

}  // namespace

io_poller* make_uring_poller(std::string& why) noexcept {
  static auto* const poller = new uring_poller;  // never destroyed: threads use it to the very end
  why = poller->open();
  return why.empty() ? poller : nullptr;
}

}  // namespace weft::net
