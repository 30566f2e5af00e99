#pragma once
// What the kernel says about a process: CPU time and memory. Linux only.

#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <string>

namespace bench {

inline std::uint64_t monotonic_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}

// CPU time of all threads of `pid` (0 = this process), dead ones included, in nanoseconds; 0 if
// there is no such process. The process CPU clock has no tick granularity, unlike /proc/PID/stat.
inline std::uint64_t process_cpu_ns(pid_t pid) {
  clockid_t clock{};
  timespec t{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0) return 0;
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}

// Resident pages plus page tables of `pid` (0 = this process) in bytes; 0 if unreadable. Page
// tables count because a stack class pays for its reservation there.
inline std::uint64_t resident_bytes(pid_t pid) {
  const std::string path =
      pid == 0 ? std::string("/proc/self/status") : "/proc/" + std::to_string(pid) + "/status";
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return 0;
  std::uint64_t total = 0;
  char line[256];
  while (std::fgets(line, sizeof line, file) != nullptr) {
    unsigned long long kib = 0;
    if (std::sscanf(line, "VmRSS: %llu kB", &kib) == 1 ||
        std::sscanf(line, "VmPTE: %llu kB", &kib) == 1) {
      total += kib * 1024;
    }
  }
  std::fclose(file);
  return total;
}

}  // namespace bench
