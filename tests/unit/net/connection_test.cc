// A whole connection over a scripted transport: what goes in as bytes, what comes out as answers,
// and what ends it.
#include "net/http/connection.h"

#include <gtest/gtest.h>
#include <weft/http/raw_stream.h>

#include <string>
#include <vector>

#include "tests/unit/net/connection_world.h"

namespace weft::http {
namespace {

using detail::outcome;
using detail::serve_mode;
using testing::echo;
using testing::get;
using testing::hello;
using testing::line;
using testing::post;
using testing::sentinel;
using testing::summary;
using testing::world;

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

}  // namespace
}  // namespace weft::http
