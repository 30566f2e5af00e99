// The HTTP server over real sockets: keep-alive without tasks, clocks, limits, shutdown, clients
// that misbehave.
#include <weft/http/server.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/unit/net/http_server_world.h"

namespace weft::http {
namespace {

using namespace weft::http::test;
using std::chrono::milliseconds;

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

}  // namespace
}  // namespace weft::http
