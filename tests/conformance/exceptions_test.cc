// Exceptions and the primitives: what unwinding through them leaves behind.
#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/condition_variable.h>
#include <weft/mutex.h>
#include <weft/select.h>
#include <weft/wait_group.h>

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

WEFT_WORLD_TEST(Exceptions, DestructorsMayUseChannelsWhileUnwinding) {
  chan<int> c(0);
  struct sends_at_end {
    chan<int> c;
    ~sends_at_end() { c.send(std::uncaught_exceptions()); }
  };
  auto h = spawn([c] {
    sends_at_end s{c};
    throw std::runtime_error("x");
  });
  EXPECT_EQ(c.recv(), 1);
  EXPECT_THROW(h.join(), std::runtime_error);
}

WEFT_WORLD_TEST(Exceptions, ChainOfJoinsPassesTheFirstOneUp) {
  auto h = spawn([] {
    auto inner = spawn([] {
      auto innermost = spawn([]() -> int { throw std::out_of_range("deep"); });
      return innermost.join();
    });
    return inner.join();
  });
  EXPECT_THROW(h.join(), std::out_of_range);
}

WEFT_WORLD_TEST(Exceptions, FromSelectClausesLeaveTheChannelsUsable) {
  chan<std::unique_ptr<int>> c(1);
  c.send(std::make_unique<int>(1));
  EXPECT_THROW(select(on_recv(c, [](std::optional<std::unique_ptr<int>>) { throw 1; })), int);
  EXPECT_EQ(c.size(), 0u);
  EXPECT_THROW(select(on_default([] { throw 2; })), int);
  EXPECT_TRUE(c.try_send(std::make_unique<int>(2)));
}

WEFT_WORLD_TEST(Exceptions, PredicateOfAWaitKeepsTheLockHeld) {
  mutex m;
  condition_variable cv;
  std::unique_lock hold(m);
  EXPECT_THROW(cv.wait(hold, []() -> bool { throw 1; }), int);
  EXPECT_TRUE(hold.owns_lock());
  EXPECT_FALSE(m.try_lock());
}

WEFT_WORLD_TEST(Exceptions, InCatchBlockTheTaskMayWait) {
  chan<int> a(0);
  chan<int> b(0);
  auto h = spawn([=] {
    try {
      throw std::runtime_error("one");
    } catch (const std::runtime_error& e) {
      a.send(1);
      b.recv();
      return std::string(e.what());
    }
  });
  a.recv();
  try {
    throw std::logic_error("two");
  } catch (const std::logic_error& e) {
    b.send(1);
    EXPECT_EQ(h.join(), "one");
    EXPECT_STREQ(e.what(), "two");
  }
}

// `throw;` after the task has been parked, and perhaps moved, still means the exception at hand.
WEFT_WORLD_TEST(Exceptions, RethrownAfterWaitingInTheCatchBlock) {
  chan<int> gate(0);
  std::vector<join_handle<int>> handles;
  for (int i = 0; i < 50; ++i) {
    handles.push_back(spawn([gate, i]() -> int {
      try {
        try {
          throw i;
        } catch (...) {
          try {
            throw std::to_string(i);
          } catch (const std::string&) {
            gate.recv();
          }
          this_task::yield();
          throw;
        }
      } catch (int v) {
        return v;
      }
    }));
  }
  for (int i = 0; i < 50; ++i) gate.send(i);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(handles[static_cast<size_t>(i)].join(), i);
}

// An exception_ptr made in a task may be rethrown on any thread while its task still handles it.
WEFT_WORLD_TEST(Exceptions, RethrownOnOtherThreads) {
  chan<std::exception_ptr> out(0);
  chan<int> gate(0);
  auto thrower = spawn([=] {
    try {
      throw std::runtime_error("travels");
    } catch (const std::runtime_error& e) {
      out.send(std::current_exception());
      out.send(std::current_exception());
      gate.recv();
      return std::string(e.what());
    }
  });
  auto what_of = [out] {
    std::exception_ptr e = *out.recv();
    try {
      std::rethrow_exception(e);
    } catch (const std::exception& x) {
      return std::string(x.what());
    }
  };
  std::string on_thread;
  std::thread thread([&] { on_thread = what_of(); });
  EXPECT_EQ(spawn(what_of).join(), "travels");
  blocking([&] { thread.join(); });
  EXPECT_EQ(on_thread, "travels");
  gate.send(1);
  EXPECT_EQ(thrower.join(), "travels");
}

// A destructor that waits while unwinding, and handles another exception meanwhile.
WEFT_WORLD_TEST(Exceptions, HandledInADestructorThatWaits) {
  struct waits {
    chan<int> gate;
    ~waits() {
      try {
        gate.recv();
        throw std::logic_error("inner");
      } catch (const std::logic_error&) {
        gate.recv();
      }
    }
  };
  chan<int> gate(0);
  auto h = spawn([gate] {
    waits w{gate};
    throw std::out_of_range("outer");
  });
  gate.send(1);
  gate.send(2);
  EXPECT_THROW(h.join(), std::out_of_range);
  EXPECT_EQ(std::uncaught_exceptions(), 0);
}

WEFT_WORLD_TEST(Exceptions, ManyAtOnce) {
  wait_group wg;
  std::atomic<int> caught{0};
  for (int i = 0; i < 100; ++i) {
    wg.go([&, i] {
      for (int k = 0; k < 10; ++k) {
        try {
          blocking([&] {
            if (k % 2 == 0) throw i;
          });
          throw i;
        } catch (int v) {
          this_task::yield();
          if (v == i) ++caught;
        }
      }
    });
  }
  wg.wait();
  EXPECT_EQ(caught.load(), 1000);
}

}  // namespace
}  // namespace weft
