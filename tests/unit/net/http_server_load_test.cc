// The HTTP server with many connections at once: those that ask, and those that are idle.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <weft/http/server.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "tests/unit/net/http_server_world.h"

namespace weft::http {
namespace {

using namespace weft::http::test;

WEFT_NET_TEST(HttpServer, SixtyFourConnectionsManyRequests) {
  running s;
  constexpr int connections = 64;
  const int rounds = sized(100, 20);
  std::vector<join_handle<int>> clients;
  for (int i = 0; i < connections; ++i) {
    clients.push_back(spawn([&] {
      net::tcp_conn c = s.connect();
      int good = 0;
      for (int r = 0; r < rounds; ++r) {
        c.write(get("/hello"));
        good += ends(read_answer(c), "hello");
      }
      return good;
    }));
  }
  for (auto& c : clients) EXPECT_EQ(c.join(), rounds);
  EXPECT_TRUE(s.served(static_cast<std::uint64_t>(connections) * rounds));
}

// The clients' ends live in a forked process, so that each process needs one fd per connection. The
// child makes system calls only: it was forked from a program with threads.
class client_process {
 public:
  client_process(const net::address& where, int count, const std::string& request) {
    int to[2], from[2];
    EXPECT_EQ(::pipe2(to, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(from, O_CLOEXEC), 0);
    std::vector<int> sockets(static_cast<std::size_t>(count));  // allocated before the fork
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(to[1]);
      act(to[0], from[1], sockets, where, request);
    }
    ::close(to[0]);
    ::close(from[1]);
    command_ = to[1];
    answer_ = from[0];
  }
  ~client_process() {
    ::close(command_);
    ::close(answer_);
    int status = -1;
    ::waitpid(pid_, &status, 0);
    EXPECT_EQ(status, 0);
  }
  client_process(const client_process&) = delete;

  // 'c': connect all. 'r': send a request on every hundredth.
  bool tell(char what) const {
    char back = 0;
    return blocking([&] {
      return ::write(command_, &what, 1) == 1 && ::read(answer_, &back, 1) == 1 && back == what;
    });
  }

 private:
  [[noreturn]] static void act(int in, int out, std::span<int> sockets, const net::address& where,
                               const std::string& request) {
    for (char what; ::read(in, &what, 1) == 1;) {
      for (std::size_t i = 0; i < sockets.size(); ++i) {
        int& fd = sockets[i];
        if (what == 'c') {
          fd = static_cast<int>(::syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
          if (fd < 0) ::_exit(1);
          if (::syscall(SYS_connect, fd, where.native(), where.native_size()) != 0) ::_exit(2);
        } else if (i % 100 == 0) {
          if (::syscall(SYS_sendto, fd, request.data(), request.size(), MSG_NOSIGNAL, nullptr, 0) !=
              static_cast<long>(request.size()))
            ::_exit(3);
        }
      }
      if (::write(out, &what, 1) != 1) ::_exit(4);
    }
    ::_exit(0);
  }

  int command_, answer_;
  pid_t pid_;
};

TEST(HttpServerLoad, TenThousandIdleConnections) {
  constexpr int wanted = sized(10'000, 1'000);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit before = limit;
  constexpr rlim_t needed = wanted + 200;
  limit.rlim_cur = std::max(limit.rlim_cur, std::min(needed, limit.rlim_max));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  const int count = std::min<int>(wanted, static_cast<int>(limit.rlim_cur) - 200);
  if (count < wanted)
    std::printf("the hard limit of open files allows %d connections only\n", count);
  in_world(2, [count] {
    running s;
    const auto tasks = num_tasks();
    const std::string request = get("/hello");
    const std::int64_t memory = memory_in_use();
    {
      client_process clients(net::address::parse(s.where()), count, request);
      ASSERT_TRUE(clients.tell('c'));
      EXPECT_TRUE(
          eventually([&] { return s.server().stats().idle == static_cast<std::uint64_t>(count); }));
      EXPECT_EQ(num_tasks(), tasks) << "an idle connection owns no task";
      const std::int64_t each = (memory_in_use() - memory) / count;
      std::printf("%d idle connections, %lld bytes of process memory each\n", count,
                  static_cast<long long>(each));
      if (!sanitized) {
        EXPECT_LE(each, 1024);
      }
      // They are alive, and others are served meanwhile.
      EXPECT_TRUE(clients.tell('r'));
      EXPECT_TRUE(s.served(static_cast<std::uint64_t>((count + 99) / 100)));
      net::tcp_conn other = s.connect();
      other.write(request);
      EXPECT_TRUE(ends(read_answer(other), "hello"));
    }
    EXPECT_TRUE(s.shutdown());
    const server_stats left = s.server().stats();
    EXPECT_EQ(left.idle + left.active, 0u);
  });
  ::setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace
}  // namespace weft::http
