// What a task must keep when it changes places with others: exceptions in flight, errno, a clean
// end of its stack for every unwinder.
#include "scheduler/context.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unwind.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/wait_group.h>

#include <atomic>
#include <cerrno>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "scheduler/park.h"
#include "tests/conformance/world.h"

extern "C" void weft_context_entry();
extern "C" void weft_task_main();

namespace weft::sched {
namespace {

// The location of errno may be cached by the compiler across a switch; a call that it cannot see
// through gets the present thread's.
[[gnu::noinline]] int read_errno() {
  asm volatile("");
  return errno;
}
[[gnu::noinline]] void write_errno(int e) {
  asm volatile("");
  errno = e;
}

TEST(Context, CaughtExceptionsBelongToTheirTask) {
  test::in_worlds([] {
    constexpr int tasks = 20;
    wait_group wg;
    std::atomic<int> right{0};
    for (int i = 0; i < tasks; ++i) {
      wg.go([&right, i] {
        try {
          try {
            throw std::runtime_error(std::to_string(i));
          } catch (...) {
            for (int k = 0; k < 5; ++k) this_task::yield();
            throw;
          }
        } catch (const std::runtime_error& e) {
          this_task::yield();
          if (e.what() == std::to_string(i)) ++right;
        }
      });
    }
    wg.wait();
    EXPECT_EQ(right.load(), tasks);
  });
}

// Yields in the middle of unwinding and notes what it sees there.
struct yields_when_destroyed {
  std::vector<int>* seen;
  ~yields_when_destroyed() {
    seen->push_back(std::uncaught_exceptions());
    this_task::yield();
    seen->push_back(std::uncaught_exceptions());
  }
};

TEST(Context, UncaughtCountBelongsToItsTask) {
  test::in_worlds([] {
    wait_group wg;
    constexpr int tasks = 8;
    std::vector<std::vector<int>> seen(tasks);
    for (size_t i = 0; i < tasks; ++i) {
      wg.go([&seen, i] {
        for (int round = 0; round < 3; ++round) {
          try {
            yields_when_destroyed y{&seen[i]};
            if (i % 2 == 0) throw 1;
          } catch (int) {
          }
          seen[i].push_back(std::uncaught_exceptions());
        }
      });
    }
    wg.wait();
    for (size_t i = 0; i < tasks; ++i) {
      int during = i % 2 == 0 ? 1 : 0;
      std::vector<int> expected;
      for (int round = 0; round < 3; ++round) expected.insert(expected.end(), {during, during, 0});
      EXPECT_EQ(seen[i], expected) << "task " << i;
    }
    EXPECT_EQ(std::uncaught_exceptions(), 0);
  });
}

// As with errno: the compiler may move a plain call over the switch.
[[gnu::noinline]] std::thread::id this_thread_id() {
  asm volatile("");
  return std::this_thread::get_id();
}

TEST(Context, RethrowAfterMigration) {
  test::in_world(4, [] {
    std::atomic<int> moved{0};
    std::atomic<int> right{0};
    // Runs until one task has really changed its thread within a catch block.
    EXPECT_TRUE(test::eventually([&] {
      wait_group wg;
      for (int i = 0; i < 16; ++i) {
        wg.go([&, i] {
          try {
            try {
              throw std::logic_error(std::to_string(i));
            } catch (...) {
              std::thread::id before = this_thread_id();
              blocking([] { std::this_thread::yield(); });
              this_task::yield();
              if (this_thread_id() != before) ++moved;
              throw;
            }
          } catch (const std::logic_error& e) {
            if (e.what() == std::to_string(i)) ++right;
          }
        });
      }
      wg.wait();
      EXPECT_EQ(right.exchange(0), 16);
      return moved.load() > 0;
    }));
  });
}

TEST(Context, ErrnoBelongsToItsTask) {
  test::in_worlds([] {
    wait_group wg;
    std::atomic<int> wrong{0};
    for (int i = 1; i <= 10; ++i) {
      wg.go([&wrong, i] {
        for (int round = 0; round < 50; ++round) {
          write_errno(i);
          this_task::yield();
          if (read_errno() != i) ++wrong;
        }
      });
    }
    wg.wait();
    EXPECT_EQ(wrong.load(), 0);
  });
}

TEST(Context, NewTasksStartWithErrnoZero) {
  test::in_world(1, [] {
    write_errno(EBADF);
    EXPECT_EQ(spawn([] { return read_errno(); }).join(), 0);
  });
}

struct backtrace {
  std::vector<uintptr_t> pcs;
  _Unwind_Reason_Code end = _URC_NO_REASON;
};

[[gnu::noinline]] backtrace capture() {
  backtrace b;
  b.end = _Unwind_Backtrace(
      [](_Unwind_Context* c, void* arg) {
        auto* into = static_cast<backtrace*>(arg);
        if (into->pcs.size() > 1000) return _URC_NORMAL_STOP;
        into->pcs.push_back(_Unwind_GetIP(c));
        return _URC_NO_REASON;
      },
      &b);
  return b;
}

[[gnu::noinline]] backtrace capture_below(int frames) {
  if (frames == 0) return capture();
  backtrace b = capture_below(frames - 1);
  asm volatile("");
  return b;
}

TEST(Context, UnwindersEndCleanlyAtTheEntry) {
  test::in_world(1, [] {
    for (int depth : {0, 3, 30}) {
      backtrace b = spawn([depth] { return capture_below(depth); }).join();
      EXPECT_EQ(b.end, _URC_END_OF_STACK);
      ASSERT_LT(b.pcs.size(), 100u);
      ASSERT_GT(b.pcs.size(), static_cast<size_t>(depth) + 1);
      uintptr_t last = b.pcs.back();
      if (last == 0) {  // libgcc reports the undefined return address as one more frame
        b.pcs.pop_back();
        last = b.pcs.back();
      }
#if defined(__x86_64__)
      auto entry = reinterpret_cast<uintptr_t>(&weft_context_entry);
      EXPECT_GT(last, entry);
      EXPECT_LT(last, entry + 16);
#endif
    }
  });
}

TEST(Context, RegistersOfAParkedTaskLieOnItsStack) {
  test::in_world(2, [] {
    chan<int> gate(0);
    go([gate] { gate.recv(); });
    EXPECT_TRUE(test::eventually_waiting(wait_reason::chan_receive, 1));
    int looked_at = 0;
    for_each_task(
        [](task& t, void* arg) {
          uint32_t word = 0;
          if (t.foreign || !claim(t, word)) return;
          if (reason_of(word) == wait_reason::chan_receive) {
            saved_registers r = registers_of(t.ctx);
            EXPECT_GE(r.rsp, reinterpret_cast<uintptr_t>(t.stk->lo));
            EXPECT_LT(r.rsp, reinterpret_cast<uintptr_t>(t.stk->hi));
            Dl_info info;
            EXPECT_NE(::dladdr(reinterpret_cast<void*>(r.rip), &info), 0);
            ++*static_cast<int*>(arg);
          }
          unclaim(t);
        },
        &looked_at);
    EXPECT_EQ(looked_at, 1);
    gate.send(1);
  });
}

// A claim keeps a task from starting to execute, however it is made runnable; the release lets it
// go on.
TEST(Context, ClaimedTaskDoesNotRunUntilReleased) {
  test::in_world(2, [] {
    chan<int> gate(0);
    std::atomic<bool> ran{false};
    go([&, gate] {
      gate.recv();
      ran = true;
    });
    EXPECT_TRUE(test::eventually_waiting(wait_reason::chan_receive, 1));
    static task* claimed = nullptr;
    claimed = nullptr;
    for_each_task(
        [](task& t, void*) {
          uint32_t word = 0;
          if (claimed != nullptr || t.foreign || !claim(t, word)) return;
          if (reason_of(word) == wait_reason::chan_receive)
            claimed = &t;
          else
            unclaim(t);
        },
        nullptr);
    ASSERT_NE(claimed, nullptr);
    uint32_t word = 0;
    EXPECT_FALSE(claim(*claimed, word)) << "claimed twice";
    gate.send(1);
    EXPECT_TRUE(
        test::eventually([] { return status_of(claimed->state.load()) == task_status::runnable; }));
    EXPECT_NE(claimed->state.load() & claim_bit, 0u);
    for (int i = 0; i < 1000; ++i) base::cpu_relax();
    EXPECT_FALSE(ran.load());
    unclaim(*claimed);
    EXPECT_TRUE(test::eventually([&] { return ran.load(); }));
  });
}

}  // namespace
}  // namespace weft::sched
