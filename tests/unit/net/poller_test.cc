// The choice of the poller, its wake-up, and the fall-back where io_uring is forbidden.
#include "net/poller.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <weft/http/server.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/options.h"
#include "tests/unit/net/net_world.h"

namespace weft::net {
namespace {

using namespace weft::test;

std::string request_once() {
  http::server s([](http::response_writer& w, http::request&) { w.write("served"); });
  tcp_listener l = listen("tcp", "127.0.0.1:0");
  tcp_conn c = dial(l.local_address().to_string(), far());
  auto serving = spawn([&, l = std::move(l)]() mutable { s.serve(std::move(l)); });
  c.write("GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
  std::string all;
  char buffer[512];
  while (result<std::size_t> n = c.try_read(buffer)) all.append(buffer, *n);
  s.close();
  serving.join();
  return all;
}

TEST(Poller, ServesUnderTheOneThatWasAskedFor) {
  in_world(2, [] { EXPECT_TRUE(request_once().ends_with("served")); });
  const std::string_view wanted = base::option_value(base::option::WEFT_IO);
  if (wanted.empty() || wanted == "epoll") {
    EXPECT_STREQ(poller_name(), "epoll");
  } else if (std::string_view(poller_reason()).find("not possible") == std::string_view::npos) {
    EXPECT_EQ(poller_name(), wanted);
  }
}

// Wakes that come while nobody waits, or several at once, must neither be lost nor keep it awake.
TEST(Poller, TimersSetFromOutsideWakeAWaitingPoller) {
  in_world(1, [] {
    tcp_listener l = listen("tcp", "127.0.0.1:0");  // the poller waits for it while all is idle
    for (int i = 0; i < 50; ++i) {
      l.set_deadline(soon(1ms));
      EXPECT_EQ(l.try_accept().error(), errc::deadline_exceeded);
    }
    // From a thread that is no worker: the poller waits without a limit by then.
    auto accepting = spawn([&] { return l.try_accept().error(); });
    l.set_deadline({});
    EXPECT_TRUE(eventually_waiting(sched::wait_reason::io_wait, 1));
    std::thread outside([&] { l.set_deadline(soon(2ms)); });
    EXPECT_EQ(accepting.join(), errc::deadline_exceeded);
    outside.join();
  });
}

TEST(Poller, WakesAWaitingThreadOnceEach) {
  in_world(1, [] {
    tcp_listener l = listen("tcp", "127.0.0.1:0");
    auto accepting = spawn([&] { return l.try_accept().error(); });
    std::thread outside([] {
      for (int i = 0; i < 1000; ++i) ensure_poller().wake();
    });
    blocking([&] { outside.join(); });
    l.close();
    EXPECT_EQ(accepting.join(), errc::closed);
  });
}

// -- in a process of its own

struct outcome {
  int status = -1;
  std::string out, err;
};

std::string read_fd(int fd) {
  std::string all;
  char buffer[4096];
  for (ssize_t n; (n = ::read(fd, buffer, sizeof buffer)) > 0;)
    all.append(buffer, static_cast<std::size_t>(n));
  ::close(fd);
  return all;
}

// Runs `test` of this program with the environment given, io_uring forbidden or not.
outcome run_child(const char* test, std::vector<std::string> environment, bool forbid_uring) {
  int out[2], err[2];
  EXPECT_EQ(::pipe2(out, O_CLOEXEC), 0);
  EXPECT_EQ(::pipe2(err, O_CLOEXEC), 0);
  const std::string filter = std::string("--gtest_filter=") + test;
  const char* argv[] = {"poller_test", filter.c_str(), "--gtest_also_run_disabled_tests", nullptr};
  std::vector<const char*> envp;
  for (const std::string& e : environment) envp.push_back(e.c_str());
  envp.push_back(nullptr);
  // What the child calls between fork and exec must not allocate or lock.
  const sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 425, 0, 2),  // io_uring_setup, _enter, _register
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 427, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(code)),
                           const_cast<sock_filter*>(code)};
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(out[1], 1);
    ::dup2(err[1], 2);
    if (forbid_uring && (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
                         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0))
      ::_exit(125);
    ::execve("/proc/self/exe", const_cast<char**>(argv), const_cast<char**>(envp.data()));
    ::_exit(126);
  }
  ::close(out[1]);
  ::close(err[1]);
  outcome o;
  o.out = read_fd(out[0]);
  o.err = read_fd(err[0]);
  ::waitpid(pid, &o.status, 0);
  return o;
}

// No test by itself: the body of the child processes that the tests below start.
TEST(PollerChild, DISABLED_ServeAndSayWhich) {
  in_world(2, [] { EXPECT_TRUE(request_once().ends_with("served")); });
  std::printf("<%s>\n", poller_name());
}

int lines(const std::string& text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

TEST(PollerChoice, FallsBackWithOneLineWhereUringIsForbidden) {
  const outcome o = run_child("PollerChild.DISABLED_ServeAndSayWhich", {"WEFT_IO=uring"}, true);
  ASSERT_EQ(o.status, 0) << o.out << o.err;
  EXPECT_NE(o.out.find("<epoll>"), std::string::npos) << o.out;
  EXPECT_EQ(lines(o.err), 1) << o.err;
  EXPECT_NE(o.err.find("io_uring_setup: Operation not permitted"), std::string::npos) << o.err;
}

TEST(PollerChoice, IsSilentUnlessAskedOrForced) {
  const char* child = "PollerChild.DISABLED_ServeAndSayWhich";
  outcome o = run_child(child, {}, true);
  ASSERT_EQ(o.status, 0) << o.out << o.err;
  EXPECT_NE(o.out.find("<epoll>"), std::string::npos);
  EXPECT_EQ(o.err, "");
  o = run_child(child, {"WEFT_DEBUG=netlog"}, false);
  EXPECT_EQ(o.status, 0);
  EXPECT_EQ(o.err, "weft: sockets use epoll (default)\n");
  o = run_child(child, {"WEFT_IO=kqueue"}, false);
  EXPECT_EQ(o.status, 0);
  EXPECT_EQ(lines(o.err), 1) << o.err;
  EXPECT_NE(o.err.find("kqueue is neither epoll nor uring"), std::string::npos) << o.err;
}

}  // namespace
}  // namespace weft::net
