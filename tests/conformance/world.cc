#include "tests/conformance/world.h"

#include <weft/error.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "scheduler/park.h"
#include "scheduler/scheduler.h"

namespace weft::test {
namespace {

int g_procs = 0;
int g_left_behind = 0;
int g_left_behind_by_reason[256];

constexpr auto hang = std::chrono::seconds(60);

}  // namespace

bool eventually(const std::function<bool()>& holds) {
  auto limit = std::chrono::steady_clock::now() + hang;
  for (int round = 0;; ++round) {
    if (holds()) return true;
    if (std::chrono::steady_clock::now() > limit) return false;
    if (round < 100)
      this_task::yield();
    else
      this_task::sleep_for(std::chrono::microseconds(100));
  }
}

int count_waiting(sched::wait_reason reason) {
  struct search {
    sched::wait_reason reason;
    int found;
  } s{reason, -g_left_behind_by_reason[static_cast<int>(reason)]};
  sched::for_each_task(
      [](sched::task& t, void* arg) {
        auto* to = static_cast<search*>(arg);
        uint32_t word = t.state.load(std::memory_order_acquire);
        if (sched::status_of(word) == sched::task_status::waiting &&
            sched::reason_of(word) == to->reason)
          ++to->found;
      },
      &s);
  return s.found;
}

void let_others_run() {
  for (int i = 0; i < 20; ++i) this_task::yield();
}

std::string panic_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const panic_error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

size_t queued_timers() {
  size_t n = 0;
  for (const std::atomic<sched::processor*>& slot : sched::g_sched.processors) {
    sched::processor* p = slot.load();
    if (p == nullptr) break;
    std::lock_guard hold(p->timers.lock);
    n += p->timers.size();
  }
  return n;
}

void in_world(int max_procs, const std::function<void()>& body) {
  SCOPED_TRACE(testing::Message() << max_procs << " processors");
  g_procs = max_procs;
  options o;
  o.max_procs = max_procs;
  run(o, [&body] {
    // The main task of the run before may still be on its way out.
    EXPECT_TRUE(eventually([] { return num_tasks() == 1 + g_left_behind; }));
    body();
    EXPECT_TRUE(eventually([] { return num_tasks() == 1 + g_left_behind; }))
        << num_tasks() << " tasks exist at the end; 1 (this one) and " << g_left_behind
        << " that wait for ever were expected";
  });
}

void in_worlds(void (*body)()) {
  for (int procs : {1, 2, 8}) {
    in_world(procs, body);
    if (testing::Test::HasFatalFailure()) return;
  }
}

int world_procs() { return g_procs; }

void leave_tasks_behind(sched::wait_reason reason, int n) {
  g_left_behind += n;
  g_left_behind_by_reason[static_cast<int>(reason)] += n;
}

int64_t own_tasks() { return num_tasks() - g_left_behind; }

int64_t memory_in_use() {
  int64_t kib = 0;
  if (FILE* f = std::fopen("/proc/self/status", "re")) {
    char line[256];
    while (std::fgets(line, sizeof line, f) != nullptr) {
      long value = 0;
      if (std::sscanf(line, "VmRSS: %ld", &value) == 1 ||
          std::sscanf(line, "VmPTE: %ld", &value) == 1)
        kib += value;
    }
    std::fclose(f);
  }
  return kib * 1024;
}

}  // namespace weft::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // A forked child would have no scheduler threads; the death tests start the program anew.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  return RUN_ALL_TESTS();
}
