#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weft/context.h>
#include <weft/net/tcp.h>
#include <weft/task.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <stdexcept>
#include <string>

#include "base/check.h"
#include "base/clock.h"
#include "net/descriptor.h"
#include "net/sys.h"
#include "net/under_context.h"

namespace weft::net {

struct tcp_access {
  static tcp_conn connection(descriptor* d, const address& remote) { return {d, remote}; }
  static tcp_listener listener(descriptor* d, const address& local) { return {d, local}; }
};

namespace {

bool out_of_resources(ssize_t r) noexcept {
  return r == -EMFILE || r == -ENFILE || r == -ENOBUFS || r == -ENOMEM;
}

// Errors of the connection that was to be accepted, and of the network; the listener is unharmed
// (accept(2)).
bool connection_is_bad(ssize_t r) noexcept {
  return r == -EPROTO || r == -ENETDOWN || r == -ENOPROTOOPT || r == -EHOSTDOWN || r == -ENONET ||
         r == -EHOSTUNREACH || r == -EOPNOTSUPP || r == -ENETUNREACH || r == -EPERM;
}

// What to do when the process has no fd left for a waiting connection: pause, and when that does
// not help for a second, accept and close the waiting ones with a descriptor kept for this purpose,
// so that their peers learn of it instead of waiting for ever.
class shortage {
 public:
  static shortage& of_process() {
    static auto* const s = new shortage;
    return *s;
  }

  // To be called before the process can run out.
  void keep_reserve() noexcept {
    std::lock_guard hold(lock_);
    if (reserve_ < 0) reserve_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  }

  void say(ssize_t error) noexcept {
    const int64_t now = base::now_ns();
    int64_t last = said_at_.load(std::memory_order_relaxed);
    if ((last != 0 && now - last < 60'000'000'000) ||
        !said_at_.compare_exchange_strong(last, now, std::memory_order_relaxed))
      return;
    base::log_line("accept: %s; new connections wait (see ulimit -n)",
                   sys::error(error).message().c_str());
  }

  void turn_away(int listener) noexcept {
    std::lock_guard hold(lock_);
    if (reserve_ < 0) return;
    ::close(reserve_);
    for (int i = 0; i < 64; ++i) {
      sockaddr_storage peer;
      socklen_t size;
      const int fd = sys::accept(listener, &peer, &size);
      if (fd < 0) break;
      ::close(fd);
    }
    reserve_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  }

 private:
  base::spinlock lock_;
  int reserve_ = -1;
  std::atomic<int64_t> said_at_{0};
};

// One attempt; a negative errno value if there is none to be had.
ssize_t accept_one(descriptor& d, tcp_conn& conn) {
  for (;;) {
    sockaddr_storage peer{};
    socklen_t size;
    const int fd = sys::accept(d.fd(), &peer, &size);
    if (fd < 0) {
      if (connection_is_bad(fd)) continue;
      return fd;
    }
    result<descriptor*> opened = descriptor::open(fd, {});
    if (!opened) {
      ::close(fd);
      const int e = opened.error().value();
      return e == ENOSPC ? -ENOMEM : -e;  // ENOSPC: fs.epoll.max_user_watches
    }
    conn =
        tcp_access::connection(*opened, address::from_native(reinterpret_cast<sockaddr*>(&peer)));
    return 0;
  }
}

error_code configure_listener(int fd, const address& a, bool dual, const listen_options& o) {
  auto set = [fd](int level, int name, int value) {
    return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
  };
  bool ok = set(SOL_SOCKET, SO_REUSEADDR, 1);
  if (o.reuse_port) ok = ok && set(SOL_SOCKET, SO_REUSEPORT, 1);
  if (a.is_v6()) ok = ok && set(IPPROTO_IPV6, IPV6_V6ONLY, dual ? 0 : 1);
  if (o.no_delay) ok = ok && set(IPPROTO_TCP, TCP_NODELAY, 1);
  if (o.keep_alive.count() > 0) {
    const int seconds = static_cast<int>(std::min<std::int64_t>(o.keep_alive.count(), 32767));
    ok = ok && set(SOL_SOCKET, SO_KEEPALIVE, 1) && set(IPPROTO_TCP, TCP_KEEPIDLE, seconds) &&
         set(IPPROTO_TCP, TCP_KEEPINTVL, seconds);
  }
  ok = ok && ::bind(fd, a.native(), a.native_size()) == 0 && ::listen(fd, o.backlog) == 0;
  return ok ? error_code{} : last_system_error();
}

result<tcp_listener> listen_on(const address& a, bool dual, const listen_options& o) {
  const int fd = sys::socket(a.is_v6() ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
  if (fd < 0) return sys::error(fd);
  if (error_code e = configure_listener(fd, a, dual, o)) {
    ::close(fd);
    return e;
  }
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size);
  descriptor::options watch;
  watch.watch = 1;  // IN
  result<descriptor*> d = descriptor::open(fd, watch);
  if (!d) {
    ::close(fd);
    return d.error();
  }
  shortage::of_process().keep_reserve();
  return tcp_access::listener(*d, address::from_native(reinterpret_cast<sockaddr*>(&own)));
}

[[noreturn]] void throw_with(const error_code& e, const char* what, std::string_view address) {
  throw system_error(e, std::string(what) + " " + std::string(address));
}

// Connects to one address.
result<tcp_conn> connect_to(const address& a, time_point deadline, detail::cancel_source* stop) {
  const int fd = sys::socket(a.is_v6() ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
  if (fd < 0) return sys::error(fd);
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const int r = sys::connect(fd, a.native(), a.native_size());
  if (r < 0 && r != -EINPROGRESS && r != -EINTR) {
    ::close(fd);
    return sys::error(r);
  }
  descriptor::options o;
  o.writable_at_start = r == 0;
  result<descriptor*> opened = descriptor::open(fd, o);
  if (!opened) {
    ::close(fd);
    return opened.error();
  }
  tcp_conn conn = tcp_access::connection(*opened, a);
  if (r == 0) return conn;
  descriptor& d = **opened;
  d.set_deadline(direction::out, deadline_ns(deadline));
  {
    descriptor_use use(d, direction::out);
    if (error_code e = d.wait(direction::out, stop)) return e;
    if (const int e = sys::pending_error(fd)) return sys::error(-e);
    d.set_ready(direction::out);
  }
  d.set_deadline(direction::out, no_deadline);
  return conn;
}

}  // namespace

result<tcp_conn> tcp_listener::try_accept_now() {
  descriptor* d = d_.get();
  if (d == nullptr) return errc::closed;
  descriptor_use use(*d, direction::in);
  if (use.error()) return use.error();
  if (error_code e = d->check(direction::in)) return e;
  tcp_conn conn;
  const ssize_t r = accept_one(*d, conn);
  if (r < 0) return sys::error(r);
  return conn;
}

result<tcp_conn> tcp_listener::try_accept() { return accept_until(nullptr); }

result<tcp_conn> tcp_listener::try_accept(const context& ctx) { return accept_until(&ctx); }

result<tcp_conn> tcp_listener::accept_until(const context* ctx) {
  using namespace std::chrono_literals;
  detail::cancel_source* stop = ctx != nullptr ? detail::limit_of(*ctx).cancellation : nullptr;
  // Which of the two ended it.
  auto error = [&](const error_code& e) { return e == errc::canceled ? ctx->err() : e; };
  descriptor* d = d_.get();
  if (d == nullptr) return errc::closed;
  descriptor_use use(*d, direction::in, stop);
  if (use.error()) return error(use.error());
  std::chrono::milliseconds pause = 5ms, paused = 0ms;
  for (;;) {
    if (error_code e = d->wait(direction::in, stop)) return error(e);
    tcp_conn conn;
    const ssize_t r = accept_one(*d, conn);
    if (sys::would_block(r)) continue;
    d->set_ready(direction::in);  // there may be more; the call that finds none waits
    if (r == 0) return conn;
    if (!out_of_resources(r)) return sys::error(r);
    shortage::of_process().say(r);
    if (ctx == nullptr)
      this_task::sleep_for(pause);
    else if (!this_task::sleep_for(*ctx, pause))
      return ctx->err();
    paused += pause;
    pause = std::min<std::chrono::milliseconds>(pause * 2, 100ms);
    if (paused >= 1s) {
      shortage::of_process().turn_away(d->fd());
      paused = 0ms;
    }
  }
}

void tcp_listener::set_deadline(time_point t) noexcept {
  if (descriptor* d = d_.get()) d->set_deadline(direction::in, deadline_ns(t));
}

bool tcp_listener::close() noexcept { return d_.get() != nullptr && d_.get()->close(); }

bool tcp_listener::is_open() const noexcept {
  descriptor* d = d_.get();
  return d != nullptr && d->is_open();
}

int tcp_listener::native_handle() const noexcept {
  descriptor* d = d_.get();
  if (d == nullptr || !d->is_open()) return -1;
  d->may_be_shared();
  return d->fd();
}

result<tcp_listener> try_listen(std::string_view network, std::string_view where,
                                const listen_options& options) {
  if (network != "tcp" && network != "tcp4" && network != "tcp6") {
    throw std::invalid_argument("listen: network \"" + std::string(network) +
                                "\" is none of tcp, tcp4, tcp6");
  }
  result<std::vector<address>> all = resolve(where);
  if (!all) return all.error();
  const bool any = where.starts_with(':');
  std::vector<address> usable;
  for (const address& a : *all) {
    if (any || (network == "tcp4" && !a.is_v6()) || (network == "tcp6" && a.is_v6()) ||
        network == "tcp")
      usable.push_back(a);
  }
  // One address gets the listener: of a name that has both kinds, the IPv4 one, as in Go.
  std::stable_partition(usable.begin(), usable.end(), [](const address& a) { return !a.is_v6(); });
  if (any) {
    const std::uint16_t port = usable.front().port();
    usable.clear();
    if (network != "tcp4") usable.push_back(address::parse("[::]:0").with_port(port));
    if (network != "tcp6") usable.push_back(address::parse("0.0.0.0:0").with_port(port));
  }
  if (usable.empty()) return errc::no_such_host;
  result<tcp_listener> l = listen_on(usable[0], network == "tcp", options);
  // A kernel without IPv6 still serves ":port".
  if (!l && any && usable.size() > 1 &&
      (l.error().value() == EAFNOSUPPORT || l.error().value() == EADDRNOTAVAIL))
    l = listen_on(usable[1], false, options);
  return l;
}

tcp_listener listen(std::string_view network, std::string_view where,
                    const listen_options& options) {
  result<tcp_listener> l = try_listen(network, where, options);
  if (!l) throw_with(l.error(), "listen", where);
  return std::move(*l);
}

namespace {

result<tcp_conn> dial_until(std::string_view where, time_point deadline,
                            detail::cancel_source* stop) {
  if (stop != nullptr && stop->cancelled()) return errc::canceled;
  result<std::vector<address>> all = resolve(where);
  if (!all) return all.error();
  error_code last = errc::no_such_host;
  for (address a : *all) {
    // As in Go, no host means this one.
    if (a.is_unspecified())
      a = address::parse(a.is_v6() ? "[::1]:0" : "127.0.0.1:0").with_port(a.port());
    if (stop != nullptr && stop->cancelled()) return errc::canceled;
    result<tcp_conn> c = connect_to(a, deadline, stop);
    if (c) return c;
    last = c.error();
    if (last == errc::deadline_exceeded || last == errc::canceled) break;
  }
  return last;
}

}  // namespace

result<tcp_conn> try_dial(std::string_view where, time_point deadline) {
  return dial_until(where, deadline, nullptr);
}

result<tcp_conn> try_dial(const context& ctx, std::string_view where) {
  return under(ctx, [&](detail::cancel_source* stop) { return dial_until(where, {}, stop); });
}

tcp_conn dial(const context& ctx, std::string_view where) {
  result<tcp_conn> c = try_dial(ctx, where);
  if (!c) throw_with(c.error(), "dial", where);
  return std::move(*c);
}

tcp_conn dial(std::string_view where, time_point deadline) {
  result<tcp_conn> c = try_dial(where, deadline);
  if (!c) throw_with(c.error(), "dial", where);
  return std::move(*c);
}

}  // namespace weft::net
