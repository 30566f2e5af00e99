// The descriptor protocol: readiness, deadlines, close and starters, one by one and racing.
#include "net/descriptor.h"

#include <poll.h>

#include <random>
#include <vector>

#include "base/clock.h"
#include "net/poller.h"
#include "tests/unit/net/net_world.h"

namespace weft::net {
namespace {

using namespace weft::test;

// A descriptor on one end of a socket pair; the other end is a plain fd.
class pair_end {
 public:
  pair_end() {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    peer_ = fds[1];
    d_ = descriptor::open(fds[0], {}).value();
  }
  ~pair_end() {
    d_->destroy();
    if (peer_ >= 0) ::close(peer_);
  }
  pair_end(const pair_end&) = delete;

  descriptor& operator*() const { return *d_; }
  descriptor* operator->() const { return d_; }

  void send(int bytes) const {
    const std::string data(static_cast<size_t>(bytes), 'x');
    EXPECT_EQ(::send(peer_, data.data(), data.size(), MSG_NOSIGNAL), bytes);
  }
  // The same while the other end may be closing.
  void try_send() const { static_cast<void>(::send(peer_, "x", 1, MSG_NOSIGNAL)); }
  // Reads what is there; -1 if the descriptor is closed, whose fd may be another file's by now.
  ssize_t drain() const {
    descriptor_use use(*d_);
    if (use.error()) return -1;
    char buffer[4096];
    return ::recv(d_->fd(), buffer, sizeof buffer, 0);
  }
  void hang_up() {
    ::close(peer_);
    peer_ = -1;
  }

 private:
  descriptor* d_;
  int peer_;
};

error_code wait_in(descriptor& d) {
  descriptor_use use(d, direction::in);
  if (use.error()) return use.error();
  return d.wait(direction::in);
}

// Waits until a full socket takes a byte.
error_code wait_out(const pair_end& e) {
  descriptor_use use(*e, direction::out);
  const std::string much(1 << 16, 'x');
  while (::send(e->fd(), much.data(), much.size(), MSG_NOSIGNAL) > 0) {
  }
  for (;;) {
    if (error_code error = e->wait(direction::out)) return error;
    if (::send(e->fd(), "x", 1, MSG_NOSIGNAL) == 1) return {};
  }
}

bool parked(int n = 1) { return eventually_waiting(sched::wait_reason::io_wait, n); }

int64_t in_ns(std::chrono::nanoseconds d) { return base::now_ns() + d.count(); }

WEFT_NET_TEST(Descriptor, ReadinessBeforeTheWaitIsRemembered) {
  pair_end e;
  e.send(1);
  EXPECT_FALSE(wait_in(*e));
  EXPECT_EQ(e.drain(), 1);
}

WEFT_NET_TEST(Descriptor, EdgeEndsAWait) {
  pair_end e;
  auto waiting = spawn([&] { return wait_in(*e); });
  EXPECT_TRUE(parked());
  e.send(1);
  EXPECT_FALSE(waiting.join());
}

WEFT_NET_TEST(Descriptor, EdgeAfterTheReadinessWasTakenIsKept) {
  pair_end e;
  e.send(1);
  EXPECT_FALSE(wait_in(*e));
  EXPECT_EQ(e.drain(), 1);
  e.send(1);  // between the operation and the next wait
  EXPECT_FALSE(wait_in(*e));
}

WEFT_NET_TEST(Descriptor, HangUpIsRemembered) {
  pair_end e;
  e.send(3);
  e.hang_up();
  EXPECT_FALSE(wait_in(*e));
  EXPECT_TRUE(eventually([&] { return e->hung_up(); }));
  EXPECT_EQ(e.drain(), 3);
}

WEFT_NET_TEST(Descriptor, CloseWakesBothDirections) {
  pair_end e;
  auto reader = spawn([&] { return wait_in(*e); });
  auto writer = spawn([&] { return wait_out(e); });
  EXPECT_TRUE(parked(2));
  EXPECT_TRUE(e->close());
  EXPECT_EQ(reader.join(), errc::closed);
  EXPECT_EQ(writer.join(), errc::closed);
  EXPECT_FALSE(e->close());
  EXPECT_EQ(wait_in(*e), errc::closed);
}

WEFT_NET_TEST(Descriptor, FdStaysOpenUntilTheLastUserHasLeft) {
  pair_end e;
  const int fd = e->fd();
  ASSERT_FALSE(e->enter());
  EXPECT_TRUE(e->close());
  EXPECT_FALSE(e->is_open());
  EXPECT_GE(::fcntl(fd, F_GETFD), 0);
  e->leave();
  EXPECT_LT(::fcntl(fd, F_GETFD), 0);
}

WEFT_NET_TEST(Descriptor, ReadersTakeTurnsInOrder) {
  pair_end e;
  std::vector<int> order;
  std::vector<join_handle<void>> readers;
  ASSERT_FALSE(e->enter(direction::in));
  for (int i = 0; i < 5; ++i) {
    readers.push_back(spawn([&, i] {
      ASSERT_FALSE(e->enter(direction::in));
      order.push_back(i);  // guarded by the direction
      e->leave(direction::in);
    }));
    EXPECT_TRUE(parked(i + 1));
  }
  e->leave(direction::in);
  for (auto& r : readers) r.join();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

WEFT_NET_TEST(Descriptor, CloseReachesThoseWhoWaitTheirTurn) {
  pair_end e;
  std::vector<join_handle<error_code>> readers;
  for (int i = 0; i < 4; ++i) readers.push_back(spawn([&] { return wait_in(*e); }));
  EXPECT_TRUE(parked(4));
  EXPECT_TRUE(e->close());
  for (auto& r : readers) EXPECT_EQ(r.join(), errc::closed);
}

WEFT_NET_TEST(Descriptor, PastDeadlineFailsAtOnceAndUntilItIsMoved) {
  pair_end e;
  e.send(1);
  e->set_deadline(direction::in, base::now_ns() - 1);
  EXPECT_EQ(wait_in(*e), errc::deadline_exceeded);
  EXPECT_EQ(wait_in(*e), errc::deadline_exceeded);
  e->set_deadline(direction::in, no_deadline);
  EXPECT_FALSE(wait_in(*e));
}

WEFT_NET_TEST(Descriptor, DeadlineEndsAWaitOfItsDirectionOnly) {
  pair_end e;
  auto reader = spawn([&] { return wait_in(*e); });
  auto writer = spawn([&] { return wait_out(e); });
  EXPECT_TRUE(parked(2));
  e->set_deadline(direction::in, in_ns(5ms));
  EXPECT_EQ(reader.join(), errc::deadline_exceeded);
  EXPECT_TRUE(parked(1));
  e->close();
  EXPECT_EQ(writer.join(), errc::closed);
}

WEFT_NET_TEST(Descriptor, DeadlineMovedWhileParked) {
  for (auto first : {std::chrono::nanoseconds(60s), std::chrono::nanoseconds(20ms)}) {
    pair_end e;
    e->set_deadline(direction::in, in_ns(first));
    auto reader = spawn([&] { return wait_in(*e); });
    EXPECT_TRUE(parked());
    e->set_deadline(direction::in, in_ns(10ms));  // earlier than 60 s, later or earlier than 20 ms
    EXPECT_EQ(reader.join(), errc::deadline_exceeded);
  }
  pair_end e;
  e->set_deadline(direction::in, in_ns(60s));
  auto reader = spawn([&] { return wait_in(*e); });
  EXPECT_TRUE(parked());
  e->set_deadline(direction::in, base::now_ns() - 1);  // into the past
  EXPECT_EQ(reader.join(), errc::deadline_exceeded);
}

WEFT_NET_TEST(Descriptor, DeadlineMovedLaterOrClearedDoesNotFire) {
  for (bool clear : {false, true}) {
    pair_end e;
    e->set_deadline(direction::in, in_ns(10ms));
    auto reader = spawn([&] { return wait_in(*e); });
    e->set_deadline(direction::in, clear ? no_deadline : in_ns(60s));
    this_task::sleep_for(20ms);  // the old deadline passes
    EXPECT_TRUE(parked());
    e.send(1);
    EXPECT_FALSE(reader.join());
  }
}

WEFT_NET_TEST(Descriptor, EventsOfAnEarlierLifeReachNobody) {
  uint64_t old_tag;
  descriptor* old_record;
  {
    pair_end e;
    old_tag = e->tag();
    old_record = &*e;
  }
  pair_end e;
  ASSERT_EQ(&*e, old_record) << "the pool gives the last record back first";
  EXPECT_NE(e->tag(), old_tag);
  sched::task_list none;
  descriptor::deliver(old_tag, POLLIN | POLLHUP, none);
  EXPECT_TRUE(none.empty());
  EXPECT_FALSE(e->is_ready(direction::in));
  EXPECT_FALSE(e->hung_up());
}

WEFT_NET_TEST(Descriptor, DuplicateThatOutlivesCloseWakesNobody) {
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  descriptor* d = descriptor::open(fds[0], {}).value();
  const int copy = ::dup(fds[0]);
  d->destroy();  // without may_be_shared(): the registration of the open file stays
  {
    pair_end e;  // the same record
    auto reader = spawn([&] { return wait_in(*e); });
    EXPECT_TRUE(parked());
    static_cast<void>(::send(fds[1], "x", 1, MSG_NOSIGNAL));  // an edge on the old file
    this_task::sleep_for(5ms);
    EXPECT_TRUE(parked());
    e.send(1);
    EXPECT_FALSE(reader.join());
  }
  ::close(copy);
  ::close(fds[1]);
}

// -- starters

struct counted_starter {
  counted_starter() {
    s.start = [](void* self) { static_cast<counted_starter*>(self)->runs.fetch_add(1); };
    s.arg = this;
  }
  bool ran(int n) {
    return eventually([&] { return runs.load() == n; });
  }
  starter s;
  std::atomic<int> runs{0};
};

WEFT_NET_TEST(Starter, RunsOnceInATaskOfItsOwnWhenBytesArrive) {
  pair_end e;
  counted_starter c;
  ASSERT_TRUE(e->arm(&c.s));
  EXPECT_EQ(num_tasks(), 1);
  e.send(1);
  EXPECT_TRUE(c.ran(1));
  e.send(1);
  this_task::sleep_for(2ms);
  EXPECT_EQ(c.runs.load(), 1);
}

WEFT_NET_TEST(Starter, IsNotArmedOverReadiness) {
  pair_end e;
  counted_starter c;
  e.send(1);
  EXPECT_TRUE(eventually([&] { return e->is_ready(direction::in); }));
  EXPECT_FALSE(e->arm(&c.s));
  e->take_ready(direction::in);
  e->set_deadline(direction::in, base::now_ns() - 1);
  EXPECT_FALSE(e->arm(&c.s));
  e->set_deadline(direction::in, no_deadline);
  e->close();
  EXPECT_FALSE(e->arm(&c.s));
  EXPECT_EQ(c.runs.load(), 0);
}

WEFT_NET_TEST(Starter, RunsOnDeadlineCloseAndNudge) {
  {
    pair_end e;
    counted_starter c;
    e->set_deadline(direction::in, in_ns(5ms));
    ASSERT_TRUE(e->arm(&c.s));
    EXPECT_TRUE(c.ran(1));
    EXPECT_EQ(wait_in(*e), errc::deadline_exceeded);
  }
  {
    pair_end e;
    counted_starter c;
    ASSERT_TRUE(e->arm(&c.s));
    e->close();
    EXPECT_TRUE(c.ran(1));
  }
  {
    pair_end e;
    counted_starter c;
    ASSERT_TRUE(e->arm(&c.s));
    e->nudge(direction::in);
    EXPECT_TRUE(c.ran(1));
    e->nudge(direction::in);  // nothing armed
    ASSERT_TRUE(e->arm(&c.s));
    e->nudge(direction::in);
    EXPECT_TRUE(c.ran(2));
  }
}

// -- racing

// One task reads all that another sends, while a third moves the deadline about and a fourth
// nudges. Oracle: every byte is delivered once, and nobody waits when all is quiet.
void race_one(unsigned seed, int rounds) {
  std::mt19937 random(seed);
  pair_end e;
  std::atomic<bool> over{false};
  std::atomic<int> received{0};
  int sent = 0;
  auto reader = spawn([&] {
    for (;;) {
      descriptor_use use(*e, direction::in);
      if (use.error()) return use.error();
      if (error_code error = e->wait(direction::in)) {
        if (error == errc::closed) return error;
        continue;
      }
      ssize_t n = e.drain();
      if (n > 0) received += static_cast<int>(n);
      if (n == 4096) e->set_ready(direction::in);
    }
  });
  auto mover = spawn([&, r = std::mt19937(seed + 1)]() mutable {
    while (!over.load()) {
      switch (r() % 4) {
        case 0:
          e->set_deadline(direction::in, base::now_ns() - 1);
          break;
        case 1:
          e->set_deadline(direction::in, in_ns(std::chrono::microseconds(r() % 100)));
          break;
        case 2:
          e->set_deadline(direction::in, in_ns(60s));
          break;
        default:
          e->set_deadline(direction::in, no_deadline);
      }
      this_task::yield();
    }
    e->set_deadline(direction::in, no_deadline);
  });
  auto nudger = spawn([&] {
    while (!over.load()) {
      e->nudge(direction::in);
      this_task::yield();
    }
  });
  for (int i = 0; i < rounds; ++i) {
    const int n = static_cast<int>(random() % 3) + 1;
    sent += n;
    e.send(n);
    if (random() % 2 == 0) this_task::yield();
    if (random() % 8 == 0) this_task::sleep_for(std::chrono::microseconds(random() % 50));
  }
  over.store(true);
  mover.join();
  nudger.join();
  EXPECT_TRUE(eventually([&] { return received.load() >= sent; })) << "seed " << seed;
  EXPECT_TRUE(parked(1)) << "the reader must be waiting again, seed " << seed;
  EXPECT_EQ(received.load(), sent) << "seed " << seed;
  e->close();
  EXPECT_EQ(reader.join(), errc::closed);
}

WEFT_NET_TEST(DescriptorRaces, EveryByteOnceUnderMovingDeadlines) {
  for (unsigned seed = 1; seed <= static_cast<unsigned>(sized(40, 6)); ++seed) race_one(seed, 100);
}

// An edge, a deadline and a close come at about the same time, in any order.
WEFT_NET_TEST(DescriptorRaces, EdgeDeadlineAndCloseTogether) {
  std::mt19937 random(7);
  for (int round = 0; round < sized(600, 60); ++round) {
    pair_end e;
    auto reader = spawn([&] { return wait_in(*e); });
    auto edge = spawn([&] { e.try_send(); });
    auto deadline = spawn(
        [&] { e->set_deadline(direction::in, in_ns(std::chrono::microseconds(round % 30))); });
    if (random() % 4 != 0) this_task::yield();
    const bool closed = random() % 2 == 0;
    if (closed) e->close();
    const error_code result = reader.join();
    edge.join();
    deadline.join();
    EXPECT_TRUE(!result || result == errc::deadline_exceeded || (closed && result == errc::closed))
        << result.message();
  }
}

WEFT_NET_TEST(DescriptorRaces, StarterRunsExactlyOncePerArming) {
  std::mt19937 random(11);
  int armed = 0;
  counted_starter c;
  for (int round = 0; round < sized(600, 60); ++round) {
    pair_end e;
    auto edge = spawn([&] { e.try_send(); });
    auto nudger = spawn([&] { e->nudge(direction::in); });
    auto deadline = spawn(
        [&] { e->set_deadline(direction::in, in_ns(std::chrono::microseconds(round % 30))); });
    if (random() % 2 == 0) this_task::yield();
    armed += e->arm(&c.s);
    if (random() % 2 == 0) e->close();
    edge.join();
    nudger.join();
    deadline.join();
    // The edge has been sent and the deadline passes: something starts it.
    EXPECT_TRUE(c.ran(armed));
  }
}

// Records are recycled at once: users of one life must not disturb the next.
WEFT_NET_TEST(DescriptorRaces, CloseAndReuseUnderTraffic) {
  for (int round = 0; round < sized(300, 40); ++round) {
    auto e = std::make_unique<pair_end>();
    auto reader = spawn([&] {
      while (!wait_in(**e)) e->drain();
    });
    e->send(1);
    if (round % 3 == 0) this_task::yield();
    e->send(1);
    (*e)->close();
    reader.join();
    e.reset();
  }
}

}  // namespace
}  // namespace weft::net
