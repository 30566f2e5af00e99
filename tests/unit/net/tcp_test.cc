// TCP in blocking style: rules of streams, deadlines, close, many connections, shortages.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <weft/net/wait.h>

#include <csignal>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "tests/unit/net/net_world.h"

namespace weft::net {
namespace {

using namespace weft::test;

bool parked(int n = 1) { return eventually_waiting(sched::wait_reason::io_wait, n); }

std::string pattern(std::size_t n, unsigned seed = 1) {
  std::string s(n, '\0');
  std::minstd_rand r(seed);
  for (char& c : s) c = static_cast<char>(r() % 251);
  return s;
}

std::string read_all(tcp_conn& c, std::size_t at_a_time = 4096) {
  std::string all;
  std::vector<char> buffer(at_a_time);
  for (;;) {
    result<std::size_t> n = c.try_read(buffer);
    if (!n) {
      EXPECT_EQ(n.error(), errc::eof);
      return all;
    }
    EXPECT_GT(*n, 0u);
    all.append(buffer.data(), *n);
  }
}

// -- addresses

TEST(Address, ParsesAndPrints) {
  for (const char* text : {"192.0.2.1:80", "[2001:db8::1]:8080", "0.0.0.0:0", "[::]:65535"})
    EXPECT_EQ(address::parse(text).to_string(), text);
  EXPECT_EQ(address::parse(":8080").to_string(), "[::]:8080");
  EXPECT_EQ(address::parse("[::ffff:192.0.2.1]:1").to_string(), "192.0.2.1:1");
  EXPECT_EQ(address::parse("[fe80::1%3]:80").to_string(), "[fe80::1%3]:80");
  EXPECT_TRUE(address::parse("127.8.8.8:1").is_loopback());
  EXPECT_TRUE(address::parse("[::1]:1").is_loopback());
  EXPECT_FALSE(address::parse("128.0.0.1:1").is_loopback());
  EXPECT_EQ(address::parse("10.0.0.1:1").with_port(7), address::parse("10.0.0.1:7"));
  EXPECT_EQ(address().to_string(), "");
}

TEST(Address, RefusesWhatIsNone) {
  for (const char* text :
       {"", "80", "192.0.2.1", "192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1:0x50",
        "192.0.2:80", "192.0.2.256:80", "::1:80", "[::1]", "[::1]80", "[192.0.2.1]:80", "[::1:80",
        "example.com:80", "[::1%]:80", "1.2.3.4:80:90", "1.2.3.4 :80"}) {
    EXPECT_FALSE(address::try_parse(text)) << text;
    EXPECT_THROW(address::parse(text), std::invalid_argument) << text;
  }
}

WEFT_NET_TEST(Address, ResolvesNamesAndSaysWhichAreUnknown) {
  result<std::vector<address>> local = resolve("localhost:80");
  ASSERT_TRUE(local) << local.error().message();
  EXPECT_TRUE(local->front().is_loopback());
  EXPECT_EQ(local->front().port(), 80);
  EXPECT_FALSE(resolve("no port"));
}

// -- streams

WEFT_NET_TEST(Tcp, BytesArriveInOrderAndEndWithEof) {
  tcp_pair p = connect_pair();
  const std::string data = pattern(100'000);
  auto writer = spawn([&] {
    p.client.write(data);
    p.client.shutdown_write();
  });
  EXPECT_EQ(read_all(p.server), data);
  char more;
  EXPECT_EQ(p.server.try_read({&more, 1}).error(), errc::eof);  // it stays the end
  writer.join();
}

WEFT_NET_TEST(Tcp, EmptyReadIsNotTheEnd) {
  tcp_pair p = connect_pair();
  EXPECT_EQ(p.server.read({}), 0u);
  p.client.write("");
  p.client.write("x");
  char c = 0;
  EXPECT_EQ(p.server.read({&c, 1}), 1u);
  EXPECT_EQ(c, 'x');
}

WEFT_NET_TEST(Tcp, ReadThrowsWhereTryReadReturns) {
  tcp_pair p = connect_pair();
  p.client.close();
  char c;
  try {
    p.server.read({&c, 1});
    ADD_FAILURE() << "no exception";
  } catch (const system_error& e) {
    EXPECT_EQ(e.code(), errc::eof);
  }
}

WEFT_NET_TEST(Tcp, OneByteAtATimeAndExactFill) {
  tcp_pair p = connect_pair();
  const std::string data = pattern(300);
  auto writer = spawn([&] {
    for (char c : data) {
      p.client.write({&c, 1});
      this_task::yield();
    }
    p.client.close();
  });
  EXPECT_EQ(read_all(p.server, 1), data);  // each read fills its buffer
  writer.join();
}

// The data and the end come together or apart; a short read must not hide the end.
WEFT_NET_TEST(Tcp, FinWithAndAfterTheLastBytes) {
  for (int variant = 0; variant < 4; ++variant) {
    tcp_pair p = connect_pair();
    auto reader = spawn([&] { return read_all(p.server, 64); });
    if (variant % 2 == 1) {
      EXPECT_TRUE(parked());
    }
    p.client.write(variant < 2 ? "12345" : std::string(64, 'x'));  // short read, exact fill
    if (variant == 1 || variant == 2) this_task::sleep_for(2ms);
    p.client.close();
    EXPECT_EQ(reader.join(), variant < 2 ? "12345" : std::string(64, 'x'));
  }
}

WEFT_NET_TEST(Tcp, HalfClosedPeerStillReads) {
  tcp_pair p = connect_pair();
  p.client.shutdown_write();
  EXPECT_EQ(read_all(p.server), "");
  EXPECT_TRUE(p.server.peer_closed());
  p.server.write("late answer");
  p.server.close();
  EXPECT_EQ(read_all(p.client), "late answer");
}

WEFT_NET_TEST(Tcp, ReadFullFillsOrSaysHowItEnded) {
  tcp_pair p = connect_pair();
  auto writer = spawn([&] {
    for (const char* piece : {"ab", "cd", "ef"}) {
      p.client.write(piece);
      this_task::sleep_for(1ms);
    }
    p.client.close();
  });
  char four[4];
  p.server.read_full(four);
  EXPECT_EQ(std::string(four, 4), "abcd");
  result<void> cut = p.server.try_read_full(four);
  EXPECT_EQ(cut.error(), boost::system::errc::connection_aborted);
  EXPECT_EQ(p.server.try_read_full(four).error(), errc::eof);
  writer.join();
}

WEFT_NET_TEST(Tcp, GatheredWriteKeepsTheOrder) {
  tcp_pair p = connect_pair();
  std::vector<std::string> parts;
  std::vector<std::string_view> views;
  std::string expected;
  for (unsigned i = 0; i < 200; ++i) parts.push_back(i % 7 == 0 ? "" : pattern(i * 40, i));
  for (const std::string& s : parts) {
    views.push_back(s);
    expected += s;
  }
  auto writer = spawn([&] {
    p.client.write(views);
    p.client.write({"the ", "", "end"});
    p.client.close();
  });
  EXPECT_EQ(read_all(p.server), expected + "the end");
  writer.join();
}

WEFT_NET_TEST(Tcp, WriterWaitsForASlowReader) {
  tcp_pair p = connect_pair();
  const std::string data = pattern(sized(20, 8) * 1'000'000u);  // a send buffer may grow to 4 MB
  auto writer = spawn([&] {
    p.client.write(data);
    p.client.close();
  });
  EXPECT_TRUE(parked());  // both socket buffers are full
  EXPECT_TRUE(read_all(p.server, 50'000) == data);
  writer.join();
}

WEFT_NET_TEST(Tcp, BothDirectionsAtOnceFromDifferentTasks) {
  tcp_pair p = connect_pair();
  const std::string up = pattern(3'000'000, 1), down = pattern(3'000'000, 2);
  auto a = spawn([&] {
    p.client.write(up);
    p.client.shutdown_write();
  });
  auto b = spawn([&] {
    p.server.write(down);
    p.server.shutdown_write();
  });
  auto c = spawn([&] { return read_all(p.server) == up; });
  EXPECT_TRUE(read_all(p.client) == down);
  EXPECT_TRUE(c.join());
  a.join();
  b.join();
}

WEFT_NET_TEST(Tcp, WritesOfSeveralTasksDoNotMix) {
  tcp_pair p = connect_pair();
  constexpr std::size_t size = 200'000;
  std::vector<join_handle<void>> writers;
  for (char c : {'a', 'b', 'c'})
    writers.push_back(spawn([&, c] { p.client.write(std::string(size, c)); }));
  std::string all(3 * size, '\0');
  p.server.read_full(all);
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_EQ(all.substr(i * size, size), std::string(size, all[i * size]));
  for (auto& w : writers) w.join();
}

WEFT_NET_TEST(Tcp, ReadNowNeverWaits) {
  tcp_pair p = connect_pair();
  char buffer[8];
  EXPECT_EQ(p.server.try_read_now(buffer).error(),
            boost::system::errc::resource_unavailable_try_again);
  p.client.write("abc");
  EXPECT_TRUE(eventually([&] {
    result<std::size_t> n = p.server.try_read_now(buffer);
    return n && *n == 3;
  }));
  EXPECT_EQ(p.server.try_read_now(buffer).error(),
            boost::system::errc::resource_unavailable_try_again);
}

// -- errors

WEFT_NET_TEST(Tcp, ResetIsAnErrorAndWritingToNobodyRaisesNoSignal) {
  tcp_pair p = connect_pair();
  p.client.write("unread");
  auto reader = spawn([&] {
    char buffer[64];
    p.server.read(buffer);
    return p.server.try_read(buffer).error();
  });
  EXPECT_TRUE(parked());
  p.client.reset();
  EXPECT_EQ(reader.join(), boost::system::errc::connection_reset);
  const std::string much(100'000, 'x');
  EXPECT_FALSE(p.server.try_write(much));
  EXPECT_EQ(p.server.try_write(much).error(), boost::system::errc::broken_pipe);
}

WEFT_NET_TEST(Tcp, DialSaysWhyItFailed) {
  std::string nobody;
  {
    tcp_listener l = listen("tcp", "127.0.0.1:0");
    nobody = l.local_address().to_string();
  }
  EXPECT_EQ(try_dial(nobody).error(), boost::system::errc::connection_refused);
  EXPECT_EQ(try_dial("nonsense").error(), boost::system::errc::invalid_argument);
  try {
    dial(nobody);
    ADD_FAILURE() << "no exception";
  } catch (const system_error& e) {
    EXPECT_NE(std::string(e.what()).find(nobody), std::string::npos) << e.what();
  }
}

WEFT_NET_TEST(Tcp, ListenSaysWhyItFailed) {
  tcp_listener l = listen("tcp", "127.0.0.1:0");
  EXPECT_EQ(try_listen("tcp", l.local_address().to_string()).error(),
            boost::system::errc::address_in_use);
  EXPECT_THROW(listen("udp", "127.0.0.1:0"), std::invalid_argument);
}

WEFT_NET_TEST(Tcp, ClosedAndUnconnectedHandles) {
  tcp_conn none;
  char c;
  EXPECT_EQ(none.try_read({&c, 1}).error(), errc::closed);
  EXPECT_EQ(none.try_write("x").error(), errc::closed);
  EXPECT_FALSE(none.close());
  EXPECT_FALSE(none.is_open());
  EXPECT_EQ(none.native_handle(), -1);
  tcp_pair p = connect_pair();
  tcp_conn moved = std::move(p.client);
  EXPECT_TRUE(moved.is_open());
  EXPECT_TRUE(moved.close());
  EXPECT_FALSE(moved.close());
  EXPECT_EQ(moved.try_write("x").error(), errc::closed);
}

WEFT_NET_TEST(Tcp, AddressesAndInheritedOptions) {
  tcp_listener l = listen("tcp", ":0");
  tcp_conn c = dial("127.0.0.1:" + std::to_string(l.local_address().port()));
  tcp_conn s = l.accept();
  EXPECT_EQ(s.remote_address(), c.local_address());
  EXPECT_EQ(c.remote_address(), s.local_address());
  EXPECT_FALSE(s.remote_address().is_v6()) << "a mapped IPv4 address is shown as IPv4";
  int on = 0;
  socklen_t size = sizeof on;
  ASSERT_EQ(::getsockopt(s.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
  EXPECT_EQ(on, 1);
  ASSERT_EQ(::getsockopt(s.native_handle(), SOL_SOCKET, SO_KEEPALIVE, &on, &size), 0);
  EXPECT_EQ(on, 1);
}

// -- deadlines and close

WEFT_NET_TEST(Tcp, DeadlinesApplyToPendingAndLaterCalls) {
  tcp_pair p = connect_pair();
  char c;
  auto reader = spawn([&] { return p.server.try_read({&c, 1}).error(); });
  EXPECT_TRUE(parked());
  p.server.set_read_deadline(soon());
  EXPECT_EQ(reader.join(), errc::deadline_exceeded);
  p.client.write("x");
  EXPECT_EQ(p.server.try_read({&c, 1}).error(), errc::deadline_exceeded) << "until it is moved";
  p.server.write("the other direction works");
  p.server.set_read_deadline({});
  EXPECT_EQ(p.server.read({&c, 1}), 1u);
  EXPECT_TRUE(is_timeout(errc::deadline_exceeded));
}

WEFT_NET_TEST(Tcp, TimedOutWriteSaysHowMuchItSent) {
  tcp_pair p = connect_pair();
  const std::string data = pattern(30'000'000);
  std::size_t written = 0;
  auto writer = spawn([&] { return p.client.try_write(data, &written).error(); });
  EXPECT_TRUE(parked());  // all buffers are full
  p.client.set_write_deadline(soon());
  EXPECT_EQ(writer.join(), errc::deadline_exceeded);
  EXPECT_GT(written, 0u);
  EXPECT_LT(written, data.size());
  p.client.close();
  EXPECT_TRUE(read_all(p.server, 1 << 16) == data.substr(0, written));
}

WEFT_NET_TEST(Tcp, CloseWakesReaderWriterAndAcceptor) {
  tcp_listener l = listen("tcp", "127.0.0.1:0");
  auto acceptor = spawn([&] { return l.try_accept().error(); });
  tcp_pair p = connect_pair();
  char c;
  auto reader = spawn([&] { return p.server.try_read({&c, 1}).error(); });
  auto writer = spawn([&] { return p.server.try_write(std::string(30'000'000, 'x')).error(); });
  EXPECT_TRUE(parked(3));
  EXPECT_TRUE(p.server.close());
  EXPECT_TRUE(l.close());
  EXPECT_EQ(reader.join(), errc::closed);
  EXPECT_EQ(writer.join(), errc::closed);
  EXPECT_EQ(acceptor.join(), errc::closed);
}

WEFT_NET_TEST(Tcp, AcceptDeadlineAndAcceptNow) {
  tcp_listener l = listen("tcp", "127.0.0.1:0");
  EXPECT_EQ(l.try_accept_now().error(), boost::system::errc::resource_unavailable_try_again);
  l.set_deadline(soon());
  EXPECT_EQ(l.try_accept().error(), errc::deadline_exceeded);
  l.set_deadline({});
  tcp_conn c = dial(l.local_address().to_string());
  EXPECT_TRUE(l.try_accept());
}

// -- many

WEFT_NET_TEST(Tcp, SixtyFourConnectionsEcho) {
  constexpr int connections = 64, rounds = 50;
  tcp_listener l = listen("tcp", "127.0.0.1:0");
  auto server = spawn([&] {
    for (;;) {
      result<tcp_conn> c = l.try_accept();
      if (!c) return;
      go([conn = std::move(*c)]() mutable {
        char buffer[256];
        while (result<std::size_t> n = conn.try_read(buffer)) conn.write({buffer, *n});
      });
    }
  });
  std::vector<join_handle<int>> clients;
  for (int i = 0; i < connections; ++i) {
    clients.push_back(spawn([&, i] {
      tcp_conn c = dial(l.local_address().to_string());
      int good = 0;
      for (int r = 0; r < rounds; ++r) {
        const std::string sent = pattern(64, static_cast<unsigned>(i * rounds + r));
        std::string got(sent.size(), '\0');
        c.write(sent);
        c.read_full(got);
        good += got == sent;
      }
      return good;
    }));
  }
  for (auto& c : clients) EXPECT_EQ(c.join(), rounds);
  l.close();
  server.join();
}

WEFT_NET_TEST(Tcp, SeveralAcceptorsShareAListener) {
  tcp_listener l = listen("tcp", "127.0.0.1:0");
  std::atomic<int> accepted{0};
  std::vector<join_handle<void>> acceptors;
  for (int i = 0; i < 3; ++i) {
    acceptors.push_back(spawn([&] {
      while (l.try_accept()) accepted.fetch_add(1);
    }));
  }
  std::vector<tcp_conn> clients;
  for (int i = 0; i < 30; ++i) clients.push_back(dial(l.local_address().to_string()));
  EXPECT_TRUE(eventually([&] { return accepted.load() == 30; }));
  l.close();
  for (auto& a : acceptors) a.join();
}

WEFT_NET_TEST(Tcp, StormOfShortConnections) {
  tcp_listener l = listen("tcp", "127.0.0.1:0");
  auto server = spawn([&] {
    int n = 0;
    while (result<tcp_conn> c = l.try_accept()) {
      ++n;
      c->write("bye");
    }
    return n;
  });
  constexpr int tasks = 8;
  const int each = sized(100, 20);
  std::vector<join_handle<void>> clients;
  for (int i = 0; i < tasks; ++i) {
    clients.push_back(spawn([&] {
      for (int r = 0; r < each; ++r) {
        tcp_conn c = dial(l.local_address().to_string());
        EXPECT_EQ(read_all(c), "bye");
      }
    }));
  }
  for (auto& c : clients) c.join();
  l.close();
  EXPECT_EQ(server.join(), tasks * each);
}

WEFT_NET_TEST(Tcp, PlainThreadsMayUseConnections) {
  tcp_pair p = connect_pair();
  std::thread other([&] {
    char buffer[5];
    p.server.read_full(buffer);
    p.server.write({buffer, 5});
    char c;
    EXPECT_EQ(p.server.try_read({&c, 1}).error(), errc::closed);
  });
  p.client.write("hello");
  char back[5];
  p.client.read_full(back);
  EXPECT_EQ(std::string(back, 5), "hello");
  EXPECT_TRUE(parked());
  p.server.close();
  blocking([&] { other.join(); });
}

WEFT_NET_TEST(Tcp, RunningOutOfFileDescriptorsDelaysAccept) {
#if WEFT_ASAN
  GTEST_SKIP() << "UBSan probes memory through a pipe and takes a failing pipe() for bad memory";
#endif
  tcp_listener l = listen("tcp", "127.0.0.1:0");
  tcp_conn waiting = dial(l.local_address().to_string());
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  // No fd below the limit is free: take what is.
  rlimit low = limit;
  low.rlim_cur = static_cast<rlim_t>(open_fds() + 20);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  std::vector<int> taken;
  for (int fd; (fd = ::eventfd(0, EFD_CLOEXEC)) >= 0;) taken.push_back(fd);
  auto acceptor = spawn([&] { return l.try_accept(); });
  EXPECT_TRUE(eventually_waiting(sched::wait_reason::sleep, 1)) << "accept pauses";
  for (int fd : taken) ::close(fd);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  result<tcp_conn> c = acceptor.join();
  ASSERT_TRUE(c) << c.error().message();
  waiting.write("x");
  char x;
  EXPECT_EQ(c->read({&x, 1}), 1u);
}

// -- wait()

WEFT_NET_TEST(Wait, PipeAndDeadline) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
  EXPECT_EQ(wait(fds[1], events::out), events::out);
  EXPECT_EQ(try_wait(fds[0], events::in, soon()).error(), errc::deadline_exceeded);
  EXPECT_EQ(try_wait(fds[0], events::in, past()).error(), errc::deadline_exceeded);
  std::vector<join_handle<events>> waiters;
  for (int i = 0; i < 3; ++i)
    waiters.push_back(spawn([&] { return wait(fds[0], events::in, far()); }));
  EXPECT_TRUE(parked(3));
  ASSERT_EQ(::write(fds[1], "x", 1), 1);
  for (auto& w : waiters) EXPECT_EQ(w.join() & events::in, events::in);
  ::close(fds[1]);
  EXPECT_NE(wait(fds[0], events::in) & events::hang_up, events::none);
  ::close(fds[0]);
  EXPECT_EQ(try_wait(fds[0], events::in).error().value(), EBADF);
}

WEFT_NET_TEST(Wait, RegularFileIsReadyAndAConnectionMayBeWaitedForToo) {
  const int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(wait(file, events::in) & events::in, events::in);
  ::close(file);
  tcp_pair p = connect_pair();
  auto waiter = spawn([&] { return wait(p.server.native_handle(), events::in, far()); });
  char c;
  auto reader = spawn([&] { return p.server.try_read({&c, 1}).has_value(); });
  EXPECT_TRUE(parked(2));
  p.client.write("xy");
  EXPECT_TRUE(reader.join());
  EXPECT_EQ(waiter.join() & events::in, events::in);
}

}  // namespace
}  // namespace weft::net
