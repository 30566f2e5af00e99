// Spawning when there is no memory: the caller gets std::bad_alloc, and nothing has happened.
#include <gtest/gtest.h>
#include <weft/weft.h>

#include <array>
#include <atomic>
#include <new>
#include <thread>

#include "tests/conformance/world.h"

namespace {

std::atomic<bool> g_refuse{false};  // the forms of operator new that answer null

void* or_null(std::size_t n, std::align_val_t align) noexcept {
  if (g_refuse.load(std::memory_order_relaxed)) return nullptr;
  try {
    return ::operator new(n, align);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

}  // namespace

void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
  if (g_refuse.load(std::memory_order_relaxed)) return nullptr;
  try {
    return ::operator new(n);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void* operator new(std::size_t n, std::align_val_t align, const std::nothrow_t&) noexcept {
  return or_null(n, align);
}
void* operator new[](std::size_t n, std::align_val_t align, const std::nothrow_t&) noexcept {
  return or_null(n, align);
}

namespace {

struct refusal {
  refusal() { g_refuse = true; }
  ~refusal() { g_refuse = false; }
};

// Counts the copies of itself that live.
struct counted {
  static inline std::atomic<int> alive{0};
  counted() { ++alive; }
  counted(const counted&) { ++alive; }
  counted(counted&&) noexcept { ++alive; }
  ~counted() { --alive; }
};

template <size_t Bytes>
void refuse_a_closure_of() {
  weft::run([] {
    std::atomic<int> ran{0};
    const int64_t tasks_before = weft::num_tasks();
    counted c;
    std::array<char, Bytes> ballast{};
    auto body = [c, ballast, &ran] { ran += 1 + ballast[0]; };
    {
      refusal no_memory;
      // The free blocks that the processor keeps must be used up first.
      EXPECT_THROW(for (int i = 0; i < 1000; ++i) weft::go(body), std::bad_alloc);
    }
    while (weft::num_tasks() != tasks_before) weft::this_task::yield();
    const int ran_before = ran;
    EXPECT_EQ(counted::alive, 2);  // c and body's
    // The runtime is left as if nothing had been asked: it can be entered, parked in and spawned
    // from.
    auto after = weft::spawn(body);
    after.join();
    weft::this_task::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(ran, ran_before + 1);
  });
  EXPECT_EQ(counted::alive, 0);
}

TEST(SpawnMemory, AClosureThatNeedsABlockIsRefused) { refuse_a_closure_of<40>(); }
TEST(SpawnMemory, AClosureThatStaysInItsBlockIsRefused) { refuse_a_closure_of<4000>(); }

TEST(SpawnMemory, ATaskWithoutARecordIsRefused) {
  weft::test::in_world(1, [] {
    int spawned = 0;
    std::atomic<int> ran{0};
    const int64_t tasks_before = weft::num_tasks();
    auto spawn_until_refused = [&] {
      for (;; ++spawned) weft::go([&ran] { ++ran; });
    };
    {
      refusal no_memory;
      EXPECT_THROW(spawn_until_refused(), std::bad_alloc);
    }
    EXPECT_EQ(weft::num_tasks(), tasks_before + spawned - ran);
    while (weft::num_tasks() != tasks_before) weft::this_task::yield();
    EXPECT_EQ(ran, spawned);
    weft::go([&ran] { ++ran; });
    while (ran != spawned + 1) weft::this_task::yield();
  });
}

// Whoever counts the task that is not made does not wait for it.
TEST(SpawnMemory, GroupsDoNotWaitForATaskThatIsNotMade) {
  weft::run([] {
    std::array<char, 4000> ballast{};
    std::atomic<int> ran{0};
    auto body = [ballast, &ran] { ran += 1 + ballast[0]; };
    weft::wait_group wg;
    weft::task_group limited;
    limited.set_limit(1);
    {
      refusal no_memory;
      EXPECT_THROW(wg.go(body), std::bad_alloc);
      EXPECT_THROW(limited.go(body), std::bad_alloc);
      EXPECT_THROW(static_cast<void>(limited.try_go(body)), std::bad_alloc);
    }
    wg.wait();
    limited.go(body);  // its place was given back
    limited.wait();
    EXPECT_EQ(ran, 1);
  });
}

// From a thread that holds no processor.
TEST(SpawnMemory, AForeignThreadIsRefusedToo) {
  weft::run([] {
    std::atomic<int> ran{0};
    weft::blocking([&] {
      std::thread([&] {
        std::array<char, 4000> ballast{};
        refusal no_memory;
        const int64_t before = weft::num_tasks();
        EXPECT_THROW(weft::go([ballast, &ran] { ran += 1 + ballast[0]; }), std::bad_alloc);
        EXPECT_EQ(weft::num_tasks(), before);
      }).join();
    });
    EXPECT_EQ(ran, 0);
  });
}

}  // namespace
