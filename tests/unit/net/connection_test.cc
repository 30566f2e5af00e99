// A whole connection over a scripted transport: what goes in as bytes, what comes out as answers.
#include "net/http/connection.h"

#include <gtest/gtest.h>
#include <weft/http/mux.h>
#include <weft/http/raw_stream.h>

#include <atomic>
#include <cstring>
#include <ctime>
#include <thread>

#include "tests/unit/net/http_messages.h"
#include "tests/unit/net/memory_transport.h"

namespace weft::http {
namespace {

using detail::outcome;
using detail::serve_mode;
using std::chrono::milliseconds;
using testing::get;
using testing::line;
using testing::post;
using testing::response;
using testing::world;

// Answers "METHOD path|body".
void echo(response_writer& w, request& r) {
  std::string body = r.read_all().value();
  w.write(r.method());
  w.write(" ");
  w.write(r.raw_path());
  w.write("|");
  w.write(body);
}

void hello(response_writer& w, request&) {
  w.header("Content-Type", "text/plain");
  w.write("hello\n");
}

const std::string sentinel = "GET /sentinel HTTP/1.1\r\nHost: s\r\n\r\n";

// Final answers only, each as one line: the same whatever interim answers were sent.
std::vector<std::string> summary(const world& w, const std::vector<bool>& heads = {}) {
  std::vector<std::string> out;
  for (const response& r : w.responses(heads)) {
    if (r.status < 200) continue;
    out.push_back(std::to_string(r.status) + " " + r.field("Connection") + " " +
                  (r.complete ? "" : "cut ") + r.body);
  }
  return out;
}

std::vector<std::string> bytewise(const std::string& s) {
  std::vector<std::string> out;
  const std::size_t step = s.size() > 4000 ? 997 : 1;
  for (std::size_t i = 0; i < s.size(); i += step) out.push_back(s.substr(i, step));
  return out;
}

TEST(Connection, ExactBytesOfAHelloAnswer) {
  world w(hello);
  EXPECT_EQ(w.run({get("Host: h\r\n")}), outcome::idle);
  EXPECT_EQ(w.transport.sent,
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
            "Content-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n");
  EXPECT_EQ(w.transport.writes.size(), 1u);
  EXPECT_EQ(w.pool.lent(), 0u);
  EXPECT_EQ(w.counters.requests.load(), 1u);
}

TEST(Connection, HostileMessagesAreAnsweredOnceAndNothingBehindThemIsServed) {
  for (const auto& m : testing::hostile_messages()) {
    SCOPED_TRACE(m.id);
    for (bool slow : {false, true}) {
      bool sentinel_served = false;
      world w([&](response_writer& rw, request& r) {
        if (r.raw_path() == "/sentinel") sentinel_served = true;
        echo(rw, r);
      });
      w.transport.pause_between = slow;
      w.transport.eof_at_end = true;
      std::string all = m.bytes + sentinel;
      EXPECT_EQ(w.run(slow ? bytewise(all) : std::vector<std::string>{all}), outcome::closed);
      auto answers = w.responses();
      ASSERT_EQ(answers.size(), 1u);
      EXPECT_EQ(answers[0].status, m.status) << answers[0].body;
      EXPECT_EQ(answers[0].field("Connection"), "close");
      EXPECT_FALSE(answers[0].field("Date").empty());
      EXPECT_TRUE(w.transport.half_closed);  // read on before closing, or RST eats the answer
      EXPECT_TRUE(w.transport.closed);
      EXPECT_FALSE(sentinel_served);
      ASSERT_EQ(w.log.size(), 1u);
      EXPECT_EQ(w.pool.lent(), 0u);
    }
  }
}

TEST(Connection, GoodMessagesAreServedAndTheNextOneToo) {
  for (const auto& m : testing::good_messages()) {
    SCOPED_TRACE(m.id);
    for (bool slow : {false, true}) {
      world w(echo);
      w.transport.pause_between = slow;
      std::string all = m.bytes + sentinel;
      outcome o = w.run(slow ? bytewise(all) : std::vector<std::string>{all});
      EXPECT_EQ(o, m.keep_alive ? outcome::idle : outcome::closed);
      auto answers = summary(w);
      ASSERT_EQ(answers.size(), m.keep_alive ? 2u : 1u);
      if (m.path != nullptr) {
        std::string path = *m.path != '\0'                      ? m.path
                           : std::string(m.method) == "OPTIONS" ? "*"
                                                                : "/";
        EXPECT_NE(answers[0].find(std::string(m.method) + " " + path + "|" + m.body),
                  std::string::npos)
            << answers[0];
      }
      if (m.keep_alive) {
        EXPECT_EQ(answers[1], "200  GET /sentinel|");
      }
      EXPECT_TRUE(w.log.empty());
    }
  }
}

TEST(Connection, SplitInvariance) {
  std::vector<std::string> messages;
  for (const auto& m : testing::good_messages()) messages.push_back(m.bytes);
  for (const auto& m : testing::hostile_messages()) messages.push_back(m.bytes);
  std::size_t cuts = 0;
  for (const std::string& m : messages) {
    if (m.size() > 400) continue;  // the bytewise tests above cut the long ones
    const std::string all = m + sentinel + sentinel;
    world whole(echo);
    whole.transport.eof_at_end = true;
    whole.run({all});
    const auto expected = summary(whole);
    for (std::size_t cut = 1; cut < all.size(); ++cut) {
      for (serve_mode mode : {serve_mode::return_idle, serve_mode::block}) {
        world w(echo);
        w.transport.eof_at_end = true;
        w.transport.pause_between = true;
        w.run({all.substr(0, cut), all.substr(cut)}, mode);
        ASSERT_EQ(summary(w), expected) << m << "\ncut at " << cut;
        ++cuts;
      }
    }
  }
  EXPECT_GT(cuts, 20000u);
}

TEST(Connection, PipelinedAnswersKeepTheirOrderAndShareWrites) {
  world w(echo);
  std::string all;
  for (int i = 0; i < 40; ++i) all += line("GET /" + std::to_string(i) + " HTTP/1.1");
  EXPECT_EQ(w.run({all}), outcome::idle);
  auto answers = w.responses();
  ASSERT_EQ(answers.size(), 40u);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(answers[i].body, "GET /" + std::to_string(i) + "|");
  EXPECT_EQ(w.transport.writes.size(), 3u);  // after 16, after 32, at the end
  EXPECT_EQ(w.transport.reads, 1);
}

TEST(Connection, PipelineLargerThanTheBufferIsServedToTheEnd) {
  world w(echo);
  std::string all;
  for (int i = 0; i < 2000; ++i) {
    all += post("Content-Length: 100\r\n", std::string(100, static_cast<char>('a' + i % 26)));
  }
  EXPECT_EQ(w.run({all}), outcome::idle);
  auto answers = w.responses();
  ASSERT_EQ(answers.size(), 2000u);
  for (int i = 0; i < 2000; ++i) {
    ASSERT_EQ(answers[i].body, "POST /|" + std::string(100, static_cast<char>('a' + i % 26)));
  }
}

TEST(Connection, CorkIsFlushedBeforeTheHandlerWaitsForItsBody) {
  world w(echo);
  std::size_t seen_at_block = 0;
  w.transport.on_block = [&] {
    seen_at_block = testing::parse_responses(w.transport.sent).size();
    w.transport.input.push_back("hello");
  };
  EXPECT_EQ(w.run({get("Host: h\r\n") + post("Content-Length: 5\r\n")}), outcome::idle);
  EXPECT_EQ(seen_at_block, 1u);
  EXPECT_EQ(summary(w), (std::vector<std::string>{"200  GET /|", "200  POST /|hello"}));
}

TEST(Connection, HeadHasTheHeadersOfGetAndNoBody) {
  auto handle = [](response_writer& w, request& r) {
    if (r.raw_path() == "/big") {
      w.write(std::string(100000, 'x'));
    } else if (r.raw_path() == "/silent") {
      w.header("X-A", "b");
    } else {
      w.write("hello");
    }
  };
  world g(handle), h(handle);
  const char* paths[] = {"/small", "/big"};
  for (const char* p : paths) {
    g.run({line("GET " + std::string(p) + " HTTP/1.1")});
    h.run({line("HEAD " + std::string(p) + " HTTP/1.1")});
  }
  auto from_get = g.responses(), from_head = h.responses({true, true});
  ASSERT_EQ(from_head.size(), 2u);
  for (int i : {0, 1}) EXPECT_EQ(from_head[i].fields, from_get[i].fields);
  EXPECT_EQ(from_get[1].body.size(), 100000u);

  world s(handle);
  s.run({line("HEAD /silent HTTP/1.1")});
  EXPECT_FALSE(s.responses({true})[0].has("Content-Length"));
}

TEST(Connection, StatusesWithoutABody) {
  for (int code : {204, 304}) {
    error_code seen;
    world w([&](response_writer& rw, request&) {
      rw.status(code);
      seen = rw.write("x").error();
    });
    w.run({get("Host: h\r\n") + sentinel});
    EXPECT_EQ(seen, error::body_not_allowed);
    auto answers = w.responses();
    ASSERT_EQ(answers.size(), 2u);
    EXPECT_EQ(answers[0].status, code);
    EXPECT_FALSE(answers[0].has("Content-Length"));
    EXPECT_FALSE(answers[0].has("Transfer-Encoding"));
  }
}

TEST(Connection, NoWriteMeansAnEmptyBody) {
  world w([](response_writer& rw, request&) { rw.status(404); });
  w.run({get("Host: h\r\n")});
  auto r = w.responses().at(0);
  EXPECT_EQ(r.status, 404);
  EXPECT_EQ(r.field("Content-Length"), "0");
}

TEST(Connection, LengthIsExactUpTo8KBAndChunkedBeyond) {
  for (std::size_t n : {1u, 8192u, 8193u, 20000u, 300000u}) {
    for (std::size_t piece : {7u, 1000u, 8192u, 100000u}) {
      SCOPED_TRACE(std::to_string(n) + " in pieces of " + std::to_string(piece));
      std::string body;
      for (std::size_t i = 0; i < n; ++i) body.push_back(static_cast<char>('a' + i % 23));
      world w([&](response_writer& rw, request&) {
        for (std::size_t at = 0; at < n; at += piece) {
          ASSERT_TRUE(rw.write(std::string_view(body).substr(at, piece)));
        }
        EXPECT_EQ(rw.bytes_written(), n);
      });
      w.run({get("Host: h\r\n") + sentinel});
      auto answers = w.responses();
      ASSERT_EQ(answers.size(), 2u);
      for (const auto& r : answers) {
        EXPECT_TRUE(r.body == body);
        EXPECT_EQ(r.has("Content-Length"), n <= 8192);
      }
    }
  }
}

TEST(Connection, AnnouncedLengthIsNeverChunked) {
  std::string body(50000, 'b');
  world w([&](response_writer& rw, request&) { rw.respond(200, "text/plain", body); });
  w.run({get("Host: h\r\n")});
  auto r = w.responses().at(0);
  EXPECT_EQ(r.field("Content-Length"), "50000");
  EXPECT_TRUE(r.body == body);
  EXPECT_EQ(w.transport.writes.size(), 1u);  // head and body in one gathered write
}

TEST(Connection, TooMuchForTheAnnouncedLengthIsRefused) {
  error_code seen;
  world w([&](response_writer& rw, request&) {
    rw.content_length(5);
    ASSERT_TRUE(rw.write("hello"));
    seen = rw.write("!").error();
  });
  w.run({get("Host: h\r\n") + sentinel});
  EXPECT_EQ(seen, error::content_length_exceeded);
  EXPECT_EQ(summary(w), (std::vector<std::string>{"200  hello", "200  hello"}));
}

TEST(Connection, TooLittleForTheAnnouncedLengthIs500OrReset) {
  world early([](response_writer& rw, request&) {
    rw.content_length(5);
    rw.write("hi");
  });
  early.run({get("Host: h\r\n")});
  EXPECT_EQ(early.responses().at(0).status, 500);

  world late([](response_writer& rw, request&) {
    rw.content_length(5);
    rw.write("hi");
    rw.flush();
  });
  EXPECT_EQ(late.run({get("Host: h\r\n") + sentinel}), outcome::closed);
  EXPECT_TRUE(late.transport.was_reset);
  EXPECT_EQ(summary(late), (std::vector<std::string>{"200  cut hi"}));
}

TEST(Connection, Http10NeverSeesChunked) {
  auto handle = [](response_writer& rw, request&) {
    rw.write("a");
    rw.flush();
    rw.write("b");
  };
  world w(handle);
  EXPECT_EQ(w.run({"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"}), outcome::closed);
  auto r = w.responses().at(0);
  EXPECT_FALSE(r.has("Transfer-Encoding"));
  EXPECT_EQ(r.field("Connection"), "close");
  EXPECT_EQ(r.body, "ab");

  world k(hello);
  EXPECT_EQ(k.run({"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"}), outcome::idle);
  EXPECT_EQ(k.responses().at(0).field("Connection"), "keep-alive");
}

TEST(Connection, FlushSendsEachEventAtOnce) {
  std::vector<std::size_t> sizes;
  world w([&](response_writer& rw, request&) {
    for (const char* event : {"data: 1\n\n", "data: 2\n\n"}) {
      rw.write(event);
      rw.flush();
      sizes.push_back(w.transport.writes.size());
    }
  });
  w.run({get("Host: h\r\n")});
  EXPECT_EQ(sizes, (std::vector<std::size_t>{1, 2}));
  EXPECT_EQ(w.responses().at(0).body, "data: 1\n\ndata: 2\n\n");
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

TEST(Connection, HandlerExceptionIs500AndTheConnectionGoesOn) {
  world w([](response_writer& rw, request& r) {
    rw.header("X-Secret", "1");
    rw.write("partial");
    if (r.raw_path() != "/sentinel") throw std::runtime_error("the reason");
  });
  EXPECT_EQ(w.run({get("Host: h\r\n") + sentinel}), outcome::idle);
  auto answers = w.responses();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].status, 500);
  EXPECT_EQ(answers[0].body, "Internal Server Error\n");  // the reason is for the log
  EXPECT_FALSE(answers[0].has("X-Secret"));
  EXPECT_EQ(answers[1].body, "partial");
  EXPECT_EQ(w.log, (std::vector<std::string>{"500 the reason"}));
  EXPECT_EQ(w.counters.handler_exceptions.load(), 1u);
}

TEST(Connection, HandlerExceptionAfterTheHeadLeftResets) {
  world w([](response_writer& rw, request&) {
    rw.write("partial");
    rw.flush();
    throw 42;
  });
  EXPECT_EQ(w.run({get("Host: h\r\n") + sentinel}), outcome::closed);
  EXPECT_TRUE(w.transport.was_reset);
  auto answers = w.responses();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_FALSE(answers[0].complete);
  EXPECT_EQ(w.counters.broken_responses.load(), 1u);
  EXPECT_EQ(w.log.size(), 1u);
}

TEST(Connection, WriteFailureReachesTheHandlerAndEndsTheConnection) {
  error_code seen;
  world w([&](response_writer& rw, request&) {
    rw.write("a");
    rw.flush();
    seen = rw.write("b").error();
  });
  w.transport.fail_write_at = 0;
  EXPECT_EQ(w.run({get("Host: h\r\n") + sentinel}), outcome::closed);
  EXPECT_EQ(seen.value(), EPIPE);
  EXPECT_EQ(w.transport.sent, "");
}

TEST(Connection, HeaderInjectionIsRefused) {
  world w([](response_writer& rw, request&) {
    const std::string_view values[] = {"a\r\nX: y", "a\nb", "a\rb", {"a\0b", 3}, "\x7f"};
    for (std::string_view value : values) {
      EXPECT_THROW(rw.header("X-A", value), std::invalid_argument);
      EXPECT_THROW(rw.add_header("X-A", value), std::invalid_argument);
    }
    for (std::string_view name : {"", "a b", "a:", "a\r\n", "a\xc3"}) {
      EXPECT_THROW(rw.header(name, "v"), std::invalid_argument);
    }
    EXPECT_THROW(rw.header("Transfer-Encoding", "chunked"), std::invalid_argument);
    EXPECT_THROW(rw.header("Content-Length", "5x"), std::invalid_argument);
    EXPECT_THROW(rw.header("Content-Length", "-5"), std::invalid_argument);
    EXPECT_THROW(rw.status(99), std::invalid_argument);
    EXPECT_THROW(rw.status(100), std::invalid_argument);
    EXPECT_THROW(rw.status(1000), std::invalid_argument);
    rw.write("x");
    EXPECT_THROW(rw.header("X-A", "v"), std::logic_error);
    EXPECT_THROW(rw.status(404), std::logic_error);
  });
  w.run({get("Host: h\r\n")});
  auto r = w.responses().at(0);
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.fields.size(), 2u);  // Date, Content-Length
}

TEST(Connection, HeadersReplaceAddRemove) {
  world w([](response_writer& rw, request&) {
    rw.header("X-A", "1");
    rw.header("x-a", "2");
    rw.add_header("Set-Cookie", "a=1");
    rw.add_header("Set-Cookie", "b=2");
    rw.header("X-B", "gone");
    rw.remove_header("X-b");
    EXPECT_EQ(rw.header("X-A"), "2");
    EXPECT_EQ(rw.header("X-B"), "");
    rw.header("Date", "never");
    rw.header("X-Long", std::string(5000, 'l'));
  });
  w.run({get("Host: h\r\n")});
  auto r = w.responses().at(0);
  std::vector<std::pair<std::string, std::string>> expected = {{"x-a", "2"},
                                                               {"Set-Cookie", "a=1"},
                                                               {"Set-Cookie", "b=2"},
                                                               {"Date", "never"},
                                                               {"X-Long", std::string(5000, 'l')},
                                                               {"Content-Length", "0"}};
  EXPECT_EQ(r.fields, expected);
}

TEST(Connection, HeadersLargerThanTheBlock) {
  world w([](response_writer& rw, request&) {
    for (int i = 0; i < 10; ++i) rw.header("X-" + std::to_string(i), std::string(3000, 'v'));
    rw.write("body");
  });
  w.run({get("Host: h\r\n") + sentinel});
  auto answers = w.responses();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[1].field("X-9").size(), 3000u);
  EXPECT_EQ(answers[1].body, "body");
}

TEST(Connection, ConnectionCloseIsHonoured) {
  world w([](response_writer& rw, request&) { rw.header("Connection", "close"); });
  w.transport.eof_at_end = true;
  EXPECT_EQ(w.run({get("Host: h\r\n") + sentinel}), outcome::closed);
  EXPECT_EQ(w.responses().size(), 1u);
  EXPECT_EQ(w.responses()[0].field("Connection"), "close");
}

TEST(Connection, RequestsPerConnectionLimit) {
  world w(hello);
  w.options.max_requests = 2;
  w.transport.eof_at_end = true;
  EXPECT_EQ(w.run({sentinel + sentinel + sentinel}), outcome::closed);
  auto answers = w.responses();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].field("Connection"), "");
  EXPECT_EQ(answers[1].field("Connection"), "close");
}

TEST(Connection, StoppingClosesAfterTheAnswerAndClosesIdleOnes) {
  world w(hello);
  EXPECT_EQ(w.run({sentinel}), outcome::idle);
  w.stopping = true;
  w.transport.eof_at_end = true;
  EXPECT_EQ(w.run({sentinel}), outcome::closed);
  EXPECT_EQ(w.responses().at(1).field("Connection"), "close");

  world unused(hello);
  unused.stopping = true;
  EXPECT_EQ(unused.run({}), outcome::closed);
  EXPECT_EQ(unused.transport.sent, "");
}

TEST(Connection, IdleConnectionOwnsNoBuffer) {
  world w(hello);
  EXPECT_EQ(w.run({sentinel}), outcome::idle);
  EXPECT_EQ(w.pool.lent(), 0u);
  EXPECT_TRUE(w.connection.is_idle());
  EXPECT_LE(w.connection.idle_bytes(), 128u);
  EXPECT_EQ(w.connection.deadline(), w.clock.now() + milliseconds(75000));
  EXPECT_EQ(w.connection.expire(), outcome::closed);
  EXPECT_EQ(w.responses().size(), 1u);  // an idle one ends in silence
}

TEST(Connection, SlowHeadHoldsItsBytesAndIsTimedFromItsFirstByte) {
  world w(hello);
  w.run({sentinel});
  w.clock.advance(milliseconds(3000));
  auto begun = w.clock.now();
  std::string text = "GET / HTTP/1.1\r\nX: " + std::string(1000, 'a');
  for (char c : text) {
    EXPECT_EQ(w.run({std::string(1, c)}), outcome::idle);
    w.clock.advance(milliseconds(5));
  }
  EXPECT_EQ(w.pool.lent(), 0u);
  EXPECT_FALSE(w.connection.is_idle());
  EXPECT_LE(w.connection.idle_bytes(), text.size() + 300);
  EXPECT_EQ(w.connection.deadline(), begun + milliseconds(10000));
  EXPECT_EQ(w.connection.expire(), outcome::closed);
  EXPECT_EQ(w.responses().at(1).status, 408);
  EXPECT_EQ(w.responses().at(1).field("Connection"), "close");
  EXPECT_EQ(w.pool.lent(), 0u);
}

TEST(Connection, ByteAfterTheHeadDeadlineIs408) {
  world w(hello);
  EXPECT_EQ(w.run({"GET /"}), outcome::idle);
  w.clock.advance(milliseconds(10001));
  EXPECT_EQ(w.run({" "}), outcome::closed);
  EXPECT_EQ(w.responses().at(0).status, 408);
}

TEST(Connection, NewConnectionIsTimedFromAccept) {
  world w(hello);
  auto accepted = w.clock.now();
  EXPECT_EQ(w.connection.deadline(), accepted + milliseconds(10000));
  w.clock.advance(milliseconds(4000));
  w.run({"GET"});
  EXPECT_EQ(w.connection.deadline(), accepted + milliseconds(10000));
  world unused(hello);
  EXPECT_EQ(unused.connection.expire(), outcome::closed);
  EXPECT_EQ(unused.transport.sent, "");
  world off(hello);
  off.options.head_timeout = milliseconds(0);
  EXPECT_EQ(off.connection.deadline(), detail::http_clock::time_point::max());
}

TEST(Connection, BlockingModeWaitsAndTimesOutByItself) {
  world idle(hello);
  EXPECT_EQ(idle.run({sentinel}, serve_mode::block), outcome::closed);
  EXPECT_EQ(idle.responses().size(), 1u);
  EXPECT_EQ(idle.clock.now().time_since_epoch(), std::chrono::hours(1) + milliseconds(75000));

  world slow(hello);
  EXPECT_EQ(slow.run({"GET / HT"}, serve_mode::block), outcome::closed);
  EXPECT_EQ(slow.responses().at(0).status, 408);
  EXPECT_GE(slow.clock.now().time_since_epoch(), std::chrono::hours(1) + milliseconds(10000));
}

TEST(Connection, StalledBodyIs408) {
  world w(echo);
  EXPECT_EQ(w.run({post("Content-Length: 10\r\n", "0123")}), outcome::closed);
  EXPECT_EQ(w.responses().at(0).status, 408);
  EXPECT_EQ(w.counters.timeouts.load(), 1u);
}

TEST(Connection, BodyClockCountsOnlyWaitingAndCreditsBytes) {
  // 20 pieces of 1 KB, each after 0.9 s: 18 s in all, more than the grace, never below the rate.
  int pieces = 0;
  world w([&](response_writer& rw, request& r) {
    w.clock.advance(milliseconds(60000));  // a slow handler is not the client's fault
    rw.write(std::to_string(r.read_all().value().size()));
  });
  w.transport.on_block = [&] {
    if (pieces++ >= 20) return;
    w.clock.advance(milliseconds(900));
    w.transport.input.push_back(std::string(1024, 'x'));
  };
  w.run({post("Content-Length: 20480\r\n")});
  EXPECT_EQ(w.responses().at(0).body, "20480");

  // 100 bytes per 0.9 s fall behind 1 KB/s by more than the grace allows.
  pieces = 0;
  world s(echo);
  s.transport.on_block = [&] {
    ++pieces;
    s.clock.advance(milliseconds(900));
    s.transport.input.push_back(std::string(100, 'x'));
    if (pieces > 12) s.transport.input.clear();
  };
  s.run({post("Content-Length: 20480\r\n")});
  EXPECT_EQ(s.responses().at(0).status, 408);
  EXPECT_LT(pieces, 20);
}

TEST(Connection, WriteDeadlineGrowsWithTheSize) {
  world w([](response_writer& rw, request&) {
    rw.respond(200, "text/plain", std::string(1 << 20, 'x'));
  });
  w.run({get("Host: h\r\n")});
  auto grace = w.clock.now() + milliseconds(10000);
  EXPECT_GT(w.transport.write_deadline, grace + milliseconds(1024 * 1000));
  EXPECT_LT(w.transport.write_deadline, grace + milliseconds(1026 * 1000));
}

TEST(Connection, LingerIsBoundedByTimeAndBytes) {
  world w(hello);
  EXPECT_EQ(w.run({"BAD\r\n\r\n"}), outcome::closed);
  EXPECT_EQ(w.clock.now().time_since_epoch(), std::chrono::hours(1) + milliseconds(1000));

  world flood(hello);
  flood.transport.on_block = [&] { flood.transport.input.push_back(std::string(16384, 'x')); };
  EXPECT_EQ(flood.run({"BAD\r\n\r\n"}), outcome::closed);
  EXPECT_LT(flood.transport.blocking_reads, 20);
}

TEST(Connection, HijackSpeaksRawAndKeepsWhatCameBehindTheHead) {
  std::string first;
  bool ended = false;
  world w([&](response_writer& rw, request& r) {
    EXPECT_EQ(r.header("Upgrade"), "raw");
    rw.status(101);
    rw.header("Connection", "Upgrade");
    rw.header("Upgrade", "raw");
    raw_stream& s = rw.hijack();
    char buffer[64];
    auto n = s.read(buffer);
    first.assign(buffer, *n);
    s.write("pong");
    ended = s.read(buffer).error() == errc::eof;
    EXPECT_EQ(rw.write("x").error(), error::hijacked);
  });
  w.transport.eof_at_end = true;
  EXPECT_EQ(w.run({get("Host: h\r\nConnection: upgrade\r\nUpgrade: raw\r\n") + "ping"}),
            outcome::hijacked);
  EXPECT_EQ(first, "ping");
  EXPECT_TRUE(ended);
  EXPECT_TRUE(w.transport.closed);
  EXPECT_EQ(w.transport.sent,
            "HTTP/1.1 101 Switching Protocols\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
            "Connection: Upgrade\r\nUpgrade: raw\r\n\r\npong");
}

TEST(Connection, SwitchingProtocolsWithoutHijackIs500) {
  world w([](response_writer& rw, request&) { rw.status(101); });
  w.run({get("Host: h\r\n")});
  EXPECT_EQ(w.responses().at(0).status, 500);
}

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

TEST(ServerOptions, CheckNamesTheOptionAndItsRange) {
  server_options o;
  o.check();
  o.max_head = 70000;
  try {
    o.check();
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(),
                 "weft::http::server_options::max_head is 70000, allowed are 64 to 65536");
  }
}

TEST(Date, KnownDays) {
  auto text = [](std::int64_t t) {
    char out[detail::date_length];
    detail::format_date(t, out);
    return std::string(out, detail::date_length);
  };
  EXPECT_EQ(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
  EXPECT_EQ(text(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(text(951782400), "Tue, 29 Feb 2000 00:00:00 GMT");
  EXPECT_EQ(text(4107542399), "Sun, 28 Feb 2100 23:59:59 GMT");
  EXPECT_EQ(text(4107542400), "Mon, 01 Mar 2100 00:00:00 GMT");
}

TEST(Date, ReadersNeverSeeATornDate) {
  detail::system_http_clock clock;
  std::atomic<int> torn{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20000; ++i) {
        char now[detail::date_length];
        std::int64_t before = ::time(nullptr);
        clock.write_date(now);
        bool known = false;  // the coarse clock may lag the second by a tick
        for (std::int64_t s = before - 1; s <= ::time(nullptr) && !known; ++s) {
          char expected[detail::date_length];
          detail::format_date(s, expected);
          known = std::memcmp(now, expected, sizeof now) == 0;
        }
        if (!known) ++torn;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(torn.load(), 0);
}

}  // namespace
}  // namespace weft::http
