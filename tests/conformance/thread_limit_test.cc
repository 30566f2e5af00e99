// Thread exhaustion: the cap, and the kernel's own limits, end the program with a report that names
// them.
#include <gtest/gtest.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/wait_group.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <stdexcept>

#include "scheduler/runtime_control.h"
#include "tests/conformance/world.h"

namespace weft {
namespace {

// Tasks that block until the process ends, each on a thread of its own.
void block_threads(int n) {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) std::abort();
  for (int i = 0; i < n; ++i) {
    go([fd = fds[0]] {
      blocking([&] {
        char c;
        return ::read(fd, &c, 1);
      });
    });
    this_task::yield();
  }
  chan<int>{}.recv();
}

constexpr const char* at_20 =
    "runtime: program exceeds 20-thread limit\n.*options::max_threads, WEFT_MAXTHREADS or "
    "weft::set_max_threads(.|\n)*fatal error: thread exhaustion";

TEST(ThreadLimit, IsTenThousandAndCanBeChanged) {
  const int before = set_max_threads(0);
  EXPECT_EQ(before, 10'000);
  EXPECT_EQ(set_max_threads(500), before);
  EXPECT_EQ(set_max_threads(-1), 500);
  EXPECT_THROW(set_max_threads(1'000'001), std::invalid_argument);
  options o;
  o.max_threads = 700;
  run(o, [] { EXPECT_EQ(set_max_threads(0), 700); });
  run([] { EXPECT_EQ(set_max_threads(0), 700); });  // 0 leaves it as it is
  o.max_threads = -1;
  EXPECT_THROW(run(o, [] {}), std::invalid_argument);
  o.max_threads = 1'000'001;
  EXPECT_THROW(run(o, [] {}), std::invalid_argument);
  set_max_threads(before);
}

TEST(ThreadLimit, ExhaustionIsFatal) {
  EXPECT_EXIT(
      {
        options o;
        o.max_threads = 20;
        run(o, [] { block_threads(30); });
      },
      testing::ExitedWithCode(2), at_20);
  EXPECT_EXIT(
      {
        ::setenv("WEFT_MAXTHREADS", "20", 1);
        run([] { block_threads(30); });
      },
      testing::ExitedWithCode(2), at_20);
  // As in Go: a limit that the program exceeds already ends it at once.
  EXPECT_EXIT(run([] {
                go([] {
                  while (sched::worker_thread_count() < 21) this_task::yield();
                  set_max_threads(20);
                });
                block_threads(30);
              }),
              testing::ExitedWithCode(2), at_20);
}

TEST(ThreadLimit, ExactlyTheLimitIsEnough) {
  EXPECT_EXIT(
      {
        options o;
        o.max_procs = 2;
        o.max_threads = 12;
        run(o, [] {
          wait_group wg;
          for (int round = 0; round < 5; ++round) {
            std::atomic<int> here{0};
            for (int i = 0; i < 10; ++i) {
              wg.go([&] {
                blocking([&] {
                  ++here;
                  while (here < 10) ::usleep(100);
                });
              });
            }
            wg.wait();
          }
        });
        ::_exit(sched::worker_thread_count() <= 12 ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

TEST(ThreadLimit, WrongEnvironmentIsReported) {
  EXPECT_EXIT(
      {
        ::setenv("WEFT_MAXTHREADS", "many", 1);
        run([] {});
        ::_exit(set_max_threads(0) == 10'000 ? 0 : 1);
      },
      testing::ExitedWithCode(0), "WEFT_MAXTHREADS=many ignored: it must be a number from 1 to");
}

// clone fails with EAGAIN from here on, for all threads, as when RLIMIT_NPROC is reached.
void forbid_threads() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
    ::_exit(77);
}

TEST(ThreadLimit, KernelsRefusalNamesItsLimits) {
  EXPECT_EXIT(run([] {
                forbid_threads();
                block_threads(30);
              }),
              testing::ExitedWithCode(2),
              "fatal error: cannot start thread number [0-9]+: .*RLIMIT_NPROC.*kernel.threads-max"
              ".*pids.max");
}

}  // namespace
}  // namespace weft
