#include <gtest/gtest.h>
#include <weft/chan.h>
#include <weft/error.h>
#include <weft/task.h>
#include <weft/wait_group.h>

#include <array>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "tests/conformance/world.h"

namespace weft {
namespace {

WEFT_WORLD_TEST(Join, ReturnsTheResult) {
  EXPECT_EQ(spawn([] { return 42; }).join(), 42);
  EXPECT_EQ(*spawn([] { return std::make_unique<int>(7); }).join(), 7);
  EXPECT_EQ(spawn([] { return std::string(1000, 'x'); }).join().size(), 1000u);
  int ran = 0;
  spawn([&] { ++ran; }).join();
  EXPECT_EQ(ran, 1);
}

WEFT_WORLD_TEST(Join, RethrowsWhatTheTaskThrew) {
  auto h = spawn([]() -> int { throw std::runtime_error("from the task"); });
  try {
    h.join();
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& e) {
    EXPECT_STREQ(e.what(), "from the task");
  }
  EXPECT_FALSE(h.joinable());
  EXPECT_THROW(h.join(), panic_error);
}

WEFT_WORLD_TEST(Join, IsAllowedOncePerHandle) {
  join_handle<int> empty;
  EXPECT_FALSE(empty.joinable());
  EXPECT_THROW(empty.join(), panic_error);
  auto h = spawn([] { return 1; });
  auto moved = std::move(h);
  EXPECT_TRUE(moved.joinable());
  EXPECT_EQ(moved.join(), 1);
  EXPECT_THROW(moved.join(), panic_error);
}

WEFT_WORLD_TEST(Join, DoneTellsWithoutWaiting) {
  chan<int> gate(0);
  auto h = spawn([gate] { gate.recv(); });
  EXPECT_FALSE(h.done());
  gate.send(1);
  EXPECT_TRUE(test::eventually([&] { return h.done(); }));
  h.join();
}

WEFT_WORLD_TEST(Join, DroppedHandleDetaches) {
  std::atomic<int> ran{0};
  {
    auto h = spawn([&] { ++ran; });
  }
  EXPECT_TRUE(test::eventually([&] { return ran.load() == 1; }));
}

WEFT_WORLD_TEST(Join, FromAForeignThread) {
  auto h = spawn([] {
    this_task::yield();
    return 5;
  });
  int got = 0;
  std::atomic<bool> joined{false};
  std::thread t([&] {
    got = h.join();
    joined = true;
  });
  EXPECT_TRUE(test::eventually([&] { return joined.load(); }));
  t.join();
  EXPECT_EQ(got, 5);
}

// Closures of every size: inside the record, and on the heap beyond 64 bytes or with a strict
// alignment.
template <size_t Size>
void closure_of_size() {
  std::array<char, Size> data;
  data.fill('x');
  EXPECT_EQ(spawn([data] {
              size_t n = 0;
              for (char c : data) n += c == 'x' ? 1u : 0u;
              return n;
            }).join(),
            Size);
}

WEFT_WORLD_TEST(Spawn, CarriesClosuresOfAnySize) {
  closure_of_size<1>();
  closure_of_size<40>();
  closure_of_size<48>();
  closure_of_size<64>();
  closure_of_size<65>();
  closure_of_size<5000>();
  struct alignas(128) aligned {
    int v = 3;
  } a;
  EXPECT_EQ(spawn([a] { return reinterpret_cast<uintptr_t>(&a) % 128 == 0 ? a.v : -1; }).join(), 3);
}

WEFT_WORLD_TEST(Spawn, DestroysTheClosureWhenTheTaskEnds) {
  auto token = std::make_shared<int>(1);
  std::weak_ptr<int> alive = token;
  std::array<char, 100> ballast{};
  spawn([token] { return *token; }).join();
  spawn([token, ballast] { return *token + ballast[0]; }).join();
  go([token](int) {}, 1);
  token.reset();
  EXPECT_TRUE(test::eventually([&] { return alive.expired(); }));
}

WEFT_WORLD_TEST(Spawn, ArgumentsAreDecayedCopies) {
  std::string text = "before";
  chan<std::string> out(1);
  go([out](std::string s, int n) { out.send(s + std::to_string(n)); }, text, 7);
  text = "after";
  EXPECT_EQ(out.recv(), "before7");
}

TEST(Spawn, BeforeRunWaitsForTheRuntime) {
  EXPECT_EXIT(
      {
        static std::atomic<bool> early{false};
        go([] { early = true; });
        bool waited = !early.load();
        bool ran = false;
        run([&] { ran = test::eventually([] { return early.load(); }); });
        ::_exit(waited && ran ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

// A const capture cannot be moved from, so every place that the function passes through has a copy.
template <size_t Padding>
void leaves_no_copy_behind() {
  auto tracked = std::make_shared<int>(1);
  {
    const std::shared_ptr<int> fixed = tracked;
    std::array<char, Padding> padding{};
    spawn([fixed, padding] { static_cast<void>(padding); }).join();
    wait_group done;
    done.add(1);
    go([fixed, padding, &done] {
      static_cast<void>(padding);
      done.done();
    });
    done.wait();
  }
  EXPECT_TRUE(test::eventually([&] { return tracked.use_count() == 1; })) << tracked.use_count();
}

WEFT_WORLD_TEST(Spawn, LeavesNoCopyOfItsFunctionBehind) {
  leaves_no_copy_behind<1>();    // in the record
  leaves_no_copy_behind<24>();   // in a block
  leaves_no_copy_behind<200>();  // on the heap
}

}  // namespace
}  // namespace weft
