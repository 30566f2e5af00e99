// Answers that are finished leave before the task that serves the connection waits for anything.
#include <gtest/gtest.h>
#include <weft/http/server.h>
#include <weft/weft.h>

#include "net/http/connection.h"
#include "tests/unit/net/http_messages.h"
#include "tests/unit/net/memory_transport.h"

namespace weft::http {
namespace {

// Really: there is somebody to give way to.
void give_way() {
  go([] {});
  this_task::yield();
}

using detail::outcome;
using testing::world;

std::string request_text() { return testing::get("Host: h\r\n"); }

std::size_t answers_sent(const world& w) {
  return testing::parse_responses(w.transport.sent).size();
}

struct way_to_wait {
  const char* name;
  void (*wait)();
};

const way_to_wait ways[] = {
    {"yield", give_way},
    {"sleep", [] { this_task::sleep_for(std::chrono::microseconds(100)); }},
    {"channel",
     [] {
       chan<int> c = chan<int>(0);
       go([c]() mutable { c.send(1); });
       c.recv();
     }},
    {"select",
     [] {
       chan<int> a = chan<int>(0), b = chan<int>(0);
       go([b]() mutable { b.send(1); });
       select(on_recv(a), on_recv(b));
     }},
    {"mutex",
     [] {
       mutex m;
       m.lock();
       auto other = spawn([&] {
         this_task::yield();
         m.unlock();
       });
       m.lock();
       m.unlock();
       other.join();
     }},
    {"join", [] { spawn([] { this_task::yield(); }).join(); }},
    {"blocking", [] { blocking([] {}); }},
};

TEST(CorkBeforeWaiting, FinishedAnswersLeaveWhateverTheHandlerWaitsFor) {
  for (const way_to_wait& way : ways) {
    SCOPED_TRACE(way.name);
    run([&] {
      std::vector<std::size_t> before, after;
      world* here = nullptr;
      world w([&](response_writer& rw, request&) {
        rw.write("not decided yet");
        before.push_back(answers_sent(*here));
        way.wait();
        after.push_back(answers_sent(*here));
      });
      here = &w;
      w.transport.takes_now = 1 << 20;
      EXPECT_EQ(w.run({request_text() + request_text() + request_text()}), outcome::idle);
      EXPECT_EQ(before, (std::vector<std::size_t>{0, 0, 1}));
      EXPECT_EQ(after, (std::vector<std::size_t>{0, 1, 2}));
      EXPECT_EQ(w.responses().size(), 3u);
      EXPECT_EQ(w.transport.held, 0);
    });
  }
}

TEST(CorkBeforeWaiting, NothingIsSentTwiceOrLostHoweverLittleCanBeSentAtOnce) {
  for (std::size_t takes : {1, 3, 7, 64, 500, 5000, 100000}) {
    SCOPED_TRACE(takes);
    run([&] {
      int served = 0;
      world w([&](response_writer& rw, request&) {
        const int n = served++;
        for (int i = 0; i < n % 7; ++i) {
          rw.write(
              std::string(static_cast<std::size_t>(n * 37 % 4000), static_cast<char>('a' + i)));
          give_way();
        }
      });
      w.transport.takes_now = takes;
      std::string all;
      for (int i = 0; i < 60; ++i) all += request_text();
      EXPECT_EQ(w.run({all}), outcome::idle);
      const auto answers = w.responses();
      ASSERT_EQ(answers.size(), 60u);
      for (int n = 0; n < 60; ++n) {
        std::string expected;
        for (int i = 0; i < n % 7; ++i)
          expected.append(static_cast<std::size_t>(n * 37 % 4000), static_cast<char>('a' + i));
        EXPECT_EQ(answers[static_cast<std::size_t>(n)].body, expected);
        EXPECT_TRUE(answers[static_cast<std::size_t>(n)].complete);
      }
      EXPECT_GT(w.transport.writes_now, 0);
      EXPECT_EQ(w.transport.held, 0);
    });
  }
}

// What a streaming handler has written is on its way when the handler waits.
TEST(CorkBeforeWaiting, AStreamedPieceLeavesWithoutAFlush) {
  run([] {
    world* here = nullptr;
    bool arrived = false;
    world w([&](response_writer& rw, request&) {
      rw.write("first");
      rw.flush();
      rw.write("second");
      EXPECT_EQ(here->transport.sent.find("second"), std::string::npos);
      give_way();
      arrived = here->transport.sent.ends_with("6\r\nsecond\r\n");
    });
    here = &w;
    w.transport.takes_now = 1 << 20;
    EXPECT_EQ(w.run({request_text()}), outcome::idle);
    EXPECT_TRUE(arrived);
    EXPECT_EQ(w.responses().at(0).body, "firstsecond");
  });
}

// A helper that writes for the handler and goes on by itself must not send for a session that may
// be gone.
TEST(CorkBeforeWaiting, AnotherTaskThatWritesDoesNotSendLater) {
  run([] {
    chan<int> written = chan<int>(0), finish = chan<int>(0);
    join_handle<void> helper;
    {
      world w([&](response_writer& rw, request&) {
        rw.flush();
        helper = spawn([&, written, finish]() mutable {
          rw.write("by the helper");
          written.send(1);
          finish.recv();
          this_task::yield();
        });
        written.recv();
      });
      w.transport.takes_now = 1 << 20;
      EXPECT_EQ(w.run({request_text()}), outcome::idle);
      EXPECT_EQ(w.responses().at(0).body, "by the helper");
      EXPECT_EQ(w.transport.held, 0);
    }
    finish.send(1);
    helper.join();
  });
}

}  // namespace
}  // namespace weft::http
