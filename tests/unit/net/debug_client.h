#pragma once
// A plain HTTP client for tests: one request on one connection.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

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

inline std::string get(std::string_view target, std::string_view method = "GET") {
  return std::string(method) + " " + std::string(target) +
         " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
}

}  // namespace weft::test
