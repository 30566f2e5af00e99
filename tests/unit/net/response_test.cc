// What a handler writes and how it arrives: framing, statuses, headers.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/unit/net/connection_world.h"

namespace weft::http {
namespace {

using detail::outcome;
using testing::get;
using testing::hello;
using testing::line;
using testing::sentinel;
using testing::summary;
using testing::world;

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

}  // namespace
}  // namespace weft::http
