#pragma once
// Tasks that hold their processor without using the runtime, in every way that programs do.
#include <fcntl.h>
#include <linux/membarrier.h>
#include <netdb.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "tests/conformance/world.h"

namespace weft::test {

enum class hog_kind { busy_loop, pipe_read, sleep, libc_calls, page_faults, runtime_calls };
inline constexpr hog_kind all_hogs[] = {hog_kind::busy_loop,   hog_kind::pipe_read,
                                        hog_kind::sleep,       hog_kind::libc_calls,
                                        hog_kind::page_faults, hog_kind::runtime_calls};
inline const char* name_of(hog_kind k) {
  static constexpr const char* names[] = {"busy loop",   "read from a pipe",
                                          "sleep",       "calls to libc",
                                          "page faults", "calls of the runtime"};
  return names[static_cast<int>(k)];
}

// False where processors are retaken by signal; sleeps may see EINTR then.
inline bool has_membarrier() { return ::syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) > 0; }

// read() of one byte, by a task that does not declare it as blocking.
inline ssize_t read_byte(int fd, char& c) {
#if WEFT_TSAN
  // TSan holds signals back during a read, but not during a poll.
  pollfd p{fd, POLLIN, 0};
  while (!has_membarrier() && ::poll(&p, 1, -1) < 0 && errno == EINTR) {
  }
#endif
  return ::read(fd, &c, 1);
}

// Hogs of one kind; stop() ends them. The object is to outlive them.
class hogs {
 public:
  explicit hogs(hog_kind kind) : kind_(kind) { EXPECT_EQ(::pipe2(fds_, O_CLOEXEC), 0); }
  ~hogs() {
    ::close(fds_[0]);
    ::close(fds_[1]);
  }
  hogs(const hogs&) = delete;

  // The body of a hogging task.
  void hold() {
    ++holding_;
    switch (kind_) {
      case hog_kind::busy_loop:
        while (!stop_.load(std::memory_order_relaxed)) {
#if WEFT_TSAN
          // Signals reach a thread under TSan only in calls that it intercepts.
          ::sched_yield();
#endif
        }
        break;
      case hog_kind::pipe_read: {
        char c = 0;
        if (read_byte(fds_[0], c) < 0) ++interrupted_;
        break;
      }
      case hog_kind::sleep:
        while (!stop_.load(std::memory_order_relaxed)) {
          timespec pause{0, 15'000'000};
          if (::nanosleep(&pause, nullptr) != 0 && has_membarrier()) ++interrupted_;
        }
        break;
      case hog_kind::libc_calls:
        while (!stop_.load(std::memory_order_relaxed)) {
          addrinfo hints{};
          hints.ai_flags = AI_NUMERICHOST;
          addrinfo* found = nullptr;
          if (::getaddrinfo("127.0.0.1", "80", &hints, &found) == 0) ::freeaddrinfo(found);
          auto block = std::make_unique<char[]>(5000);
          std::memset(block.get(), 1, 5000);
          bytes_ += block[4999];
        }
        break;
      case hog_kind::page_faults:
        while (!stop_.load(std::memory_order_relaxed)) {
          constexpr size_t size = size_t{4} << 20;
          void* fresh =
              ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
          if (fresh == MAP_FAILED) continue;
          std::memset(fresh, 1, size);
          bytes_ += static_cast<char*>(fresh)[size - 1];
          ::munmap(fresh, size);
        }
        break;
      case hog_kind::runtime_calls:
        while (!stop_.load(std::memory_order_relaxed)) bytes_ += this_task::id() != 0;
        break;
    }
    --holding_;
  }

  int holding() const { return holding_; }

  void stop() {
    stop_ = true;
    std::string ends(64, 'x');
    EXPECT_EQ(::write(fds_[1], ends.data(), ends.size()), 64);
  }

  // System calls that a signal cut short.
  int interrupted() const { return interrupted_; }

 private:
  hog_kind kind_;
  int fds_[2] = {-1, -1};
  std::atomic<bool> stop_{false};
  std::atomic<int> holding_{0}, interrupted_{0};
  std::atomic<int64_t> bytes_{0};
};

}  // namespace weft::test
