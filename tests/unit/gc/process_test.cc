// The collector and the process: nothing exists before the first object, deadlocks are still found,
// a forked child allocates without collecting, and wrong settings say so.
#include <sys/wait.h>
#include <unistd.h>
#include <weft/gc/gc.h>
#include <weft/test.h>
#include <weft/weft.h>

#include <cstdlib>
#include <stdexcept>

#include "gc/heap.h"
#include "scheduler/thread.h"
#include "tests/unit/gc/heap_world.h"

namespace weft::test {
namespace {

int collectors() {
  int n = 0;
  sched::for_each_thread(
      [](sched::thread* th, void* arg) {
        if (std::string_view(th->role) == "collector") ++*static_cast<int*>(arg);
      },
      &n);
  return n;
}

[[noreturn]] void exits_well_without_a_heap() {
  weft::run([] {
    chan<int> c(0);
    go([&] { c.send(1); });
    c.recv();
    gc::collect();  // nothing to collect
  });
  const bool nothing = !gc::g_heap_exists && collectors() == 0 && gc::g_cage.pages == 0;
  std::fprintf(stderr, nothing ? "nothing was made\n" : "there is a heap\n");
  std::exit(0);
}

TEST(Process, NothingExistsBeforeTheFirstObject) {
  EXPECT_EXIT(exits_well_without_a_heap(), testing::ExitedWithCode(0), "nothing was made");
}

TEST(Process, OneCollector) {
  weft::run([] {
    gc::make<node>();
    gc::collect();
    EXPECT_EQ(collectors(), 1);
  });
}

TEST(Process, DeadlocksAreStillFound) {
  EXPECT_EXIT(weft::run([] {
                for (int i = 0; i < 100'000; ++i) gc::make<node>();
                gc::collect();
                chan<int> c(0);
                c.recv();
              }),
              testing::ExitedWithCode(2), "all tasks are asleep - deadlock!");
}

TEST(Process, CollectingIsNoDeadlock) {
  for (int procs : {1, 2}) {
    weft::run(weft::options{.max_procs = procs}, [] {
      gc::make<node>();
      for (int i = 0; i < 200; ++i) gc::collect();
    });
  }
}

TEST(Process, CollectBeforeAndAfterRun) {
  gc::root<node> n(gc::make<node>());
  gc::collect();
  weft::run([&] { n->value = 5; });
  gc::collect();
  EXPECT_EQ(n->value, 5);
}

TEST(Process, DirectedWorldsCollectToo) {
  weft::test::run([] {
    node* n = gc::make<node>();
    n->value = 3;
    auto t = spawn([n] {
      this_task::sleep_for(std::chrono::hours(1));
      gc::collect();
      return n->value;
    });
    gc::collect();
    EXPECT_EQ(t.join(), 3);
  });
}

TEST(Process, AForkedChildAllocates) {
  weft::run([] {
    node* before = gc::make<node>();
    before->value = 9;
    const pid_t child = ::fork();
    if (child == 0) {
      int64_t sum = 0;
      for (int i = 0; i < 300'000; ++i) {
        node* n = gc::make<node>();
        n->value = 1;
        sum += n->value;
      }
      gc::collect();
      ::_exit(sum == 300'000 && before->value == 9 ? 7 : 1);
    }
    int status = 0;
    blocking([&] { ::waitpid(child, &status, 0); });
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 7);
  });
}

TEST(Process, SettingsAreChecked) {
  EXPECT_THROW(gc::set_percent(0), std::invalid_argument);
  EXPECT_THROW(gc::set_percent(1'000'001), std::invalid_argument);
  const int before = gc::set_percent(50);
  EXPECT_EQ(gc::set_percent(before), 50);
  const int64_t limit = gc::set_memory_limit(int64_t{1} << 40);
  EXPECT_EQ(gc::set_memory_limit(-1), int64_t{1} << 40);
  gc::set_memory_limit(limit);
}

[[noreturn]] void with(const char* variable, const char* value) {
  ::setenv(variable, value, 1);
  weft::run([] { gc::make<node>(); });
  std::exit(0);
}

TEST(Process, TheEnvironmentIsChecked) {
  EXPECT_EXIT(with("WEFT_GC", "fast"), testing::ExitedWithCode(2),
              "WEFT_GC: \"fast\" is not known");
  EXPECT_EXIT(with("WEFT_GC", "0"), testing::ExitedWithCode(2), "a percentage from 1 to 1000000");
  EXPECT_EXIT(with("WEFT_GC_STRESS", "alloc:x"), testing::ExitedWithCode(2), "WEFT_GC_STRESS");
  EXPECT_EXIT(with("WEFT_MEMLIMIT", "12parsec"), testing::ExitedWithCode(2), "KiB, MiB, GiB");
  EXPECT_EXIT(with("WEFT_GC", "150,verify=1"), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(with("WEFT_MEMLIMIT", "512MiB"), testing::ExitedWithCode(0), "");
}

TEST(Process, FreeMemoryGoesBack) {
  weft::run([] {
    elsewhere([] {
      for (int i = 0; i < 64; ++i) gc::make_array<char>(1 << 20)[7] = 1;
    });
    gc::free_os_memory();
    EXPECT_LT(gc::stats().heap_free_bytes, size_t{4} << 20);
    // And can be used again.
    auto* a = gc::make_array<int64_t>(1 << 20);
    for (int i = 0; i < 1 << 20; ++i) ASSERT_EQ(a[i], 0);
  });
}

}  // namespace
}  // namespace weft::test
