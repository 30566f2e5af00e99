// The HTTP server over real sockets: keep-alive without tasks, clocks, limits, shutdown, clients
// that misbehave; and the server on plain threads.
#include <weft/http/server.h>

#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "net/blocking_server.h"
#include "net/sys.h"
#include "tests/unit/net/net_world.h"

namespace weft::http {
namespace {

using namespace weft::test;
using std::chrono::milliseconds;

std::string get(std::string_view path, std::string_view fields = "") {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n" + std::string(fields) + "\r\n";
}

// One answer from the stream: head and a body of Content-Length. "" at the end of the stream.
std::string read_answer(net::tcp_conn& c) {
  std::string text;
  char byte;
  while (!text.ends_with("\r\n\r\n")) {
    if (!c.try_read({&byte, 1})) return text;
    text += byte;
  }
  const std::size_t at = text.find("Content-Length: ");
  if (at == std::string::npos) return text;
  std::string body(std::stoul(text.substr(at + 16)), '\0');
  if (!c.try_read_full(body)) return text;
  return text + body;
}

std::string read_rest(net::tcp_conn& c) {
  std::string all;
  char buffer[4096];
  while (result<std::size_t> n = c.try_read(buffer)) all.append(buffer, *n);
  return all;
}

bool ends(const std::string& text, std::string_view tail) { return text.ends_with(tail); }
bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// A server with a few handlers, running in a task.
class running {
 public:
  explicit running(const server_options& options = {}) : server_(mux_, options) {
    add_routes();
    net::tcp_listener l = net::listen("tcp", "127.0.0.1:0");
    where_ = l.local_address().to_string();
    serving_ = spawn([this, l = std::move(l)]() mutable { server_.serve(std::move(l)); });
    EXPECT_TRUE(eventually([this] { return !server_.addresses().empty(); }));
  }
  ~running() {
    server_.close();
    serving_.join();
  }

  http::server& server() { return server_; }
  net::tcp_conn connect() { return net::dial(where_, far()); }
  const std::string& where() const { return where_; }
  bool shutdown(net::time_point deadline = far()) { return server().shutdown(deadline); }

  // Requests are counted when their burst ends, which may be after the answer has arrived.
  bool served(std::uint64_t n) {
    return eventually([&] { return server_.stats().requests == n; });
  }

  // Handlers of /wait stay until this is opened.
  void open_gate() { gate_.store(true); }
  int in_gate() const { return waiting_.load(); }
  int cancelled() const { return cancelled_.load(); }
  // Of the last request for /keep-context.
  const context& kept() const { return kept_; }

 private:
  void add_routes() {
    mux& m = mux_;
    m.handle("GET /hello", [](response_writer& w, request&) { w.write("hello"); });
    m.handle("POST /echo", [](response_writer& w, request& r) { w.write(r.read_all().value()); });
    m.handle("GET /wait", [this](response_writer& w, request&) {
      waiting_.fetch_add(1);
      EXPECT_TRUE(eventually([this] { return gate_.load(); }));
      waiting_.fetch_sub(1);
      w.write("waited");
    });
    m.handle("GET /until-cancelled", [this](response_writer& w, request& r) {
      const context ctx = r.context();
      EXPECT_EQ(ctx, r.context());
      waiting_.fetch_add(1);
      EXPECT_FALSE(this_task::sleep_until(ctx, far()));
      waiting_.fetch_sub(1);
      cancelled_.fetch_add(ctx.err() ? 1 : 0);
      w.write("cancelled");
    });
    m.handle("GET /keep-context", [this](response_writer& w, request& r) {
      kept_ = r.context();
      w.write(kept_.err() ? "already" : "fresh");
      EXPECT_FALSE(r.own().context().err());
    });
    m.handle("GET /throw", [](response_writer&, request&) { throw std::runtime_error("no"); });
    m.handle("GET /big", [](response_writer& w, request&) {
      w.content_length(50'000'000);
      const std::string piece(100'000, 'b');
      for (int i = 0; i < 500; ++i) {
        if (!w.write(piece)) return;
      }
    });
  }

  mux mux_;
  http::server server_;
  std::string where_;
  join_handle<void> serving_;
  std::atomic<bool> gate_{false};
  std::atomic<int> waiting_{0};
  std::atomic<int> cancelled_{0};
  context kept_;
};

WEFT_NET_TEST(HttpServer, ContextIsCancelledWhenTheClientGoesAway) {
  running s;
  const int kinds = 3;
  for (int how = 0; how < kinds; ++how) {
    net::tcp_conn c = s.connect();
    c.write(get("/until-cancelled"));
    ASSERT_TRUE(eventually([&] { return s.in_gate() == 1; }));
    if (how == 0) c.close();
    if (how == 1) c.reset();
    if (how == 2) {
      c.shutdown_write();  // half-closed: what was written still arrives
      EXPECT_TRUE(ends(read_answer(c), "cancelled"));
    }
    EXPECT_TRUE(eventually([&] { return s.cancelled() == how + 1; }));
  }
  // Gone before the handler asks, with the request still unread.
  net::tcp_conn c = s.connect();
  c.write(get("/until-cancelled"));
  c.close();
  EXPECT_TRUE(eventually([&] { return s.cancelled() == kinds + 1; }));
}

WEFT_NET_TEST(HttpServer, ContextIsCancelledWhenTheServerCloses) {
  running s;
  std::vector<net::tcp_conn> conns;
  for (int i = 0; i < 20; ++i) {
    conns.push_back(s.connect());
    conns.back().write(get("/until-cancelled"));
  }
  ASSERT_TRUE(eventually([&] { return s.in_gate() == 20; }));
  EXPECT_FALSE(s.shutdown(soon()));
  EXPECT_TRUE(eventually([&] { return s.cancelled() == 20; }));
}

WEFT_NET_TEST(HttpServer, ContextEndsWithItsHandler) {
  running s;
  net::tcp_conn c = s.connect();
  // Pipelined requests are no disconnect; each has its own context.
  for (int round = 0; round < 3; ++round) {
    c.write(get("/keep-context") + get("/hello") + get("/keep-context"));
    EXPECT_TRUE(ends(read_answer(c), "fresh"));
    EXPECT_TRUE(ends(read_answer(c), "hello"));
    EXPECT_TRUE(ends(read_answer(c), "fresh"));
    EXPECT_EQ(s.kept().err(), errc::canceled);
  }
}

WEFT_NET_TEST(HttpServer, KeepAliveAndPipelining) {
  running s;
  net::tcp_conn c = s.connect();
  for (int i = 0; i < 3; ++i) {
    c.write(get("/hello"));
    EXPECT_TRUE(ends(read_answer(c), "\r\n\r\nhello"));
  }
  std::string batch;
  for (int i = 0; i < 50; ++i) batch += get("/hello");
  c.write(batch);
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(ends(read_answer(c), "\r\n\r\nhello"));
  c.write("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody");
  EXPECT_TRUE(ends(read_answer(c), "\r\n\r\nbody"));
  EXPECT_EQ(read_rest(c), "");
  EXPECT_TRUE(s.served(54));
}

WEFT_NET_TEST(HttpServer, IdleConnectionsOwnNoTask) {
  running s;
  const auto before = num_tasks();
  std::vector<net::tcp_conn> conns;
  for (int i = 0; i < 64; ++i) conns.push_back(s.connect());
  for (auto& c : conns) c.write(get("/hello"));
  for (auto& c : conns) EXPECT_TRUE(ends(read_answer(c), "hello"));
  EXPECT_TRUE(eventually([&] { return s.server().stats().idle == 64; }));
  EXPECT_TRUE(eventually([&] { return num_tasks() == before; })) << num_tasks() - before;
  for (auto& c : conns) c.write(get("/wait"));
  EXPECT_TRUE(eventually([&] { return s.in_gate() == 64; }));
  EXPECT_EQ(s.server().stats().active, 64u);
  EXPECT_GE(num_tasks(), before + 64);
  s.open_gate();
  for (auto& c : conns) EXPECT_TRUE(ends(read_answer(c), "waited"));
}

WEFT_NET_TEST(HttpServer, BytesOneByOne) {
  running s;
  net::tcp_conn c = s.connect();
  for (char b : get("/hello")) {
    c.write({&b, 1});
    if (b == '/' || b == '\r') this_task::sleep_for(1ms);
  }
  EXPECT_TRUE(ends(read_answer(c), "hello"));
  for (char b : std::string("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc")) {
    c.write({&b, 1});
    this_task::yield();
  }
  EXPECT_TRUE(ends(read_answer(c), "abc"));
}

WEFT_NET_TEST(HttpServer, RequestAndFinInOneSegment) {
  running s;
  net::tcp_conn c = s.connect();
  c.write(get("/hello"));
  c.shutdown_write();
  EXPECT_TRUE(ends(read_answer(c), "hello"));
  EXPECT_EQ(read_rest(c), "");
  EXPECT_TRUE(eventually([&] { return s.server().stats().idle == 0; }));
}

// Each of these harms only its own connection.
WEFT_NET_TEST(HttpServer, MisbehavingClientsHarmNobody) {
  running s;
  net::tcp_conn good = s.connect();
  auto still_fine = [&] {
    good.write(get("/hello"));
    EXPECT_TRUE(ends(read_answer(good), "hello"));
  };
  {
    net::tcp_conn c = s.connect();
    c.write("\x16\x03\x01\x02\x05 this is no HTTP\r\n\r\n");
    EXPECT_TRUE(read_rest(c).starts_with("HTTP/1.1 400 "));
    still_fine();
  }
  {
    net::tcp_conn c = s.connect();
    c.write("GET /" + std::string(100'000, 'a'));
    EXPECT_TRUE(read_rest(c).starts_with("HTTP/1.1 414 "));
    still_fine();
  }
  for (bool reset : {false, true}) {
    for (const char* part :
         {"", "GET /he", "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc"}) {
      net::tcp_conn c = s.connect();
      c.write(part);
      if (reset) c.reset();
    }
    still_fine();
  }
  {
    net::tcp_conn c = s.connect();
    c.write(get("/big"));
    char some[1000];
    c.read_full(some);
    c.close();
    still_fine();
  }
  {
    net::tcp_conn c = s.connect();
    c.write(get("/throw"));
    EXPECT_TRUE(read_answer(c).starts_with("HTTP/1.1 500 "));
    c.write(get("/hello"));
    EXPECT_TRUE(ends(read_answer(c), "hello"));
  }
  EXPECT_TRUE(eventually([&] {
    const server_stats now = s.server().stats();
    return now.idle + now.active == 1;
  })) << "all but the good connection must be gone";
}

WEFT_NET_TEST(HttpServer, IdleClockClosesSilently) {
  server_options o;
  o.idle_timeout = milliseconds(20);
  running s(o);
  net::tcp_conn c = s.connect();
  c.write(get("/hello"));
  EXPECT_TRUE(ends(read_answer(c), "hello"));
  EXPECT_EQ(read_rest(c), "");
  EXPECT_EQ(s.server().stats().timeouts, 1u);
}

WEFT_NET_TEST(HttpServer, HeadClockAnswers408OrNothing) {
  server_options o;
  o.head_timeout = milliseconds(20);
  running s(o);
  net::tcp_conn silent = s.connect();
  EXPECT_EQ(read_rest(silent), "");
  // To a first byte that comes too late, because this process did not run, nothing is the right
  // answer: then once more.
  const auto answer_to = [&](const auto& talk) {
    std::string answer;
    EXPECT_TRUE(eventually([&] {
      net::tcp_conn c = s.connect();
      answer = talk(c);
      return !answer.empty();
    }));
    return answer;
  };
  const std::string to_partial = answer_to([](net::tcp_conn& c) {
    static_cast<void>(c.try_write("GET / HTTP/1.1\r\nHo"));
    return read_rest(c);
  });
  EXPECT_TRUE(to_partial.starts_with("HTTP/1.1 408 ")) << to_partial;
  // A byte now and then does not extend it.
  const std::string to_slow = answer_to([](net::tcp_conn& c) {
    auto writer = spawn([&] {
      for (int i = 0; i < 1000 && c.try_write("G"); ++i) this_task::sleep_for(1ms);
    });
    std::string answer = read_rest(c);
    c.close();
    writer.join();
    return answer;
  });
  EXPECT_TRUE(has(to_slow, "408 ")) << to_slow;
}

WEFT_NET_TEST(HttpServer, PeerThatDoesNotReadLosesTheConnection) {
  server_options o;
  o.write_grace = milliseconds(30);
  o.write_min_rate = 1u << 30;
  running s(o);
  net::tcp_conn c = s.connect();
  c.write(get("/big"));
  EXPECT_TRUE(eventually([&] { return s.server().stats().timeouts == 1; }));
  EXPECT_LT(read_rest(c).size(), 50'000'000u);
}

WEFT_NET_TEST(HttpServer, MaxConnectionsAnswers503) {
  server_options o;
  o.max_connections = 2;
  running s(o);
  net::tcp_conn a = s.connect(), b = s.connect();
  a.write(get("/hello"));
  EXPECT_TRUE(ends(read_answer(a), "hello"));
  net::tcp_conn c = s.connect();
  EXPECT_TRUE(read_rest(c).starts_with("HTTP/1.1 503 "));
  a.close();
  EXPECT_TRUE(eventually([&] {
    net::tcp_conn d = s.connect();
    return d.try_write(get("/hello")) && ends(read_answer(d), "hello");
  }));
  EXPECT_GE(s.server().stats().turned_away, 1u);
}

// -- shutdown

WEFT_NET_TEST(HttpServer, ShutdownLetsRequestsFinish) {
  running s;
  net::tcp_conn idle = s.connect(), fresh = s.connect(), busy = s.connect();
  idle.write(get("/hello"));
  read_answer(idle);
  busy.write(get("/wait"));
  EXPECT_TRUE(eventually([&] { return s.in_gate() == 1 && s.server().stats().accepted == 3; }));
  auto ending = spawn([&] { return s.shutdown(); });
  EXPECT_EQ(read_rest(idle), "") << "closed at once";
  EXPECT_EQ(read_rest(fresh), "") << "never used: closed at once";
  EXPECT_FALSE(ending.done());
  EXPECT_EQ(net::try_dial(s.where()).error(), boost::system::errc::connection_refused);
  s.open_gate();
  const std::string answer = read_rest(busy);
  EXPECT_TRUE(has(answer, "Connection: close\r\n")) << answer;
  EXPECT_TRUE(ends(answer, "waited"));
  EXPECT_TRUE(ending.join());
  const server_stats stats = s.server().stats();
  EXPECT_EQ(stats.idle + stats.active, 0u);
}

WEFT_NET_TEST(HttpServer, ShutdownDeadlineClosesTheRest) {
  running s;
  net::tcp_conn busy = s.connect(), partial = s.connect();
  busy.write(get("/wait"));
  partial.write("GET /hel");
  EXPECT_TRUE(eventually([&] { return s.in_gate() == 1 && s.server().stats().accepted == 2; }));
  EXPECT_FALSE(s.shutdown(soon(20ms)));
  EXPECT_EQ(read_rest(busy), "");
  EXPECT_EQ(read_rest(partial), "");
  s.open_gate();
}

WEFT_NET_TEST(HttpServer, ShutdownOfAnUnusedServerAndServeAfterIt) {
  running s;
  EXPECT_TRUE(s.shutdown());
  s.server().serve(net::listen("tcp", "127.0.0.1:0"));  // returns at once
  EXPECT_TRUE(s.server().addresses().empty());
}

WEFT_NET_TEST(HttpServer, ShutdownUnderLoadLosesNoAnswer) {
  running s;
  std::atomic<int> answered{0}, broken{0};
  std::vector<join_handle<void>> clients;
  for (int i = 0; i < 16; ++i) {
    clients.push_back(spawn([&] {
      for (;;) {
        result<net::tcp_conn> c = net::try_dial(s.where(), far());
        if (!c) return;
        for (int r = 0;; ++r) {
          if (!c->try_write(get("/hello"))) break;
          const std::string answer = read_answer(*c);
          if (answer.empty()) break;  // closed between requests
          ends(answer, "hello") ? ++answered : ++broken;
          if (has(answer, "Connection: close")) break;
        }
        if (s.server().addresses().empty()) return;
      }
    }));
  }
  EXPECT_TRUE(eventually([&] { return answered.load() > 200; }));
  EXPECT_TRUE(s.shutdown());
  for (auto& c : clients) c.join();
  EXPECT_EQ(broken.load(), 0);
}

// -- many

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

// -- the server on plain threads

// A client that needs no runtime.
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

const std::string last_request = "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";

void hello(response_writer& w, request&) { w.write("hello"); }

TEST(BlockingServer, ServesWithoutTheRuntime) {
  const int fds = open_fds();
  {
    net::blocking_server s(hello, "127.0.0.1:0");
    for (int i = 0; i < 30; ++i) {
      const int fd = connect_tcp(s.address());
      EXPECT_TRUE(ends(ask(fd, get("/") + last_request), "hello"));
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
  EXPECT_TRUE(has(ask(c, ""), "503 Service Unavailable"));
  gate.store(true);
  EXPECT_TRUE(ends(ask(a, last_request), "late"));
  EXPECT_TRUE(ends(ask(b, last_request), "late"));
  EXPECT_TRUE(eventually([&] {
    const int d = connect_tcp(s.address());
    const bool served = ends(ask(d, last_request), "late");
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
    EXPECT_TRUE(ends(ask(fd, last_request), "hello"));
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
