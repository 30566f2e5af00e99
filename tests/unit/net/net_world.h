#pragma once
// Bodies that use sockets: they run as the main task for one, two and eight processors, and end by
// asserting that no task, no file descriptor and no descriptor record is left behind.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weft/net/tcp.h>
#include <weft/weft.h>

#include <chrono>
#include <string>
#include <thread>

#include "net/descriptor.h"
#include "tests/conformance/world.h"

namespace weft::test {

using namespace std::chrono_literals;

inline int open_fds() {
  int n = 0;
  DIR* d = ::opendir("/proc/self/fd");
  while (::readdir(d) != nullptr) ++n;
  ::closedir(d);
  return n;
}

// Waits until no more than `n` are open: the runtime's own threads read in /proc now and then.
inline bool eventually_open_fds(int n) {
  const auto limit = std::chrono::steady_clock::now() + 60s;
  while (open_fds() > n) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::yield();
  }
  return true;
}

// Far enough away to be reached by a hang only.
inline net::time_point far() { return std::chrono::steady_clock::now() + 60s; }
inline net::time_point soon(std::chrono::milliseconds d = 5ms) {
  return std::chrono::steady_clock::now() + d;
}
inline net::time_point past() { return std::chrono::steady_clock::now() - 1s; }

inline void in_net_worlds(void (*body)()) {
  // The poller and the reserve descriptor of listeners are made once and stay.
  in_world(1, [] { net::listen("tcp", "127.0.0.1:0"); });
  for (int procs : {1, 2, 8}) {
    const int fds = open_fds();
    const auto records = net::descriptor::open_count();
    in_world(procs, body);
    EXPECT_TRUE(eventually_open_fds(fds)) << open_fds() << " file descriptors instead of " << fds
                                          << " with " << procs << " processors";
    EXPECT_EQ(net::descriptor::open_count(), records);
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Both ends of a connection over the loopback interface.
struct tcp_pair {
  net::tcp_conn client, server;
};

inline tcp_pair connect_pair() {
  net::tcp_listener l = net::listen("tcp", "127.0.0.1:0");
  tcp_pair p;
  p.client = net::dial(l.local_address().to_string(), far());
  p.server = l.accept();
  return p;
}

}  // namespace weft::test

#define WEFT_NET_TEST(suite, name)                                          \
  static void suite##_##name##_body();                                      \
  TEST(suite, name) { ::weft::test::in_net_worlds(suite##_##name##_body); } \
  static void suite##_##name##_body()
