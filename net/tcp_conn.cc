#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weft/context.h>
#include <weft/net/tcp.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "net/descriptor.h"
#include "net/sys.h"
#include "net/under_context.h"

namespace weft::net {
namespace {

// Pieces per system call; a longer list takes several.
constexpr std::size_t max_parts = 64;

error_code would_block() noexcept { return {EAGAIN, boost::system::system_category()}; }

// After a recv of `asked` bytes that took the readiness away: is there more to find out by asking
// again?
result<std::size_t> finish_read(descriptor& d, ssize_t n, std::size_t asked) noexcept {
  if (n > 0) {
    // A short read means drained, unless the end or an error may wait behind the data without a new
    // edge.
    if (static_cast<std::size_t>(n) == asked || d.hung_up()) d.set_ready(direction::in);
    return static_cast<std::size_t>(n);
  }
  d.set_ready(direction::in);  // the next call finds the same
  if (n == 0) return errc::eof;
  return sys::error(n);
}

// A list of pieces and how far it has been sent.
class gather {
 public:
  explicit gather(std::span<const std::string_view> pieces) noexcept : pieces_(pieces) {
    skip_empty();
  }
  bool done() const noexcept { return pieces_.empty(); }

  std::size_t fill(iovec* into) const noexcept {
    std::size_t n = 0;
    std::size_t offset = offset_;
    for (std::string_view p : pieces_) {
      if (n == max_parts) break;
      if (p.size() > offset) into[n++] = {const_cast<char*>(p.data()) + offset, p.size() - offset};
      offset = 0;
    }
    return n;
  }

  void advance(std::size_t n) noexcept {
    offset_ += n;
    skip_empty();
  }

 private:
  void skip_empty() noexcept {
    while (!pieces_.empty() && offset_ >= pieces_.front().size()) {
      offset_ -= pieces_.front().size();
      pieces_ = pieces_.subspan(1);
    }
  }

  std::span<const std::string_view> pieces_;
  std::size_t offset_ = 0;
};

}  // namespace

void descriptor_handle::reset() noexcept {
  if (descriptor* d = std::exchange(d_, nullptr)) d->destroy();
}

result<tcp_conn> tcp_conn::adopt(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return last_system_error();
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) < 0) return last_system_error();
  result<descriptor*> d = descriptor::open(fd, {});
  if (!d) return d.error();
  (*d)->may_be_shared();
  return tcp_conn(*d, address::from_native(reinterpret_cast<sockaddr*>(&peer)));
}

result<std::size_t> tcp_conn::read_until(std::span<char> into, detail::cancel_source* stop) {
  descriptor* d = d_.get();
  if (d == nullptr) return errc::closed;
  if (into.empty()) return std::size_t{0};
  descriptor_use use(*d, direction::in, stop);
  if (use.error()) return use.error();
  for (;;) {
    if (error_code e = d->wait(direction::in, stop)) return e;
    ssize_t n = sys::recv(d->fd(), into.data(), into.size(), 0);
    if (!sys::would_block(n)) return finish_read(*d, n, into.size());
  }
}

result<std::size_t> tcp_conn::try_read(std::span<char> into) { return read_until(into, nullptr); }

result<std::size_t> tcp_conn::try_read(const context& ctx, std::span<char> into) {
  return under(ctx, [&](detail::cancel_source* stop) { return read_until(into, stop); });
}

result<std::size_t> tcp_conn::try_read_now(std::span<char> into) {
  descriptor* d = d_.get();
  if (d == nullptr) return errc::closed;
  if (into.empty()) return std::size_t{0};
  if (!d->is_ready(direction::in)) {
    if (error_code e = d->check(direction::in)) return e;
    return would_block();
  }
  descriptor_use use(*d, direction::in);
  if (use.error()) return use.error();
  if (error_code e = d->check(direction::in)) return e;
  if (!d->take_ready(direction::in)) return would_block();
  ssize_t n = sys::recv(d->fd(), into.data(), into.size(), 0);
  if (sys::would_block(n)) return would_block();
  return finish_read(*d, n, into.size());
}

result<void> tcp_conn::try_read_full(std::span<char> into) {
  return read_full_until(into, nullptr);
}

result<void> tcp_conn::try_read_full(const context& ctx, std::span<char> into) {
  return under(ctx, [&](detail::cancel_source* stop) { return read_full_until(into, stop); });
}

result<void> tcp_conn::read_full_until(std::span<char> into, detail::cancel_source* stop) {
  std::size_t have = 0;
  while (have < into.size()) {
    result<std::size_t> n = read_until(into.subspan(have), stop);
    if (!n) {
      if (have > 0 && n.error() == errc::eof)
        return make_error_code(boost::system::errc::connection_aborted);
      return n.error();
    }
    have += *n;
  }
  return {};
}

result<void> tcp_conn::try_write(std::span<const std::string_view> pieces, std::size_t* written) {
  return write_until(pieces, written, nullptr);
}

result<void> tcp_conn::try_write(const context& ctx, std::span<const std::string_view> pieces,
                                 std::size_t* written) {
  return under(ctx,
               [&](detail::cancel_source* stop) { return write_until(pieces, written, stop); });
}

result<void> tcp_conn::write_until(std::span<const std::string_view> pieces, std::size_t* written,
                                   detail::cancel_source* stop) {
  std::size_t total = 0;
  if (written != nullptr) *written = 0;
  descriptor* d = d_.get();
  if (d == nullptr) return errc::closed;
  descriptor_use use(*d, direction::out, stop);
  if (use.error()) return use.error();
  gather rest(pieces);
  bool taken = false;  // the direction's readiness is in this function's hands
  while (!rest.done()) {
    if (error_code e = d->check(direction::out)) return e;
    if (stop != nullptr && stop->cancelled()) return errc::canceled;
    std::array<iovec, max_parts> parts;
    const std::size_t count = rest.fill(parts.data());
    ssize_t n = sys::send(d->fd(), parts.data(), count, 0);
    if (n >= 0) {
      total += static_cast<std::size_t>(n);
      if (written != nullptr) *written = total;
      rest.advance(static_cast<std::size_t>(n));
      continue;
    }
    if (!sys::would_block(n)) {
      d->set_ready(direction::out);
      return sys::error(n);
    }
    // An edge may have come between this attempt and the taking: then the second attempt succeeds.
    if (!taken && d->take_ready(direction::out)) {
      taken = true;
      continue;
    }
    if (error_code e = d->wait(direction::out, stop)) return e;
    taken = true;
  }
  if (taken) d->set_ready(direction::out);
  return {};
}

result<void> tcp_conn::try_write(std::string_view bytes, std::size_t* written) {
  return try_write(std::span(&bytes, 1), written);
}

result<void> tcp_conn::try_write(const context& ctx, std::string_view bytes, std::size_t* written) {
  return try_write(ctx, std::span(&bytes, 1), written);
}

result<std::size_t> tcp_conn::try_write_some(std::string_view bytes) {
  descriptor* d = d_.get();
  if (d == nullptr) return errc::closed;
  if (bytes.empty()) return std::size_t{0};
  descriptor_use use(*d, direction::out);
  if (use.error()) return use.error();
  bool taken = false;
  for (;;) {
    if (error_code e = d->check(direction::out)) return e;
    const iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    ssize_t n = sys::send(d->fd(), &part, 1, 0);
    if (!sys::would_block(n)) {
      d->set_ready(direction::out);
      if (n < 0) return sys::error(n);
      return static_cast<std::size_t>(n);
    }
    if (!taken && d->take_ready(direction::out)) {
      taken = true;
      continue;
    }
    if (error_code e = d->wait(direction::out)) return e;
    taken = true;
  }
}

void tcp_conn::set_deadline(time_point t) noexcept {
  set_read_deadline(t);
  set_write_deadline(t);
}

void tcp_conn::set_read_deadline(time_point t) noexcept {
  if (descriptor* d = d_.get()) d->set_deadline(direction::in, deadline_ns(t));
}

void tcp_conn::set_write_deadline(time_point t) noexcept {
  if (descriptor* d = d_.get()) d->set_deadline(direction::out, deadline_ns(t));
}

result<void> tcp_conn::try_shutdown_write() {
  descriptor* d = d_.get();
  if (d == nullptr) return errc::closed;
  descriptor_use use(*d);
  if (use.error()) return use.error();
  if (::shutdown(d->fd(), SHUT_WR) < 0) return last_system_error();
  return {};
}

bool tcp_conn::close() noexcept { return d_.get() != nullptr && d_.get()->close(); }

bool tcp_conn::reset() noexcept {
  descriptor* d = d_.get();
  if (d == nullptr) return false;
  {
    descriptor_use use(*d);
    if (use.error()) return false;
    const linger now{1, 0};
    ::setsockopt(d->fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  d->may_be_shared();  // keeps the poller from ending the stream in an orderly way
  return d->close();
}

bool tcp_conn::is_open() const noexcept {
  descriptor* d = d_.get();
  return d != nullptr && d->is_open();
}

bool tcp_conn::peer_closed() const noexcept {
  descriptor* d = d_.get();
  return d != nullptr && d->hung_up();
}

address tcp_conn::local_address() const noexcept {
  descriptor* d = d_.get();
  if (d == nullptr) return {};
  descriptor_use use(*d);
  if (use.error()) return {};
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  if (::getsockname(d->fd(), reinterpret_cast<sockaddr*>(&own), &size) < 0) return {};
  return address::from_native(reinterpret_cast<sockaddr*>(&own));
}

int tcp_conn::native_handle() const noexcept {
  descriptor* d = d_.get();
  if (d == nullptr || !d->is_open()) return -1;
  d->may_be_shared();
  return d->fd();
}

}  // namespace weft::net
