// The floor that weft's servers are measured against: what one thread can do by hand.
//
// Shape     one epoll set, edge-triggered, registered once per connection; one recv per edge (a
//           short read means drained unless the peer also hung up), all complete requests of a
//           read answered by one send. No header is looked at beyond the blank line that ends a
//           head.
// Not here  deadlines, limits beyond the buffer size, partial writes of more than the socket buffer
//           takes, bodies: a server needs them, a floor must not pay for them.
// Output    "ready port=N" on stdout when listening; CPU time used, at SIGTERM.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "bench/common/args.h"

namespace {

constexpr std::size_t buffer_size = 16 * 1024;
volatile std::sig_atomic_t stopping = 0;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

// The same bytes as the other hello servers send; only the date changes, once a second.
class hello_response {
 public:
  std::string_view get(bool keep_alive) {
    const std::time_t now = std::time(nullptr);
    if (now != second_) {
      second_ = now;
      keep_alive_ = make(now, "");
      closing_ = make(now, "Connection: close\r\n");
    }
    return keep_alive ? keep_alive_ : closing_;
  }

 private:
  static std::string make(std::time_t now, const char* extra) {
    std::tm parts{};
    gmtime_r(&now, &parts);
    char date[64];
    std::strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    return std::string("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nDate: ") +
           date + "\r\nContent-Length: 13\r\n" + extra + "\r\nHello, world!";
  }

  std::time_t second_ = 0;
  std::string keep_alive_, closing_;
};

// An incomplete request head is kept per connection; in steady state it is empty.
struct connection {
  std::string partial;
};

class server {
 public:
  server(bool http, long port) : http_(http), listener_(listen_on(port)), epoll_(epoll_create1(0)) {
    if (epoll_ < 0) die("epoll_create1");
    add(listener_, EPOLLIN | EPOLLET);
  }

  int port() const {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    if (getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      die("getsockname");
    }
    return ntohs(address.sin_port);
  }

  void run() {
    epoll_event events[256];
    while (stopping == 0) {
      const int count = epoll_wait(epoll_, events, 256, -1);
      for (int i = 0; i < count; ++i) {
        if (events[i].data.fd == listener_) {
          accept_all();
        } else {
          serve(events[i].data.fd, events[i].events);
        }
      }
    }
  }

 private:
  static int listen_on(long port) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);  // accepted sockets inherit it
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) die("bind");
    if (listen(fd, 4096) != 0) die("listen");
    return fd;
  }

  void add(int fd, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
  }

  void accept_all() {
    for (;;) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) {
        if (errno == EAGAIN || errno == ECONNABORTED) return;
        die("accept4");
      }
      if (static_cast<std::size_t>(fd) >= connections_.size()) {
        connections_.resize(static_cast<std::size_t>(fd) * 2 + 64);
      }
      connections_[static_cast<std::size_t>(fd)].partial.clear();
      add(fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
    }
  }

  void serve(int fd, std::uint32_t events) {
    const bool hung_up = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    for (;;) {
      const ssize_t got = recv(fd, buffer_, sizeof buffer_, 0);
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) break;
      const std::string_view bytes(buffer_, static_cast<std::size_t>(got));
      if (!(http_ ? answer(fd, bytes) : write_all(fd, bytes))) break;
      if (bytes.size() < sizeof buffer_ && !hung_up) return;
    }
    close(fd);
  }

  // Answers every complete head in what the connection has sent; false = close.
  bool answer(int fd, std::string_view bytes) {
    std::string& partial = connections_[static_cast<std::size_t>(fd)].partial;
    std::string joined;
    if (!partial.empty()) {
      joined = std::move(partial) + std::string(bytes);
      partial.clear();
      bytes = joined;
    }
    output_.clear();
    bool keep_alive = true;
    while (keep_alive) {
      const auto end = bytes.find("\r\n\r\n");
      if (end == std::string_view::npos) break;
      // The load generator's short-connection mode announces itself with exactly this header.
      keep_alive = bytes.substr(0, end).find("\r\nConnection: close") == std::string_view::npos;
      bytes.remove_prefix(end + 4);
      output_ += response_.get(keep_alive);
    }
    if (!output_.empty() && !write_all(fd, output_)) return false;
    if (bytes.size() > buffer_size) return false;
    partial.assign(bytes);
    return keep_alive;
  }

  static bool write_all(int fd, std::string_view bytes) {
    return send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }

  const bool http_;
  const int listener_;
  const int epoll_;
  std::vector<connection> connections_;
  hello_response response_;
  std::string output_;
  char buffer_[buffer_size];
};

}  // namespace

int main(int argc, char** argv) {
  const std::string row = argc > 1 ? argv[1] : "";
  if (row != "echo_server" && row != "http_server") {
    std::fprintf(stderr, "usage: %s echo_server|http_server [--port=N]\n", argv[0]);
    return 2;
  }
  bench::args args(argc, argv, 2);
  const long port = args.num("port", 0, 0, 65535);
  args.num("workers", 1, 1, 1);
  args.finish();

  struct sigaction action {};
  action.sa_handler = [](int) { stopping = 1; };  // no SA_RESTART: epoll_wait must return
  sigaction(SIGTERM, &action, nullptr);

  server raw(row == "http_server", port);
  std::printf("ready port=%d\n", raw.port());
  std::fflush(stdout);
  raw.run();

  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  std::printf("row=%s workers=1 n=0 user_us=%ld system_us=%ld\n", row.c_str(),
              used.ru_utime.tv_sec * 1'000'000 + used.ru_utime.tv_usec,
              used.ru_stime.tv_sec * 1'000'000 + used.ru_stime.tv_usec);
  return 0;
}
