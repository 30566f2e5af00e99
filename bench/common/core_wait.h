#pragma once
// What the kernel, not the program, makes a thread wait. Linux only.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>

#include "bench/common/process.h"

namespace bench {

// How long the calling thread has waited for a core since it began, in ns: what another process
// takes is not a stall that the measured code has made.
class core_wait {
 public:
  core_wait() { restart(); }
  void restart() {
    tid_ = ::gettid();
    waited_ = read();
  }
  // Since restart(); 0 if the caller is on another thread by now.
  std::uint64_t since() const {
    if (::gettid() != tid_) return 0;
    const std::uint64_t now = read();
    return now > waited_ ? now - waited_ : 0;
  }

 private:
  static std::uint64_t read() {
    char text[128] = {};
    const int fd = ::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    const bool got = ::read(fd, text, sizeof text - 1) > 0;
    ::close(fd);
    unsigned long long ran = 0;
    unsigned long long waited = 0;
    return got && std::sscanf(text, "%llu %llu", &ran, &waited) == 2 ? waited : 0;
  }
  pid_t tid_ = 0;
  std::uint64_t waited_ = 0;
};

// The longest time between two looks at the clock, in ns.
struct stall {
  std::uint64_t wall = 0;
  std::uint64_t own = 0;  // less what the thread waited for a core meanwhile
};

// Looks at the clock until `running()` is false, and calls between() after each look.
template <class Running, class Between>
stall longest_stall_of_caller(Running running, Between between) {
  constexpr std::uint64_t look_closer = 50'000;
  constexpr std::uint64_t fresh_for = 1'000'000;
  stall longest;
  core_wait wait;
  std::uint64_t last = monotonic_ns();
  std::uint64_t restarted = last;
  while (running()) {
    between();
    const std::uint64_t now = monotonic_ns();
    const std::uint64_t gap = now - last;
    last = now;
    longest.wall = std::max(longest.wall, gap);
    if (gap > look_closer) longest.own = std::max(longest.own, gap - std::min(gap, wait.since()));
    if (gap > look_closer || now - restarted > fresh_for) {
      wait.restart();
      last = restarted = monotonic_ns();
    }
  }
  return longest;
}

}  // namespace bench
