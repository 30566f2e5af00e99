// What is timed on a connection, by a clock that moves only when told.
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "tests/unit/net/connection_world.h"

namespace weft::http {
namespace {

using detail::outcome;
using detail::serve_mode;
using std::chrono::milliseconds;
using testing::echo;
using testing::get;
using testing::hello;
using testing::post;
using testing::sentinel;
using testing::world;

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

}  // namespace
}  // namespace weft::http
