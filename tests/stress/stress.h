#pragma once
// How long a stress test lasts, and its random numbers.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace weft::test {

// WEFT_STRESS_SECONDS, 2 unless set.
inline std::chrono::milliseconds stress_time() {
  const char* e = std::getenv("WEFT_STRESS_SECONDS");
  double seconds = e != nullptr ? std::atof(e) : 2;
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

// The seed of this run, printed so that a failure can be repeated with WEFT_STRESS_SEED.
inline uint32_t stress_seed() {
  const char* e = std::getenv("WEFT_STRESS_SEED");
  uint32_t seed =
      e != nullptr ? static_cast<uint32_t>(std::strtoul(e, nullptr, 10)) : std::random_device{}();
  std::printf("WEFT_STRESS_SEED=%u\n", seed);
  std::fflush(stdout);
  return seed;
}

// True until the time is over; cheap enough to ask in every round.
class stress_clock {
 public:
  explicit stress_clock(std::chrono::milliseconds d = stress_time())
      : end_(std::chrono::steady_clock::now() + d) {}
  bool running() const { return std::chrono::steady_clock::now() < end_; }

 private:
  std::chrono::steady_clock::time_point end_;
};

}  // namespace weft::test
