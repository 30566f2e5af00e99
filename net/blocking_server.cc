// One thread accepts, one thread per connection serves; nothing here parks or needs a processor.
//
// The accept thread alone starts connection threads and joins them: a thread that ends puts itself
// on the list of finished ones and rings the eventfd. So no thread is ever detached, and stop()
// leaves nothing behind.
#include "net/blocking_server.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <weft/net/address.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <list>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include "base/check.h"
#include "net/http/connection.h"
#include "net/sys.h"
#include "scheduler/deadlock.h"

namespace weft::net {
namespace {

using std::chrono::steady_clock;

constexpr std::string_view unix_prefix = "unix:";
constexpr std::string_view overloaded =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Length: 24\r\nConnection: close\r\nRetry-After: 1\r\n\r\ntoo many connections now";

[[noreturn]] void fail(const char* what, std::string_view address) {
  throw system_error(last_system_error(), std::string(what) + " " + std::string(address));
}

// A non-blocking socket and poll(2) with the remaining time.
class thread_transport final : public http::detail::transport {
 public:
  thread_transport(int fd, std::string remote) : fd_(fd), remote_(std::move(remote)) {}

  result<std::size_t> read(std::span<char> into) override {
    for (;;) {
      const ssize_t n = sys::recv(fd_, into.data(), into.size(), 0);
      if (n >= 0) return static_cast<std::size_t>(n);
      if (!sys::would_block(n)) return sys::error(n);
      if (error_code e = wait(POLLIN, read_deadline_)) return e;
    }
  }
  result<std::size_t> read_now(std::span<char> into) override {
    const ssize_t n = sys::recv(fd_, into.data(), into.size(), 0);
    if (n < 0) return sys::error(n);
    return static_cast<std::size_t>(n);
  }
  result<void> write(std::span<const std::string_view> pieces) override {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      std::string_view p = pieces[i];
      while (!p.empty()) {
        const iovec part{const_cast<char*>(p.data()), p.size()};
        const ssize_t n = sys::send(fd_, &part, 1, i + 1 < pieces.size() ? MSG_MORE : 0);
        if (n >= 0) {
          p.remove_prefix(static_cast<std::size_t>(n));
        } else if (!sys::would_block(n)) {
          return sys::error(n);
        } else if (error_code e = wait(POLLOUT, write_deadline_)) {
          return e;
        }
      }
    }
    return {};
  }
  void set_read_deadline(time_point at) override { read_deadline_ = at; }
  void set_write_deadline(time_point at) override { write_deadline_ = at; }
  void shutdown_write() override { ::shutdown(fd_, SHUT_WR); }
  // The fd itself is closed by whoever made it, once nobody can call shutdown() on it any more.
  void close() override { ::shutdown(fd_, SHUT_RDWR); }
  void reset() override {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  bool peer_closed() const override {
    pollfd p{fd_, POLLRDHUP, 0};
    return ::poll(&p, 1, 0) > 0;
  }
  std::string_view remote_address() const override { return remote_; }

 private:
  error_code wait(short events, time_point deadline) const {
    for (;;) {
      int timeout = -1;
      if (deadline != no_deadline) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now());
        if (left.count() <= 0) return errc::deadline_exceeded;
        timeout = static_cast<int>(std::min<std::int64_t>(left.count(), 1'000'000'000));
      }
      pollfd p{fd_, events, 0};
      const int n = ::poll(&p, 1, timeout);
      if (n > 0) return {};
      if (n < 0 && errno != EINTR) return last_system_error();
    }
  }

  int fd_;
  std::string remote_;
  time_point read_deadline_ = no_deadline;
  time_point write_deadline_ = no_deadline;
};

}  // namespace

struct blocking_server::impl {
  struct worker {
    int fd = -1;
    std::thread thread;
    bool finished = false;
  };

  impl(http::handler h, const blocking_server_options& o)
      : options(o), handle(std::move(h)), pool(static_cast<std::size_t>(o.max_connections)) {
    options.http.check();
    if (options.max_connections < 1 || options.max_connections > 1000) {
      throw std::invalid_argument("blocking_server: max_connections is " +
                                  std::to_string(options.max_connections) +
                                  ", allowed are 1 to 1000");
    }
  }

  ~impl() {
    if (listener >= 0) ::close(listener);
    if (ring >= 0) ::close(ring);
  }

  void listen_tcp(std::string_view where) {
    result<std::vector<net::address>> all = resolve(where);
    if (!all) throw system_error(all.error(), "listen " + std::string(where));
    auto a = std::find_if(all->begin(), all->end(), [](const auto& i) { return !i.is_v6(); });
    if (a == all->end()) a = all->begin();
    listener = sys::socket(a->is_v6() ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
    if (listener < 0) throw system_error(sys::error(listener), "listen " + std::string(where));
    const int on = 1;
    ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(listener, a->native(), a->native_size()) != 0 || ::listen(listener, 128) != 0)
      fail("listen", where);
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&own), &size);
    address = address::from_native(reinterpret_cast<sockaddr*>(&own)).to_string();
  }

  void listen_unix(std::string_view where) {
    const std::string_view path = where.substr(unix_prefix.size());
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof name.sun_path) {
      throw std::invalid_argument("listen " + std::string(where) + ": the path must have 1 to " +
                                  std::to_string(sizeof name.sun_path - 1) + " bytes");
    }
    std::copy(path.begin(), path.end(), name.sun_path);
    const auto* sa = reinterpret_cast<const sockaddr*>(&name);
    listener = sys::socket(AF_UNIX, SOCK_STREAM, 0);
    if (listener < 0) throw system_error(sys::error(listener), "listen " + std::string(where));
    ::fchmod(listener, 0600);
    int bound = ::bind(listener, sa, sizeof name);
    if (bound != 0 && errno == EADDRINUSE && is_abandoned(name)) {
      ::unlink(name.sun_path);
      bound = ::bind(listener, sa, sizeof name);
    }
    if (bound != 0 || ::listen(listener, 128) != 0) fail("listen", where);
    unix_path = path;
    address = where;
  }

  // A socket file whose owner is gone.
  static bool is_abandoned(const sockaddr_un& name) {
    struct stat st;
    if (::lstat(name.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) return false;
    const int probe = sys::socket(AF_UNIX, SOCK_STREAM, 0);
    if (probe < 0) return false;
    const int r = sys::connect(probe, reinterpret_cast<const sockaddr*>(&name), sizeof name);
    ::close(probe);
    return r == -ECONNREFUSED;
  }

  void wake() noexcept {
    const uint64_t one = 1;
    static_cast<void>(!::write(ring, &one, sizeof one));
  }

  void accept_loop() {
    sched::service_thread not_an_actor;
    ::pthread_setname_np(::pthread_self(), options.thread_name);
    while (!stopping.load(std::memory_order_acquire)) {
      pollfd fds[2] = {{listener, POLLIN, 0}, {ring, POLLIN, 0}};
      // Without a free file descriptor the queue stays readable: try again later.
      if (short_of_fds) fds[0].fd = -1;
      ::poll(fds, 2, short_of_fds ? 100 : -1);
      short_of_fds = false;
      if (fds[1].revents != 0) {
        uint64_t count;
        static_cast<void>(!::read(ring, &count, sizeof count));
        join_finished();
      }
      sockaddr_storage peer{};
      socklen_t size;
      const int fd = sys::accept(listener, &peer, &size);
      if (fd >= 0)
        start(fd, peer);
      else if (fd == -EMFILE || fd == -ENFILE)
        short_of_fds = true;
    }
    // Connections that nobody accepted are reset with it.
    ::close(std::exchange(listener, -1));
    {
      std::lock_guard hold(lock);
      for (worker& w : workers) {
        if (!w.finished) ::shutdown(w.fd, SHUT_RDWR);
      }
    }
    for (worker& w : workers) {
      w.thread.join();
      ::close(w.fd);
    }
    workers.clear();
  }

  void start(int fd, const sockaddr_storage& peer) {
    if (workers.size() >= static_cast<std::size_t>(options.max_connections)) {
      const iovec part{const_cast<char*>(overloaded.data()), overloaded.size()};
      sys::send(fd, &part, 1, 0);
      ::shutdown(fd, SHUT_WR);
      ::close(fd);
      return;
    }
    std::string remote = address::from_native(reinterpret_cast<const sockaddr*>(&peer)).to_string();
    if (!unix_path.empty()) remote = address;
    std::list<worker>::iterator w;
    {
      std::lock_guard hold(lock);
      w = workers.emplace(workers.end());
      w->fd = fd;
    }
    try {
      w->thread = std::thread([this, w, fd, remote = std::move(remote)] {
        ::pthread_setname_np(::pthread_self(), options.thread_name);
        sched::service_thread not_an_actor;
        serve(fd, remote);
        {
          std::lock_guard hold(lock);
          w->finished = true;
        }
        wake();
      });
    } catch (const std::system_error&) {  // no more threads
      std::lock_guard hold(lock);
      workers.erase(w);
      ::close(fd);
    }
  }

  void serve(int fd, const std::string& remote) noexcept {
    try {
      thread_transport transport(fd, remote);
      http::detail::connection(transport, env, clock.now()).serve(http::detail::serve_mode::block);
    } catch (const std::exception& e) {
      base::log_line("%s: a connection was dropped: %s", options.thread_name, e.what());
    }
    // The peer must not wait until the accept thread gets to closing the fd.
    ::shutdown(fd, SHUT_RDWR);
  }

  void join_finished() {
    std::list<worker> done;
    {
      std::lock_guard hold(lock);
      for (auto w = workers.begin(); w != workers.end();) {
        auto next = std::next(w);
        if (w->finished) done.splice(done.end(), workers, w);
        w = next;
      }
    }
    for (worker& w : done) {
      w.thread.join();
      ::close(w.fd);
    }
  }

  blocking_server_options options;
  http::handler handle;
  http::detail::locked_buffer_pool pool;
  http::detail::system_http_clock clock;
  http::detail::http_counters counters;
  std::atomic<bool> stopping{false};
  http::detail::environment env{options.http, handle, pool, clock, counters, stopping};

  int listener = -1;
  int ring = -1;  // eventfd: a thread finished, or stop()
  std::string unix_path;
  std::string address;
  bool short_of_fds = false;  // accept thread only

  std::mutex lock;
  std::list<worker> workers;  // changed by the accept thread only; `finished` by all
  std::thread acceptor;
};

blocking_server::blocking_server(http::handler h, std::string_view address,
                                 const blocking_server_options& options)
    : impl_(std::make_unique<impl>(std::move(h), options)) {
  impl_->ring = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (impl_->ring < 0) fail("eventfd for", address);
  if (address.starts_with(unix_prefix))
    impl_->listen_unix(address);
  else
    impl_->listen_tcp(address);
  impl_->acceptor = std::thread([s = impl_.get()] { s->accept_loop(); });
}

blocking_server::~blocking_server() {
  stop();
  if (impl_->acceptor.joinable()) impl_->acceptor.join();
  if (!impl_->unix_path.empty()) ::unlink(impl_->unix_path.c_str());
}

const std::string& blocking_server::address() const noexcept { return impl_->address; }

void blocking_server::stop() noexcept {
  impl_->stopping.store(true, std::memory_order_release);
  impl_->wake();
}

}  // namespace weft::net
