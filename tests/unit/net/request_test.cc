// What a handler sees of its request: head, parameters, body.
#include <gtest/gtest.h>
#include <weft/http/mux.h>

#include <cstdio>
#include <string>
#include <vector>

#include "tests/unit/net/connection_world.h"

namespace weft::http {
namespace {

using detail::outcome;
using testing::echo;
using testing::get;
using testing::post;
using testing::sentinel;
using testing::summary;
using testing::world;

TEST(Request, WhatAHandlerSees) {
  int checks = 0;
  world w([&](response_writer&, request& r) {
    EXPECT_EQ(r.method(), "POST");
    EXPECT_EQ(r.target(), "/a%20b/c%2Fd/?x=1&y=a+b%21&x=2&flag&bad=%zz");
    EXPECT_EQ(r.raw_path(), "/a%20b/c%2Fd/");
    EXPECT_EQ(r.path(), "/a b/c/d/");
    auto s = r.segments();
    EXPECT_EQ(std::vector<std::string_view>(s.begin(), s.end()),
              (std::vector<std::string_view>{"a b", "c/d", ""}));
    EXPECT_EQ(r.query_value("x"), "1");
    EXPECT_EQ(r.query_params().all("x").size(), 2u);
    EXPECT_EQ(r.query_value("y"), "a b!");
    EXPECT_TRUE(r.query_params().has("flag"));
    EXPECT_EQ(r.query_value("bad"), "%zz");
    EXPECT_EQ(r.version(), 11);
    EXPECT_EQ(r.host(), "h:80");
    EXPECT_EQ(r.remote_address(), "192.0.2.1:1234");
    EXPECT_EQ(r.header("x-multi"), "1");
    EXPECT_EQ(r.header_values("X-MULTI"), (std::vector<std::string_view>{"1", "2"}));
    EXPECT_EQ(r.header("content-TYPE"), "Application/X-WWW-Form-Urlencoded; charset=utf-8");
    EXPECT_FALSE(r.has_header("X-None"));
    EXPECT_EQ(r.header_count(), 5u);
    EXPECT_EQ(r.header_at(1).first, "X-Multi");
    EXPECT_EQ(r.form().get("x"), "body");  // the body wins
    EXPECT_EQ(r.form().all("x").size(), 3u);
    EXPECT_EQ(r.form().get("y"), "a b!");
    EXPECT_EQ(r.read_all().value(), "");
    ++checks;
  });
  w.run(
      {"POST /a%20b/c%2Fd/?x=1&y=a+b%21&x=2&flag&bad=%zz HTTP/1.1\r\nHost: h:80\r\n"
       "X-Multi: 1\r\nx-multi: 2\r\n"
       "Content-Type: Application/X-WWW-Form-Urlencoded; charset=utf-8\r\n"
       "Content-Length: 6\r\n\r\nx=body"});
  EXPECT_EQ(checks, 1);
  EXPECT_EQ(w.responses().at(0).status, 200);
}

TEST(Request, NothingOfARequestIsSeenByTheNext) {
  std::vector<std::string> seen;
  mux m;
  m.handle("/{x...}", [&](response_writer& w, request& r) {
    seen.push_back(std::string(r.path()) + " " + std::string(r.segments()[0]) + " " +
                   std::string(r.query_value("q")) + " " + std::string(r.form().get("f")) + " " +
                   std::string(r.path_value("x")) + " " + std::string(r.header("X-A")));
    w.status(r.query_value("q") == "1" ? 201 : 200);
    if (r.query_value("q") == "1") w.header("X-B", "c");
  });
  m.mount("/mounted", m);
  world w(m.as_handler());
  const std::string type = "Content-Type: application/x-www-form-urlencoded\r\n";
  w.run({"POST /mounted/a%20b?q=1 HTTP/1.1\r\nHost: h\r\nX-A: b\r\n" + type +
         "Content-Length: 3\r\n\r\nf=g" + "GET /c%20d HTTP/1.1\r\nHost: h\r\n\r\n" +
         "GET / HTTP/1.1\r\nHost: h\r\n\r\n"});
  EXPECT_EQ(seen, (std::vector<std::string>{"/mounted/a b mounted 1 g a b b", "/c d c d   c d ",
                                            "/     "}));
  auto answers = w.responses();
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0].status, 201);
  EXPECT_EQ(answers[1].status, 200);
  EXPECT_FALSE(answers[1].has("X-B"));
}

TEST(Request, OwnOutlivesTheConnection) {
  std::vector<request> kept;
  {
    mux m;
    m.handle("/u/{id}", [&](response_writer&, request& r) { kept.push_back(r.own()); });
    world w(m.as_handler());
    w.run({get("Host: h\r\nX-A: b\r\n", "GET /u/a%20b?q=1 HTTP/1.1") +
           get("Host: other\r\n", "GET /u/second HTTP/1.1")});
  }
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_EQ(kept[0].path_value("id"), "a b");
  EXPECT_EQ(kept[0].pattern(), "/u/{id}");
  EXPECT_EQ(kept[0].header("x-a"), "b");
  EXPECT_EQ(kept[0].query_value("q"), "1");
  EXPECT_EQ(kept[0].path(), "/u/a b");
  EXPECT_EQ(kept[0].remote_address(), "192.0.2.1:1234");
  EXPECT_EQ(kept[0].read_all().error(), error::body_not_available);
  EXPECT_EQ(kept[1].host(), "other");
}

TEST(Connection, ContinueIsSentWhenTheHandlerFirstReads) {
  world w(echo);
  w.transport.on_block = [&] {
    EXPECT_EQ(w.transport.sent, "HTTP/1.1 100 Continue\r\n\r\n");
    w.transport.input.push_back("hello");
  };
  EXPECT_EQ(w.run({post("Expect: 100-continue\r\nContent-Length: 5\r\n")}), outcome::idle);
  auto answers = w.responses();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].status, 100);
  EXPECT_EQ(answers[1].body, "POST /|hello");
}

TEST(Connection, ContinueIsNotSentIfTheHandlerNeverReads) {
  world w([](response_writer& rw, request&) { rw.status(403); });
  w.transport.eof_at_end = true;
  EXPECT_EQ(w.run({post("Expect: 100-continue\r\nContent-Length: 5\r\n")}), outcome::closed);
  auto answers = w.responses();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].status, 403);
  EXPECT_EQ(answers[0].field("Connection"), "close");
}

TEST(Connection, LittleUnreadBodyIsSkippedMuchEndsTheConnection) {
  auto ignore = [](response_writer& rw, request&) { rw.write("ok"); };
  for (bool chunk : {false, true}) {
    auto message = [&](std::size_t n) {
      std::string body(n, 'x');
      if (!chunk) return post("Content-Length: " + std::to_string(n) + "\r\n", body);
      char size[20];
      std::snprintf(size, sizeof size, "%zx\r\n", n);
      return testing::chunked(size + body + "\r\n0\r\n\r\n");
    };
    world little(ignore);
    EXPECT_EQ(little.run({message(262144) + sentinel}), outcome::idle);
    EXPECT_EQ(summary(little), (std::vector<std::string>{"200  ok", "200  ok"}));

    world much(ignore);
    much.transport.eof_at_end = true;
    EXPECT_EQ(much.run({message(262145 + 2048) + sentinel}), outcome::closed);
    EXPECT_EQ(much.responses().size(), 1u);
    EXPECT_TRUE(much.transport.half_closed);
    EXPECT_EQ(much.responses()[0].field("Connection"), chunk ? "" : "close");
  }
}

TEST(Connection, BodyOverTheLimitIs413) {
  world w(echo);
  w.options.max_body = 10;
  w.transport.eof_at_end = true;
  EXPECT_EQ(w.run({post("Content-Length: 10\r\n", "0123456789") +
                   post("Content-Length: 11\r\n", "0123456789a") + sentinel}),
            outcome::closed);
  auto answers = w.responses();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].status, 200);
  EXPECT_EQ(answers[1].status, 413);
  EXPECT_EQ(answers[1].body, "request body over the limit\n");
  EXPECT_EQ(answers[1].field("Connection"), "close");
  EXPECT_EQ(w.counters.limits_hit.load(), 1u);

  world c(echo);
  c.options.max_body = 10;
  c.transport.eof_at_end = true;
  c.run({testing::chunked("6\r\n012345\r\n5\r\n6789a\r\n0\r\n\r\n")});
  EXPECT_EQ(c.responses().at(0).status, 413);
}

TEST(Connection, StreamedBodyHasNoLimitAndArrivesWhole) {
  std::string body;
  for (int i = 0; i < 300000; ++i) body.push_back(static_cast<char>('a' + i % 19));
  for (std::size_t buffer : {100u, 5000u, 70000u}) {
    std::string got;
    world w([&](response_writer&, request& r) {
      std::string into(buffer, '\0');
      auto reader = r.body();
      EXPECT_EQ(reader.remaining(), r.method() == "POST" ? body.size() : 0);
      for (;;) {
        auto n = reader.read(into);
        if (!n) {
          EXPECT_EQ(n.error(), errc::eof);
          break;
        }
        got.append(into, 0, *n);
      }
    });
    w.options.max_body = 10;
    w.transport.pause_between = true;
    std::vector<std::string> pieces = {post("Content-Length: 300000\r\n")};
    for (std::size_t at = 0; at < body.size(); at += 30000) {
      pieces.push_back(body.substr(at, 30000));
    }
    pieces.back() += sentinel.substr(0, 10);
    pieces.push_back(sentinel.substr(10));
    EXPECT_EQ(w.run(pieces), outcome::idle);
    EXPECT_TRUE(got.substr(0, 300000) == body);
    EXPECT_EQ(w.responses().size(), 2u);
  }
}

TEST(Connection, BodyEndedEarlyIs400) {
  world w(echo);
  w.transport.eof_at_end = true;
  EXPECT_EQ(w.run({post("Content-Length: 10\r\n", "0123")}), outcome::closed);
  EXPECT_EQ(w.responses().at(0).status, 400);
}

TEST(Connection, TrailersAreSeparateAndFiltered) {
  std::string sum, host, early;
  world w([&](response_writer&, request& r) {
    early = r.trailer("X-Sum");
    r.read_all().value();
    sum = r.trailer("x-sum");
    host = r.trailer("Host");
    EXPECT_EQ(r.header("X-Sum"), "");
  });
  w.run({testing::chunked("1\r\na\r\n0\r\nX-Sum: 42\r\nHost: evil\r\n\r\n")});
  EXPECT_EQ(early, "");
  EXPECT_EQ(sum, "42");
  EXPECT_EQ(host, "");
}

}  // namespace
}  // namespace weft::http
