// Children of a process whose runtime runs: exec works, using the runtime is refused.
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/mutex.h>
#include <weft/wait_group.h>

#include <atomic>
#include <thread>

#include "tests/conformance/world.h"

extern char** environ;

namespace weft {
namespace {

// Exit status of the child, or -1 if a signal killed it.
int status_of_child(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int posix_spawn_true() {
  char program[] = "/bin/true";
  char* argv[] = {program, nullptr};
  pid_t child;
  if (::posix_spawn(&child, program, nullptr, nullptr, argv, environ) != 0) return -1;
  return status_of_child(child);
}

int fork_and_exec() {
  pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/true", "true", nullptr);
    ::_exit(9);
  }
  return status_of_child(child);
}

WEFT_WORLD_TEST(Fork, FollowedByExecWorksUnderLoad) {
  std::atomic<bool> stop{false};
  chan<int> c(4);
  wait_group load;
  for (int i = 0; i < 4; ++i) {
    load.go([&] {
      while (!stop) {
        c.try_send(1);
        c.try_recv();
        this_task::yield();
      }
    });
  }
  wait_group wg;
  for (int i = 0; i < test::sized(6, 2); ++i) {
    wg.go([] { EXPECT_EQ(fork_and_exec(), 0); });
    wg.go([] { EXPECT_EQ(blocking([] { return fork_and_exec(); }), 0); });
    wg.go([] { EXPECT_EQ(posix_spawn_true(), 0); });
    wg.go([] { EXPECT_EQ(::system("true"), 0); });
  }
  wg.wait();
  stop = true;
  load.wait();
}

constexpr const char* refusal =
    "^fatal error: the runtime was used in a forked child process; only fork followed by exec or "
    "_exit is supported\n$";

// Runs `use` in a forked child of a task and exits with how the child ended.
template <class F>
void in_child_of_a_task(F use) {
  run([&] {
    chan<int> c(1);
    pid_t child = ::fork();
    if (child == 0) {
      use(c);
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ::_exit(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? 77 : 1);
  });
}

TEST(Fork, AChildThatUsesTheRuntimeIsRefused) {
  auto refused = testing::ExitedWithCode(77);
  EXPECT_EXIT(in_child_of_a_task([](chan<int>& c) { c.send(1); }), refused, refusal);
  EXPECT_EXIT(in_child_of_a_task([](chan<int>&) { go([] {}); }), refused, refusal);
  EXPECT_EXIT(in_child_of_a_task([](chan<int>&) { this_task::yield(); }), refused, refusal);
#if !WEFT_TSAN  // it forbids threads in such a child
  EXPECT_EXIT(in_child_of_a_task([](chan<int>&) { std::thread([] { go([] {}); }).join(); }),
              refused, refusal);
  EXPECT_EXIT(in_child_of_a_task([](chan<int>&) { std::thread([] { run([] {}); }).join(); }),
              refused, refusal);
#endif
}

TEST(Fork, BeforeTheFirstRunAChildMayRun) {
  EXPECT_EXIT(
      {
        pid_t child = ::fork();
        if (child == 0) ::_exit(run([] { return spawn([] { return 5; }).join(); }));
        ::_exit(status_of_child(child));
      },
      testing::ExitedWithCode(5), "");
}

}  // namespace
}  // namespace weft
