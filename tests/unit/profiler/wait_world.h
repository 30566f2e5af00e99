#pragma once
// Waits of known length, and what the profiles say of them. The truth is bracketed: a wait began
// between the moment before the call and the moment at which the test saw the task wait, and ended
// between the moments around the call that ended it. However busy the machine is, the profile has
// to lie in between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "profiler/wait_probe.h"
#include "profiler/wait_profile.h"
#include "tests/conformance/world.h"
#include "tests/unit/profiler/profile_check.h"
#include "tests/unit/profiler/profile_sums.h"

namespace wait_test {

// Calls f in a function by which its samples are found again.
template <int place, class F>
[[gnu::noinline]] void at(F&& f) {
  f();
  asm volatile("" ::: "memory");
}

// Computes, without a call into the runtime.
[[gnu::noinline]] inline void compute(int64_t ns) {
  for (const int64_t end = weft::base::true_now_ns() + ns; weft::base::true_now_ns() < end;) {
  }
}

}  // namespace wait_test

namespace weft::prof::test {

using sched::wait_reason;
using wait_test::at;
using wait_test::compute;
using weft::test::eventually_waiting;
using weft::test::in_world;
using namespace std::chrono_literals;

inline int64_t now() { return base::true_now_ns(); }

// Least and most that a profile may show.
struct bracket {
  int64_t least = 0;
  int64_t most = 0;
  void add(int64_t from_latest, int64_t to_earliest, int64_t from_earliest, int64_t to_latest) {
    least += to_earliest - from_latest;
    most += to_latest - from_earliest;
  }
};

// 5 % more in either direction than the test knows.
inline testing::Matcher<int64_t> within(const bracket& b) {
  return testing::AllOf(testing::Ge(b.least - b.least / 20), testing::Le(b.most + b.most / 20));
}
inline testing::Matcher<int64_t> within_percent(int64_t expected, int percent) {
  const int64_t slack = expected / 100 * percent;
  return testing::AllOf(testing::Ge(expected - slack), testing::Le(expected + slack));
}

inline std::string bytes_of(std::string_view name) {
  std::ostringstream out;
  pprof::lookup(name)->write_to(out, 0);
  return std::move(out).str();
}
inline std::string text_of(std::string_view name) {
  std::ostringstream out;
  pprof::lookup(name)->write_to(out, 1);
  return std::move(out).str();
}

struct sum {
  int64_t count = 0;
  int64_t ns = 0;
};

// Of the samples that go through at<place>() and, if given, have the label.
inline sum sum_at(std::string_view bytes, int place, std::string_view label = {}) {
  const pb::Profile p = decode_profile(bytes);
  const std::string function = "wait_test::at<" + std::to_string(place) + ",";
  sum s;
  for (const pb::Sample& one : p.sample()) {
    if (!goes_through(p, one, function)) continue;
    if (!label.empty() && labels_text(p, one).find(label) == std::string::npos) continue;
    s.count += one.value(0);
    s.ns += one.value(1);
  }
  return s;
}

class WaitProfiles : public testing::Test {
 protected:
  WaitProfiles() { install_wait_probes(); }
  ~WaitProfiles() override {
    set_block_profile_rate(0);
    set_mutex_profile_fraction(0);
    set_wait_profile_rate(10'000'000);
  }
};

// A task waits at<place>() for what `wait` does until `wake` ends it, `hold` after it was seen
// waiting.
template <int place>
void one_wait(bracket& truth, wait_reason reason, const std::function<void()>& wait,
              const std::function<void()>& wake, std::chrono::nanoseconds hold = 20ms) {
  int64_t began = 0;
  auto waiter = spawn([&] {
    began = now();
    at<place>(wait);
  });
  EXPECT_TRUE(eventually_waiting(reason, 1));
  const int64_t seen = now();
  this_task::sleep_for(hold);
  const int64_t before = now();
  wake();
  const int64_t after = now();
  waiter.join();
  truth.add(seen, before, began, after);
}

}  // namespace weft::prof::test
