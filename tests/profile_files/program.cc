// What profile_files_test.py runs: a program that knows nothing of profiles, and ends in the way
// that its argument says.
#include <signal.h>
#include <unistd.h>
#include <weft/weft.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace {

[[gnu::noinline]] void burns_processor_time(std::chrono::milliseconds how_long) {
  const auto end = std::chrono::steady_clock::now() + how_long;
  while (std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 1000; ++i) asm volatile("");
  }
}

[[gnu::noinline]] void waits_for_ever(weft::chan<int> c) {
  c.recv();
  asm volatile("");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "";
  const int status = weft::run({.max_procs = 2}, [&] {
    static weft::chan<int> never(0);
    for (int i = 0; i < 3; ++i) weft::go([] { waits_for_ever(never); });
    burns_processor_time(std::chrono::milliseconds(300));
    if (how == "exit in a task") std::exit(5);
    if (how == "exception") weft::go([] { throw std::runtime_error("nobody catches this"); });
    if (how == "exception") weft::this_task::sleep_for(std::chrono::hours(1));
    if (how == "deadlock") never.recv();
    if (how == "quit") ::raise(SIGQUIT);
    if (how == "fork") {
      if (::fork() == 0) std::exit(0);
      return 0;
    }
    if (how == "signals" || how == "quit") {
      std::puts("ready");
      std::fflush(stdout);
      for (;;) burns_processor_time(std::chrono::milliseconds(10));
    }
    return 3;
  });
  return status;
}
