// The HTTP server on plain threads, which needs no runtime.
#include "net/blocking_server.h"

#include <sys/un.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "net/sys.h"
#include "tests/unit/net/net_world.h"

namespace weft::http {
namespace {

using namespace weft::test;

std::string ask(int fd, std::string_view request) {
  const iovec part{const_cast<char*>(request.data()), request.size()};
  EXPECT_EQ(net::sys::send(fd, &part, 1, 0), static_cast<ssize_t>(request.size()));
  std::string all;
  char buffer[4096];
  for (ssize_t n; (n = net::sys::recv(fd, buffer, sizeof buffer, 0)) > 0;)
    all.append(buffer, static_cast<std::size_t>(n));
  return all;
}

int connect_tcp(const std::string& where) {
  const net::address a = net::address::parse(where);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(net::sys::connect(fd, a.native(), a.native_size()), 0);
  return fd;
}

const std::string first_request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const std::string last_request = "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";

void hello(response_writer& w, request&) { w.write("hello"); }

TEST(BlockingServer, ServesWithoutTheRuntime) {
  const int fds = open_fds();
  {
    net::blocking_server s(hello, "127.0.0.1:0");
    for (int i = 0; i < 30; ++i) {
      const int fd = connect_tcp(s.address());
      EXPECT_TRUE(ask(fd, first_request + last_request).ends_with("hello"));
      ::close(fd);
    }
    const int silent = connect_tcp(s.address());  // must not keep the server from ending
    s.stop();
    char c;
    EXPECT_LE(net::sys::recv(silent, &c, 1, 0), 0);
    ::close(silent);
  }
  EXPECT_TRUE(eventually_open_fds(fds)) << open_fds();
}

TEST(BlockingServer, BoundsItsConnections) {
  std::atomic<bool> gate{false};
  net::blocking_server_options o;
  o.max_connections = 2;
  net::blocking_server s(
      [&](response_writer& w, request&) {
        while (!gate.load()) std::this_thread::yield();
        w.write("late");
      },
      "127.0.0.1:0", o);
  const int a = connect_tcp(s.address()), b = connect_tcp(s.address()),
            c = connect_tcp(s.address());
  EXPECT_TRUE(ask(c, "").starts_with("HTTP/1.1 503 Service Unavailable"));
  gate.store(true);
  EXPECT_TRUE(ask(a, last_request).ends_with("late"));
  EXPECT_TRUE(ask(b, last_request).ends_with("late"));
  EXPECT_TRUE(eventually([&] {
    const int d = connect_tcp(s.address());
    const bool served = ask(d, last_request).ends_with("late");
    ::close(d);
    return served;
  })) << "threads that ended make room";
  for (int fd : {a, b, c}) ::close(fd);
}

TEST(BlockingServer, UnixSocket) {
  const std::string path = testing::TempDir() + "weft-test-" + std::to_string(::getpid());
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  ASSERT_LT(path.size(), sizeof name.sun_path);
  path.copy(name.sun_path, path.size());
  for (int round = 0; round < 2; ++round) {
    if (round == 1) {  // a file left by a process that died
      const int dead = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      ASSERT_EQ(::bind(dead, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
      ::close(dead);
    }
    net::blocking_server s(hello, "unix:" + path);
    EXPECT_EQ(s.address(), "unix:" + path);
    EXPECT_THROW(net::blocking_server(hello, "unix:" + path), system_error) << "in use";
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(net::sys::connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
    EXPECT_TRUE(ask(fd, last_request).ends_with("hello"));
    ::close(fd);
  }
  EXPECT_NE(::access(path.c_str(), F_OK), 0) << "removed at the end";
}

TEST(BlockingServer, SaysWhatIsWrong) {
  EXPECT_THROW(net::blocking_server(hello, "nonsense"), system_error);
  EXPECT_THROW(net::blocking_server(hello, "unix:"), std::invalid_argument);
  net::blocking_server_options o;
  o.max_connections = 0;
  EXPECT_THROW(net::blocking_server(hello, "127.0.0.1:0", o), std::invalid_argument);
  net::blocking_server s(hello, "127.0.0.1:0");
  EXPECT_THROW(net::blocking_server(hello, s.address()), system_error);
}

}  // namespace
}  // namespace weft::http
