#include <poll.h>
#include <unistd.h>
#include <weft/net/wait.h>

#include <cerrno>

#include "net/descriptor.h"
#include "net/sys.h"
#include "net/under_context.h"

namespace weft::net {
namespace {

// What holds now; a negative errno value on failure.
WEFT_OPAQUE int look(int fd, events wanted) noexcept {
  pollfd p{fd, static_cast<short>(wanted), 0};
  int n;
  do {
    n = ::poll(&p, 1, 0);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return -errno;
  if ((p.revents & POLLNVAL) != 0) return -EBADF;
  return p.revents;
}

result<events> wait_until(int fd, events wanted, std::chrono::steady_clock::time_point deadline,
                          detail::cancel_source* stop) {
  if (stop != nullptr && stop->cancelled()) return errc::canceled;
  int now = look(fd, wanted);
  if (now < 0) return sys::error(now);
  if (now > 0) return static_cast<events>(now);
  // The poller knows each fd once, and this one may be known already; a duplicate is ours alone.
  const int own = sys::dup(fd);
  if (own < 0) return sys::error(own);
  descriptor::options o;
  o.watch = static_cast<uint32_t>(wanted);
  o.merged = true;
  o.writable_at_start = false;
  result<descriptor*> opened = descriptor::open(own, o);
  if (!opened) {
    ::close(own);
    if (opened.error().value() == EPERM) return wanted;
    return opened.error();
  }
  descriptor* d = *opened;
  // The duplicate's end does not end the registration: the file stays open.
  d->may_be_shared();
  d->set_deadline(direction::in, deadline_ns(deadline));
  error_code e = d->enter(direction::in);
  while (!e && now == 0) {
    e = d->wait(direction::in, stop);
    if (!e) now = look(fd, wanted);
  }
  d->leave(direction::in);
  d->destroy();
  if (e) return e;
  if (now < 0) return sys::error(now);
  return static_cast<events>(now);
}

}  // namespace

result<events> try_wait(int fd, events wanted, std::chrono::steady_clock::time_point deadline) {
  return wait_until(fd, wanted, deadline, nullptr);
}

result<events> try_wait(const context& ctx, int fd, events wanted) {
  return under(ctx, [&](detail::cancel_source* stop) { return wait_until(fd, wanted, {}, stop); });
}

events wait(const context& ctx, int fd, events wanted) { return try_wait(ctx, fd, wanted).value(); }

events wait(int fd, events wanted, std::chrono::steady_clock::time_point deadline) {
  return try_wait(fd, wanted, deadline).value();
}

}  // namespace weft::net
