// Nothing freezes the others, with sockets: servers answer while every processor is held, and a
// descriptor that becomes ready is work that waits.
#include <weft/blocking.h>
#include <weft/http/server.h>
#include <weft/wait_group.h>

#include <atomic>
#include <string>
#include <thread>

#include "tests/conformance/hogs.h"
#include "tests/unit/net/net_world.h"

namespace weft {
namespace {

using namespace weft::test;

std::string ask(const std::string& where) {
  net::tcp_conn c = net::dial(where, far());
  c.write("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
  std::string all;
  char buffer[512];
  while (result<std::size_t> n = c.try_read(buffer)) all.append(buffer, *n);
  return all;
}

// As many busy loops as there are processors, and as many reads from a pipe that never fills.
WEFT_NET_TEST(FreezeNet, ServerAnswersWhileAllProcessorsAreHeld) {
  http::mux m;
  m.handle("GET /", [](http::response_writer& w, http::request&) { w.write("hello"); });
  http::server server(m);
  net::tcp_listener l = net::listen("tcp", "127.0.0.1:0");
  const std::string where = l.local_address().to_string();
  auto serving = spawn([&, l = std::move(l)]() mutable { server.serve(std::move(l)); });
  hogs busy(hog_kind::busy_loop), reading(hog_kind::pipe_read);
  wait_group wg;
  for (int i = 0; i < world_procs(); ++i) {
    wg.go([&] { busy.hold(); });
    wg.go([&] { reading.hold(); });
  }
  EXPECT_TRUE(eventually(
      [&] { return busy.holding() == world_procs() && reading.holding() == world_procs(); }));
  std::atomic<int> answers{0};
  std::thread client([&] {
    for (int i = 0; i < 5; ++i) answers += ask(where).ends_with("\r\n\r\nhello");
  });
  for (int i = 0; i < 5; ++i) answers += ask(where).ends_with("\r\n\r\nhello");
  blocking([&] { client.join(); });
  EXPECT_EQ(answers.load(), 10);
  busy.stop();
  reading.stop();
  wg.wait();
  EXPECT_EQ(busy.interrupted() + reading.interrupted(), 0);
  server.close();
  serving.join();
}

WEFT_NET_TEST(FreezeNet, WorkWaitsOnADescriptor) {
  tcp_pair p = connect_pair();
  std::atomic<bool> got{false};
  auto reader = spawn([&] {
    char c;
    got = p.server.read({&c, 1}) == 1;
  });
  EXPECT_TRUE(eventually_waiting(sched::wait_reason::io_wait, 1));
  hogs busy(hog_kind::busy_loop);
  wait_group wg;
  for (int i = 1; i < world_procs(); ++i) wg.go([&] { busy.hold(); });
  std::thread sender([&] { p.client.write("x"); });
  while (!got) {
#if WEFT_TSAN
    ::sched_yield();
#endif
  }
  busy.stop();
  wg.wait();
  reader.join();
  blocking([&] { sender.join(); });
}

}  // namespace
}  // namespace weft
