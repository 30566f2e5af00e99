#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/errno.h>
#include <weft/fenv.h>
#include <weft/task_local.h>
#include <weft/wait_group.h>

#include <cerrno>
#include <cfenv>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;

task_local<int> g_number;

// Notes its end in a list that the test owns.
struct noted {
  std::vector<std::string>* log = nullptr;
  std::string name;
  ~noted() {
    if (log != nullptr) log->push_back(name);
  }
};

WEFT_WORLD_TEST(TaskLocal, EveryTaskHasItsOwn) {
  g_number.get() = 1;
  wait_group wg;
  for (int i = 0; i < test::sized(200, 50); ++i) {
    wg.go([i] {
      EXPECT_EQ(g_number.get_if(), nullptr);  // also where the record had another task before
      EXPECT_EQ(*g_number, 0);
      *g_number = i;
      int* address = &*g_number;
      for (int k = 0; k < 5; ++k) {
        this_task::yield();
        EXPECT_EQ(*g_number, i);
        EXPECT_EQ(&*g_number, address);
      }
    });
  }
  wg.wait();
  EXPECT_EQ(*g_number, 1);
  g_number.reset();
  EXPECT_EQ(g_number.get_if(), nullptr);
}

WEFT_WORLD_TEST(TaskLocal, ValuesAreMadeWhenFirstAskedFor) {
  static int made = 0;
  made = 0;
  task_local<std::string> text([] {
    ++made;
    return std::string("made");
  });
  EXPECT_EQ(text.get_if(), nullptr);
  EXPECT_EQ(made, 0);
  EXPECT_EQ(*text, "made");
  EXPECT_EQ(text->size(), 4u);
  EXPECT_EQ(made, 1);
  EXPECT_EQ(text.get_or([] { return "other"; }), "made");
  EXPECT_EQ(text.emplace(3, 'x'), "xxx");
  text.reset();
  EXPECT_EQ(text.get_or([] { return "other"; }), "other");
  EXPECT_EQ(made, 1);

  task_local<int> failing([]() -> int { throw std::runtime_error("no value"); });
  EXPECT_THROW(failing.get(), std::runtime_error);
  EXPECT_EQ(failing.get_if(), nullptr);
}

WEFT_WORLD_TEST(TaskLocal, DestroyedNewestFirstBeforeJoinReturns) {
  task_local<noted> a;
  task_local<noted> b;
  task_local<noted> c;
  std::vector<std::string> log;
  spawn([&] {
    b.get().log = &log;
    b->name = "b";
    c.get().log = &log;
    c->name = "c";
    a.get().log = &log;
    a->name = "a";
    c.reset();
    c.get().log = &log;
    c->name = "c again";
    EXPECT_EQ(log, (std::vector<std::string>{"c"}));
  }).join();
  EXPECT_EQ(log, (std::vector<std::string>{"c", "c again", "a", "b"}));
}

// A destructor that waits, and makes another value where there was one before.
WEFT_WORLD_TEST(TaskLocal, DestructorsMayUseTheRuntime) {
  static task_local<int> other;
  struct waits {
    chan<int> to;
    ~waits() {
      if (to.is_nil()) return;
      to.send(1);
      this_task::sleep_for(100us);
      EXPECT_EQ(other.get_if(), nullptr);  // newer, so destroyed already
      *other = 5;
      to.send(2);
    }
  };
  static task_local<waits> key;
  chan<int> c(0);
  go([c] {
    key->to = c;
    *other = 4;
  });
  EXPECT_EQ(c.recv(), 1);
  EXPECT_EQ(c.recv(), 2);
}

WEFT_WORLD_TEST(TaskLocal, KeysComeAndGo) {
  auto alive = std::make_shared<int>(1);
  chan<int> gate(0);
  chan<int> started(0);
  auto key = std::make_unique<task_local<std::shared_ptr<int>>>();
  auto task = spawn([&, gate, started] {
    key->get() = alive;
    started.send(1);
    gate.recv();
  });
  started.recv();
  key.reset();
  EXPECT_EQ(alive.use_count(), 2);  // the task still has its value
  for (int i = 0; i < 100; ++i) {
    // The index is used again; the old value must not be taken for this key's.
    task_local<std::shared_ptr<int>> next;
    EXPECT_EQ(next.get_if(), nullptr);
    EXPECT_EQ(next.get(), nullptr);
    next.get() = alive;
    next.reset();
  }
  gate.send(1);
  task.join();
  EXPECT_EQ(alive.use_count(), 1);

  std::vector<std::unique_ptr<task_local<int>>> many;
  for (int i = 0; i < 1000; ++i) {
    many.push_back(std::make_unique<task_local<int>>());
    many.back()->get() = i;
  }
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(many[static_cast<size_t>(i)]->get(), i);
}

WEFT_WORLD_TEST(TaskLocal, ForeignThreads) {
  task_local<noted> key;
  std::vector<std::string> log;
  std::thread t([&] {
    key.get().log = &log;
    key->name = "thread";
    EXPECT_EQ(*g_number, 0);
    *g_number = 3;
  });
  blocking([&] { t.join(); });
  EXPECT_EQ(log, (std::vector<std::string>{"thread"}));
  std::thread again([] { EXPECT_EQ(g_number.get_if(), nullptr); });
  blocking([&] { again.join(); });
}

TEST(TaskLocal, TheMainTasksValuesEndBeforeRunReturns) {
  task_local<noted> key;
  std::vector<std::string> log;
  run([&] {
    key.get().log = &log;
    key->name = "main";
  });
  EXPECT_EQ(log, (std::vector<std::string>{"main"}));
}

WEFT_WORLD_TEST(ThreadState, ErrnoBelongsToTheTask) {
  wait_group wg;
  for (int i = 1; i <= 8; ++i) {
    wg.go([i] {
      for (int k = 0; k < 50; ++k) {
        set_errno(i);
        this_task::yield();
        ASSERT_EQ(get_errno(), i);
      }
    });
  }
  wg.wait();
}

WEFT_WORLD_TEST(ThreadState, FenvGuardRestores) {
  int before = std::fegetround();
  {
    fenv_guard restore;
    std::fesetround(FE_UPWARD);
    EXPECT_EQ(std::fegetround(), FE_UPWARD);
  }
  EXPECT_EQ(std::fegetround(), before);
}

WEFT_WORLD_TEST(ThreadState, FenvGuardHoldsAcrossWaitsAndForNobodyElse) {
  wait_group wg;
  for (int i = 0; i < 8; ++i) {
    wg.go([i] {
      const bool changes = i % 2 == 0;
      std::optional<fenv_guard> restore;
      if (changes) {
        restore.emplace();
        std::fesetround(FE_UPWARD);
      }
      for (int k = 0; k < 50; ++k) {
        this_task::yield();
        ASSERT_EQ(std::fegetround(), changes ? FE_UPWARD : FE_TONEAREST);
      }
    });
  }
  wg.wait();
}

}  // namespace
}  // namespace weft
