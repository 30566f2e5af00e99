// The debug endpoints as an HTTP client sees them: statuses, headers, bodies, deltas, disconnects.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <weft/debug/debug.h>
#include <weft/http/server.h>
#include <weft/weft.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <thread>

#include "profiler/cpu_sampler.h"
#include "tests/conformance/world.h"
#include "tests/unit/net/debug_client.h"
#include "tests/unit/profiler/profile_check.h"

namespace weft {
namespace {

using test::answer;
using test::ask;
using test::ask_over;
using test::connect_to;
using test::get;

// Everything is asked of both homes: the debug server's threads and a mux on the program's own
// server.
class DebugEndpoints : public ::testing::TestWithParam<bool> {
 protected:
  // Runs f(ask) on a plain thread while the servers answer.
  template <class F>
  void with_server(F f) {
    bool on_tasks = GetParam();
    run({.max_procs = 2}, [&] {
      http::mux m;
      debug::handle(m);
      std::optional<test::own_server> own;
      int port = 0;
      if (on_tasks) {
        port = own.emplace(m).port();
      } else {
        std::string at = debug::serve("localhost:0");
        port = std::stoi(at.substr(at.rfind(':') + 1));
      }
      blocking([&] { f([port](const std::string& r) { return ask(port, r); }, port); });
      own.reset();
      test::await_other_tasks();
    });
  }
};

TEST_P(DebugEndpoints, IndexListsProfilesWithDescriptions) {
  with_server([](auto ask, int) {
    answer a = ask(get("/debug/pprof/"));
    EXPECT_EQ(a.status, 200);
    EXPECT_TRUE(a.has("Content-Type: text/html; charset=utf-8"));
    EXPECT_TRUE(a.has("X-Content-Type-Options: nosniff"));
    size_t last = 0;
    for (const char* name : {"cmdline", "goroutine", "profile", "symbol"}) {
      size_t at = a.body.find("<a href='" + std::string(name) + "?debug=1'>");
      EXPECT_NE(at, std::string::npos) << name;
      EXPECT_GT(at, last) << "sorted";
      last = at;
    }
    answer bare = ask(get("/debug/pprof?debug=1"));
    EXPECT_EQ(bare.status, 301);
    EXPECT_TRUE(bare.has("Location: /debug/pprof/?debug=1")) << bare.head;
  });
}

TEST_P(DebugEndpoints, Errors) {
  with_server([](auto ask, int) {
    struct {
      const char* target;
      int status;
      const char* message;
    } cases[] = {
        {"/debug/pprof/nonsense", 404, "Unknown profile\n"},
        {"/debug/pprof/goroutine/", 404, "Unknown profile\n"},
        {"/debug/pprof/goroutine?seconds=x", 400,
         "invalid value for \"seconds\" - must be a positive integer\n"},
        {"/debug/pprof/goroutine?seconds=-1", 400,
         "invalid value for \"seconds\" - must be a positive integer\n"},
        {"/debug/pprof/goroutine?seconds=1&debug=1", 400,
         "seconds and debug params are incompatible\n"},
    };
    for (auto& c : cases) {
      answer a = ask(get(c.target));
      EXPECT_EQ(a.status, c.status) << c.target;
      EXPECT_EQ(a.body, c.message) << c.target;
      EXPECT_TRUE(a.has("X-Go-Pprof: 1")) << c.target;
      EXPECT_TRUE(a.has("Content-Type: text/plain; charset=utf-8")) << c.target;
      EXPECT_TRUE(a.has("X-Content-Type-Options: nosniff")) << c.target;
      EXPECT_FALSE(a.has("Content-Disposition")) << c.target;
    }
    EXPECT_EQ(ask(get("/debug/pprof/goroutine", "DELETE")).status, 405);
  });
}

TEST_P(DebugEndpoints, GoroutineInAllForms) {
  with_server([](auto ask, int) {
    answer binary = ask(get("/debug/pprof/goroutine"));
    EXPECT_EQ(binary.status, 200);
    EXPECT_TRUE(binary.has("Content-Type: application/octet-stream"));
    EXPECT_TRUE(binary.has("Content-Disposition: attachment; filename=\"goroutine\""));
    EXPECT_FALSE(binary.has("Content-Encoding"));
    EXPECT_TRUE(prof::test::valid_profile(binary.body));
    answer text = ask(get("/debug/pprof/goroutine?debug=1"));
    EXPECT_TRUE(text.has("Content-Type: text/plain; charset=utf-8"));
    EXPECT_FALSE(text.has("Content-Disposition"));
    EXPECT_EQ(text.body.rfind("goroutine profile: total ", 0), 0u) << text.body;
    answer full = ask(get("/debug/pprof/goroutine?debug=2"));
    EXPECT_EQ(full.body.rfind("goroutine ", 0), 0u) << full.body;
    answer bad = ask(get("/debug/pprof/goroutine?debug=x"));
    EXPECT_TRUE(bad.has("application/octet-stream")) << "an unreadable debug means 0";
    answer empty = ask(get("/debug/pprof/goroutine?seconds=&debug=1"));
    EXPECT_EQ(empty.status, 200) << "an empty seconds is no delta";
    answer head = ask(get("/debug/pprof/goroutine?debug=1", "HEAD"));
    EXPECT_EQ(head.status, 200);
    EXPECT_EQ(head.body, "");
  });
}

TEST_P(DebugEndpoints, GoroutineDelta) {
  with_server([](auto ask, int) {
    answer a = ask(get("/debug/pprof/goroutine?seconds=1"));
    EXPECT_EQ(a.status, 200);
    EXPECT_TRUE(a.has("filename=\"goroutine-delta\""));
    EXPECT_TRUE(prof::test::valid_profile(a.body));
  });
}

TEST_P(DebugEndpoints, CpuProfilesOverlap) {
  with_server([](auto ask, int) {
    answer first;
    std::thread other([&] { first = ask(get("/debug/pprof/profile?seconds=1")); });
    answer second = ask(get("/debug/pprof/profile?seconds=1"));
    other.join();
    for (const answer& a : {first, second}) {
      EXPECT_EQ(a.status, 200);
      EXPECT_TRUE(a.has("Content-Disposition: attachment; filename=\"profile\""));
      EXPECT_TRUE(prof::test::valid_profile(a.body));
    }
  });
}

TEST_P(DebugEndpoints, AClientThatLeavesEndsItsProfile) {
  with_server([](auto ask, int port) {
    int fd = connect_to(port);
    std::string request = get("/debug/pprof/profile?seconds=3600");
    ASSERT_EQ(::send(fd, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
    while (prof::cpu_consumers() == 0) std::this_thread::yield();
    ::close(fd);
    while (prof::cpu_consumers() != 0) std::this_thread::yield();
    EXPECT_EQ(ask(get("/debug/pprof/cmdline")).status, 200);
  });
}

TEST_P(DebugEndpoints, CmdlineAndSymbol) {
  with_server([](auto ask, int) {
    answer cmdline = ask(get("/debug/pprof/cmdline"));
    EXPECT_NE(cmdline.body.find(program_invocation_short_name), std::string::npos);
    EXPECT_NE(cmdline.body.back(), '\0');
    char pc[64];
    std::snprintf(pc, sizeof pc, "%p", reinterpret_cast<void*>(&std::snprintf));
    answer by_get = ask(get("/debug/pprof/symbol?" + std::string(pc) + "+0+junk"));
    EXPECT_EQ(by_get.body.rfind("num_symbols: 1\n", 0), 0u);
    EXPECT_NE(by_get.body.find(std::string(pc) + " "), std::string::npos) << by_get.body;
    EXPECT_EQ(by_get.body.find("junk"), std::string::npos);
    std::string words = std::string(pc) + "+" + pc;
    answer by_post =
        ask("POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            "Content-Type: application/octet-stream\r\nContent-Length: " +
            std::to_string(words.size()) + "\r\n\r\n" + words);
    EXPECT_EQ(by_post.status, 200);
    EXPECT_NE(by_post.body.find("snprintf"), std::string::npos) << by_post.body;
  });
}

TEST_P(DebugEndpoints, Deadlocks) {
  with_server([](auto ask, int) {
    answer none = ask(get("/debug/weft/deadlocks"));
    EXPECT_EQ(none.status, 200);
    EXPECT_TRUE(none.has("Content-Type: text/plain; charset=utf-8"));
    EXPECT_EQ(none.body, "no deadlocks\n");
    mutex m;
    auto twice = spawn({.name = "twice"}, [&m] {
      m.lock();
      m.lock();
      m.unlock();
    });
    answer one;
    EXPECT_TRUE(test::eventually([&] {
      one = ask(get("/debug/weft/deadlocks"));
      return one.body != "no deadlocks\n";
    }));
    EXPECT_EQ(one.body.rfind("deadlock 1: a task waits for itself\n  task ", 0), 0u) << one.body;
    EXPECT_NE(one.body.find(" \"twice\" [sync.Mutex.Lock 0x"), std::string::npos) << one.body;
    EXPECT_NE(one.body.find("\n\ngoroutine "), std::string::npos) << one.body;
    m.unlock();
    twice.join();
  });
}

INSTANTIATE_TEST_SUITE_P(Homes, DebugEndpoints, ::testing::Bool(),
                         [](const auto& p) { return p.param ? "OnTasks" : "OnThreads"; });

TEST(DebugServer, AnswersWhileEveryWorkerIsStuck) {
  run({.max_procs = 2}, [] {
    std::string at = debug::serve("localhost:0");
    int port = std::stoi(at.substr(at.rfind(':') + 1));
    std::atomic<bool> release{false};
    std::atomic<int> stuck{0};
    std::atomic<bool> answered{false};
    std::thread client([&] {
      while (stuck.load() < 4) std::this_thread::yield();
      answer a = ask(port, get("/debug/pprof/goroutine?debug=2"));
      EXPECT_EQ(a.status, 200);
      answered = true;
      release = true;
    });
    for (int i = 0; i < 4; ++i) {
      go([&] {
        ++stuck;
        while (!release.load(std::memory_order_relaxed)) asm volatile("");
      });
    }
    while (num_tasks() > 1) this_task::yield();
    EXPECT_TRUE(answered.load());
    client.join();
  });
}

TEST(DebugServer, UnixSocketAndBadAddresses) {
  run({.max_procs = 1}, [] {
    std::string path = "/tmp/weft-debug-test-" + std::to_string(::getpid());
    EXPECT_EQ(debug::serve("unix:" + path), "unix:" + path);
    blocking([&] {
      int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
      sockaddr_un to{};
      to.sun_family = AF_UNIX;
      std::strncpy(to.sun_path, path.c_str(), sizeof to.sun_path - 1);
      ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
      EXPECT_EQ(ask_over(fd, get("/debug/pprof/cmdline")).status, 200);
    });
    ::unlink(path.c_str());
    EXPECT_THROW(debug::serve("localhost:99999"), std::exception);
    EXPECT_THROW(debug::serve("no such host:1"), std::exception);
  });
}

}  // namespace
}  // namespace weft
