// Stacks on systems that give less, and the trimmer. The systems are child processes.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <weft/chan.h>
#include <weft/wait_group.h>

#include <cstddef>
#include <cstdio>
#include <iterator>
#include <stdexcept>
#include <vector>

#include "scheduler/park.h"
#include "scheduler/scheduler.h"
#include "scheduler/stack.h"
#include "scheduler/stack_memory.h"
#include "tests/conformance/world.h"
#include "tests/unit/scheduler/descend.h"

namespace weft::sched {
namespace {

using test::descend;

// Ends the child with status 1 and a line when something does not hold.
void demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  ::_exit(1);
}
#define DEMAND(condition) demand(condition, #condition)

// Tasks of both classes that descend, park and go on; as many as `n` at once.
void use_stacks(int n) {
  run({.max_procs = 2}, [n] {
    chan<int> gate(0);
    wait_group wg;
    wg.add(2 * n);
    for (int i = 0; i < n; ++i) {
      for (auto cls : {weft::stack_class::standard, weft::stack_class::compact}) {
        go({.stack = cls}, [&] {
          descend(size_t{24} << 10);
          gate.recv();
          descend(size_t{24} << 10);
          wg.done();
        });
      }
    }
    test::eventually_waiting(wait_reason::chan_receive, 2 * n);
    gate.close();
    wg.wait();
  });
}

void touch_below(const stack* s) { static_cast<volatile char*>(s->lo)[-1] = 1; }

// Makes the kernel look older: this system call with this third argument (-1: any) gets EINVAL.
void forbid(int number, int third) {
  const uint8_t other = third >= 0 ? 1 : 0;  // how far to jump when the argument differs
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(third), 0, other),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog filter{static_cast<unsigned short>(std::size(program)), program};
  DEMAND(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  DEMAND(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
}

const auto fine = ::testing::ExitedWithCode(0);
const auto killed = ::testing::KilledBySignal(SIGSEGV);

TEST(StackFallback, OldKernelGetsGuardsByMprotect) {
  const auto child0 = [] {
    forbid(SYS_madvise, 102);
    use_stacks(200);
    stack_stats s = stack_statistics();
    DEMAND(s.guards == guard_kind::mprotect);
    DEMAND((s.fallbacks & stacks_no_guard_install) != 0);
    DEMAND((s.fallbacks & stacks_unguarded) == 0);
    DEMAND(s.guarded_install == 0 && s.unguarded == 0);
    DEMAND(s.guarded_mprotect >= 400);
    ::_exit(0);
  };
  EXPECT_EXIT(child0(), fine, "^$");
  const auto child1 = [] {
    forbid(SYS_madvise, 102);
    ::signal(SIGSEGV, SIG_DFL);
    touch_below(acquire_stack(stack_class::compact));
    ::_exit(0);
  };
  EXPECT_EXIT(child1(), killed, "");
}

TEST(StackFallback, WithoutBatchAdviceStacksAreTrimmedOneByOne) {
  const auto child2 = [] {
    forbid(SYS_process_madvise, -1);
    stack* s = acquire_stack(stack_class::standard);
    for (char* at = s->lo; at < s->lo + 8 * 4096; at += 4096) *at = 1;
    const page_range ranges[] = {{s->lo, s->lo + 2 * 4096}, {s->lo + 4 * 4096, s->lo + 8 * 4096}};
    DEMAND(drop_pages(ranges, 2) == 6 * 4096);
    DEMAND(s->lo[0] == 0 && s->lo[2 * 4096] == 1);
    DEMAND((stack_statistics().fallbacks & stacks_no_batch_advice) != 0);
    ::_exit(0);
  };
  EXPECT_EXIT(child2(), fine, "^$");
}

TEST(StackFallback, WithoutAnyGuardEverySwitchChecksTheStackPointer) {
  const auto child3 = [] {
    ::setenv("WEFT_DEBUG", "stackguard=none", 1);
    use_stacks(100);
    stack_stats s = stack_statistics();
    DEMAND(s.unguarded >= 200);
    DEMAND(s.guards == guard_kind::none);
    ::_exit(0);
  };
  EXPECT_EXIT(child3(), fine, "^weft: task stacks beyond the first 0 have no guard page [^\n]*\n$");
  if (test::sanitized) GTEST_SKIP() << "the address sanitizer sees the neighbour's frames first";
  const auto child4 = [] {
    ::setenv("WEFT_DEBUG", "stackguard=none", 1);
    run({.max_procs = 1}, [] {
      // Its neighbour below is mapped, so nothing faults.
      chan<int> never(0);
      for (int i = 0; i < 8; ++i)
        go({.stack = weft::stack_class::compact}, [never] { chan<int>(never).recv(); });
      this_task::yield();
      struct deep {
        [[gnu::noinline]] static int down(size_t left, volatile char* above) {
          volatile char frame[1024];
          frame[0] = *above;
          if (left <= sizeof frame) {
            this_task::sleep_for(std::chrono::milliseconds(1));
            return frame[0];
          }
          return down(left - sizeof frame, frame) + frame[0];
        }
      };
      spawn({.stack = weft::stack_class::compact}, [] {
        volatile char zero = 0;
        return deep::down(stack_reserve(stack_class::compact) + 1024, &zero);
      }).join();
    });
    ::_exit(0);
  };
  EXPECT_EXIT(
      child4(), ::testing::ExitedWithCode(2),
      "fatal error: stack overflow: a task of stack class compact \\([0-9]+ bytes, no guard "
      "page\\)");
}

TEST(StackFallback, GuardsByMprotectKeepToTheirBudget) {
  if (test::sanitized) GTEST_SKIP() << "the thread sanitizer has room for 8128 stacks";
  const auto child5 = [] {
    ::setenv("WEFT_DEBUG", "stackguard=mprotect", 1);
    // A fifth of all mappings at most, so that the program and the allocator find some too.
    std::vector<stack*> held;
    for (int i = 0; i < 20'000; ++i) held.push_back(acquire_stack(stack_class::compact));
    stack_stats s = stack_statistics();
    DEMAND(s.guarded_mprotect + s.unguarded == 20'000);
    DEMAND(s.guarded_mprotect <= 65530 / 4);
    DEMAND(s.unguarded > 0);
    ::_exit(0);
  };
  EXPECT_EXIT(child5(), fine, "no guard page");
}

TEST(StackFallback, LimitedAddressSpaceGivesSmallerSlabsAndStacks) {
  if (test::sanitized) GTEST_SKIP() << "sanitizers reserve terabytes themselves";
  const auto child6 = [] {
    const rlim_t limit = rlim_t{1} << 30;
    rlimit space{limit, limit};
    DEMAND(::setrlimit(RLIMIT_AS, &space) == 0);
    use_stacks(500);
    stack_stats s = stack_statistics();
    DEMAND(s.reserved_bytes < limit / 2);
    DEMAND((s.fallbacks & stacks_limited_space) != 0);
    DEMAND(stack_reserve(stack_class::standard) == size_t{256} << 10);
    ::_exit(0);
  };
  EXPECT_EXIT(child6(), fine, "^weft: address space is limited [^\n]*\n$");
}

TEST(StackFallback, ExhaustedAddressSpaceNamesTheLimits) {
  if (test::sanitized) GTEST_SKIP() << "sanitizers reserve terabytes themselves";
  const auto child7 = [] {
    const rlim_t limit = rlim_t{256} << 20;
    rlimit space{limit, limit};
    DEMAND(::setrlimit(RLIMIT_AS, &space) == 0);
    for (;;) acquire_stack(stack_class::mib_8);
  };
  EXPECT_EXIT(child7(), ::testing::ExitedWithCode(2),
              "fatal error: cannot reserve 8192 KiB for a task stack .*class 8 MiB exist\\): check "
              "RLIMIT_AS");
}

TEST(StackFallback, StrictOvercommitCommitsSegmentsAsTheyAreNeeded) {
  const auto child8 = [] {
    ::setenv("WEFT_DEBUG", "stackcommit=strict", 1);
    use_stacks(100);
    stack_stats s = stack_statistics();
    DEMAND((s.fallbacks & stacks_strict_commit) != 0);
    DEMAND(stack_reserve(stack_class::standard) <= size_t{8} << 20);
    stack* one = acquire_stack(stack_class::gib_1);
    one->lo[0] = 1;
    one->hi[-1] = 1;
    // The slab's next slot belongs to nobody yet and is not charged.
    DEMAND(::access("/proc/self/maps", R_OK) == 0);
    unsigned char present = 0;
    const auto* slab = find_slab(reinterpret_cast<uintptr_t>(one));
    DEMAND(slab->slots > 1);
    DEMAND(::mincore(slab->base + slab->slot_size, 4096, &present) == 0 && present == 0);
    ::_exit(0);
  };
  EXPECT_EXIT(child8(), fine, "^weft: vm.overcommit_memory=2 charges [^\n]*\n$");
  const auto child9 = [] {
    ::setenv("WEFT_DEBUG", "stackcommit=strict", 1);
    ::signal(SIGSEGV, SIG_DFL);
    stack* one = acquire_stack(stack_class::gib_1);
    const auto* slab = find_slab(reinterpret_cast<uintptr_t>(one));
    static_cast<volatile char*>(slab->base)[slab->slot_size + (size_t{1} << 20)] = 1;
    ::_exit(0);
  };
  EXPECT_EXIT(child9(), killed, "");
}

TEST(StackFallback, LockedMemoryIsNotFilledAndNotTrimmed) {
  if (test::sanitized) GTEST_SKIP() << "sanitizers reserve terabytes, which would be locked";
  // Once by whoever may lock everything, else within the limit that is left to us.
  const auto child10 = [] {
    if (::mlockall(MCL_FUTURE) != 0) ::_exit(0);
    use_stacks(20);
    stack_stats s = stack_statistics();
    DEMAND(s.guards == guard_kind::mprotect);
    DEMAND((s.fallbacks & stacks_locked_memory) != 0);
    DEMAND(test::memory_in_use() < int64_t{1} << 30);
    stack* one = acquire_stack(stack_class::compact);
    one->lo[0] = 1;
    const page_range all{one->lo, one->lo + 4096};
    DEMAND(drop_pages(&all, 1) == 0);
    DEMAND(one->lo[0] == 1);
    ::_exit(0);
  };
  EXPECT_EXIT(
      child10(),
      [](int status) {
        // Without the privilege the fatal message names the limit.
        return WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2);
      },
      "^weft: memory is locked|RLIMIT_MEMLOCK|^$");
}

TEST(StackSize, IsRoundedUpToAClass) {
  for (auto [asked, cls] : {std::pair<size_t, stack_class>{4096, stack_class::compact},
                            {65536, stack_class::compact},
                            {65537, stack_class::kib_256},
                            {size_t{1} << 20, stack_class::mib_1},
                            {(size_t{1} << 20) + 1, stack_class::mib_8},
                            {size_t{64} << 20, stack_class::standard},
                            {size_t{65} << 20, stack_class::mib_256},
                            {size_t{1} << 30, stack_class::gib_1}})
    EXPECT_EQ(weft::detail::stack_class_for_size(asked), static_cast<uint8_t>(cls)) << asked;
}

TEST(StackSize, BadOnesAreRefusedWithTheLimits) {
  for (size_t bad : {size_t{1}, size_t{64}, size_t{4095}, (size_t{1} << 30) + 1, ~size_t{0}}) {
    try {
      weft::detail::stack_class_for_size(bad);
      ADD_FAILURE() << bad;
    } catch (const std::invalid_argument& e) {
      EXPECT_NE(std::string(e.what()).find(std::to_string(bad) + " bytes; it must be 0 or 4096 to "
                                                                 "1073741824 (1 GiB)"),
                std::string::npos)
          << e.what();
    }
  }
}

TEST(StackSize, ATaskDescendsAsDeepAsItAsked) {
  test::in_world(1, [] {
    for (size_t size : {size_t{256} << 10, size_t{1} << 20, size_t{8} << 20, size_t{256} << 20}) {
      // A frame is a little more than the kilobyte that it touches.
      size_t deep = std::min(size / 8 * 5, size_t{160} << 20);
      if (test::sanitized) deep = std::min(deep, size_t{1} << 20) / 4;
      EXPECT_EQ(spawn({.stack_size = size}, [deep] { return descend(deep); }).join(), deep / 1024);
    }
  });
}

// Bytes of this process's page tables and resident memory fall back when nobody uses them.
class Trimmer : public ::testing::Test {
 protected:
  void SetUp() override { g_trim_period_ns = 20'000'000; }
  void TearDown() override { g_trim_period_ns = 1'000'000'000; }
};

TEST_F(Trimmer, TakesBackWhatABurstOfTasksLeft) {
  if (test::sanitized) GTEST_SKIP() << "sanitizers keep shadow memory of their own";
  for (auto cls : {weft::stack_class::compact, weft::stack_class::standard}) {
    test::in_world(2, [cls] {
      const int n = 5'000;
      int64_t at_most = 0;
      {
        chan<int> gate(0);
        wait_group wg;
        wg.add(n);
        for (int i = 0; i < n; ++i)
          go({.stack = cls}, [&] {
            gate.recv();
            wg.done();
          });
        ASSERT_TRUE(test::eventually_waiting(wait_reason::chan_receive, n));
        // While all of them have a page at least: the trimmer may begin before the last has ended.
        // How much of their page tables comes back depends on which neighbours get cold together.
        at_most = test::memory_in_use() - int64_t{n} * 4096 * 9 / 10;
        gate.close();
        wg.wait();
      }
      EXPECT_TRUE(test::eventually([=] { return test::memory_in_use() < at_most; }))
          << test::memory_in_use() << " > " << at_most;
      EXPECT_TRUE(test::eventually(
          [=] { return stack_statistics().cold > static_cast<size_t>(n) * 9 / 10; }));
      // And cold ones are as good as new.
      EXPECT_EQ(spawn({.stack = cls}, [] { return descend(size_t{40} << 10); }).join(), 40u);
    });
  }
}

TEST_F(Trimmer, TakesBackWhatLiesBelowAParkedTask) {
  if (test::sanitized) GTEST_SKIP() << "sanitizers keep shadow memory of their own";
  test::in_world(2, [] {
    chan<int> gate(0);
    wait_group wg;
    const int n = 40;
    wg.add(n);
    const int64_t before = test::memory_in_use();
    const size_t trimmed_before = stack_statistics().trimmed_bytes;
    for (int i = 0; i < n; ++i)
      go([&] {
        uint64_t kept[64];
        for (uint64_t& k : kept) k = reinterpret_cast<uintptr_t>(&k);
        asm volatile("" : : "r"(kept) : "memory");
        descend(size_t{1} << 20);
        gate.recv();
        for (uint64_t& k : kept) EXPECT_EQ(k, reinterpret_cast<uintptr_t>(&k));
        EXPECT_EQ(descend(size_t{1} << 20), 1024u);
        wg.done();
      });
    ASSERT_TRUE(test::eventually_waiting(wait_reason::chan_receive, n));
    const int64_t touched = n * (int64_t{1} << 20);
    EXPECT_TRUE(test::eventually([=] {
      const size_t trimmed = stack_statistics().trimmed_bytes - trimmed_before;
      return trimmed > static_cast<size_t>(touched) &&
             test::memory_in_use() < before + touched / 10;
    }));
    gate.close();
    wg.wait();
  });
}

TEST(StackCooling, AStackIsColdOnlyAfterAWholePeriodWithoutUse) {
  // In a process without scheduler, and so without a trimmer: the periods are ours.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto child11 = [] {
    const auto cls = stack_class::mib_1;
    std::vector<stack*> held;
    for (int i = 0; i < 10; ++i) held.push_back(acquire_stack(cls));
    for (stack* s : held) release_stack(s);
    bool more = false;
    begin_cooling(cls);
    DEMAND(cool_free_stacks(cls, 64, more) == 0);
    for (int i = 0; i < 4; ++i) held[static_cast<size_t>(i)] = acquire_stack(cls);
    for (int i = 0; i < 4; ++i) release_stack(held[static_cast<size_t>(i)]);
    begin_cooling(cls);
    // Six were not touched, the oldest of the list; the four came back to its head.
    DEMAND(cool_free_stacks(cls, 4, more) == 4);
    DEMAND(more);
    DEMAND(cool_free_stacks(cls, 64, more) == 2);
    DEMAND(!more);
    DEMAND(stack_statistics().cold == 6);
    std::vector<stack*> again;
    for (int i = 0; i < 10; ++i) again.push_back(acquire_stack(cls));
    DEMAND(stack_statistics().cold == 0);
    for (stack* one : again) {
      one->lo[0] = 1;
      release_stack(one);
    }
    ::_exit(0);
  };
  EXPECT_EXIT(child11(), fine, "^$");
}

}  // namespace
}  // namespace weft::sched
