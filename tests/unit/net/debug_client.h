#pragma once
// A plain HTTP client for tests, one request on one connection; and a server of the program's own
// to ask.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weft/http/server.h>
#include <weft/net/tcp.h>
#include <weft/task.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace weft::test {

struct answer {
  int status = 0;
  std::string head;  // header lines
  std::string body;
  bool has(std::string_view line) const { return head.find(line) != std::string::npos; }
};

inline int connect_to(int port) {
  int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0) << std::strerror(errno);
  return fd;
}

inline answer ask_over(int fd, const std::string& request) {
  EXPECT_EQ(::send(fd, request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  std::string all;
  char block[4096];
  for (ssize_t n; (n = ::recv(fd, block, sizeof block, 0)) > 0;)
    all.append(block, static_cast<size_t>(n));
  ::close(fd);
  answer a;
  size_t end = all.find("\r\n\r\n");
  if (end == std::string::npos) return a;
  a.head = all.substr(0, end + 2);
  a.body = all.substr(end + 4);
  a.status = std::atoi(a.head.c_str() + 9);
  if (a.has("Transfer-Encoding: chunked")) {
    std::string joined;
    for (size_t at = 0; at < a.body.size();) {
      size_t size = std::strtoul(a.body.c_str() + at, nullptr, 16);
      at = a.body.find("\r\n", at) + 2;
      joined += a.body.substr(at, size);
      at += size + 2;
      if (size == 0) break;
    }
    a.body = joined;
  }
  return a;
}

inline answer ask(int port, const std::string& request) {
  return ask_over(connect_to(port), request);
}

inline std::string get(std::string_view target, std::string_view method = "GET") {
  return std::string(method) + " " + std::string(target) +
         " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
}

// Until the calling task is the only one.
inline void await_other_tasks() {
  while (num_tasks() > 1) this_task::yield();
}

// Serves `m` in a task, from its construction to its destruction, after which no task of it is
// left.
class own_server {
 public:
  explicit own_server(const http::mux& m, const http::server_options& options = {})
      : server_(m, options) {
    net::tcp_listener l = net::listen("tcp", "127.0.0.1:0");
    port_ = l.local_address().port();
    go([this, l = std::move(l)]() mutable { server_.serve(std::move(l)); });
  }
  ~own_server() {
    server_.close();
    await_other_tasks();
  }
  own_server(const own_server&) = delete;

  int port() const { return port_; }

 private:
  http::server server_;
  int port_ = 0;
};

}  // namespace weft::test
