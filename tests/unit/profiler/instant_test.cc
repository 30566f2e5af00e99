// A goroutine profile shows all tasks as they were at one instant, while they go on.
#include <gtest/gtest.h>
#include <weft/weft.h>

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "profiler/capture.h"
#include "profiler/goroutine_profile.h"
#include "profiler/symbolize.h"
#include "scheduler/instant.h"
#include "tests/unit/profiler/profile_check.h"

namespace weft {
namespace {

using prof::task_snapshot;

// Where tasks are: the functions below, told apart by their entry.
[[gnu::noinline]] void holding(int how) {
  switch (how % 4) {
    case 0:
      this_task::yield();
      break;
    case 1:
      this_task::sleep_for(std::chrono::microseconds(20));
      break;
    case 2:
      for (int i = 0; i < 300; ++i) asm volatile("");
      break;
    default:
      blocking([] { std::this_thread::yield(); });
  }
  asm volatile("");
}

bool has_frame(const task_snapshot& t, std::string_view function) {
  static std::map<uintptr_t, std::string> names;
  for (size_t i = 0; i < t.pcs.size(); ++i) {
    const uintptr_t pc = i == 0 && t.leaf_is_exact ? t.pcs[0] : t.pcs[i] - 1;
    std::string& name = names[pc];
    if (name.empty())
      for (const prof::frame& f : prof::symbolize(pc)) name += f.name + ';';
    if (name.find(function) != std::string::npos) return true;
  }
  return false;
}

std::string label(const task_snapshot& t, std::string_view key) {
  for (const auto& [k, v] : t.labels)
    if (k == key) return v;
  return {};
}

prof::capture_options at_one_instant() {
  prof::capture_options options;
  options.instant = true;
  options.give_up_processor = true;
  return options;
}

// Two tasks hand a baton to each other. One at most holds it at any instant; captured one after the
// other, both are seen with it now and then.
void pass_batons(int procs) {
  run({.max_procs = procs}, [] {
    constexpr int pairs = 24;
    std::atomic<bool> stop{false};
    wait_group all;
    for (int pair = 0; pair < pairs; ++pair) {
      chan<int> there(0), back(0);
      all.add(2);
      with_labels({{"pair", std::to_string(pair)}}, [&] {
        go([&, there, back, pair] {
          for (int i = pair; !stop; ++i) {
            holding(i);
            there.send(i);
            back.recv();
          }
          there.close();
          all.done();
        });
        go([&, there, back] {
          while (auto i = there.recv()) {
            holding(*i + 1);
            back.send(0);
          }
          all.done();
        });
      });
    }
    for (int round = 0; round < 60; ++round) {
      std::map<std::string, int> holders, members;
      prof::capture_tasks(at_one_instant(), [&](const task_snapshot& t) {
        const std::string pair = label(t, "pair");
        if (pair.empty()) return;
        ++members[pair];
        if (has_frame(t, "holding")) ++holders[pair];
      });
      for (const auto& [pair, n] : holders)
        EXPECT_LE(n, 1) << "round " << round << " pair " << pair;
      for (const auto& [pair, n] : members)
        EXPECT_EQ(n, 2) << "round " << round << " pair " << pair;
      this_task::sleep_for(std::chrono::microseconds(200));
    }
    stop = true;
    all.wait();
  });
}

TEST(Instant, NobodyIsSeenBothBeforeAndAfterAHandOver) { pass_batons(1); }
TEST(Instant, NobodyIsSeenBothBeforeAndAfterAHandOverOnTwoProcessors) { pass_batons(2); }

// Each task of a line starts the next one before it ends, in a record that another has left.
struct line_of_tasks {
  std::atomic<bool> stop{false};
  wait_group ended;
  void next(int n) {
    if (n % 3 == 0) this_task::yield();
    if (!stop) {
      ended.add(1);
      go([this, n] { next(n + 1); });
    }
    ended.done();
  }
};

TEST(Instant, SomebodyOfALineIsAlwaysThere) {
  run({.max_procs = 2}, [] {
    line_of_tasks line;
    line.ended.add(1);
    with_labels({{"line", "1"}}, [&] { go([&] { line.next(0); }); });
    for (int round = 0; round < 300; ++round) {
      int there = 0;
      prof::capture_tasks(at_one_instant(),
                          [&](const task_snapshot& t) { there += label(t, "line") == "1"; });
      EXPECT_GE(there, 1) << "round " << round;
    }
    line.stop = true;
    line.ended.wait();
  });
}

// The number of tasks is that of the instant, whoever starts and ends.
TEST(Instant, CountsNoTaskTwiceAndMissesNone) {
  run({.max_procs = 2}, [] {
    constexpr int parked = 500;
    chan<int> never(0);
    with_labels({{"kind", "parked"}}, [&] {
      for (int i = 0; i < parked; ++i) go([never] { never.recv(); });
    });
    std::atomic<bool> stop{false};
    wait_group churn;
    for (int i = 0; i < 4; ++i) {
      churn.go([&] {
        while (!stop) {
          wait_group some;
          for (int k = 0; k < 20; ++k) some.go([] { this_task::yield(); });
          some.wait();
        }
      });
    }
    for (int round = 0; round < 40; ++round) {
      std::map<uint64_t, int> seen;
      int labelled = 0;
      prof::capture_tasks(at_one_instant(), [&](const task_snapshot& t) {
        ++seen[t.id];
        labelled += label(t, "kind") == "parked";
      });
      for (const auto& [id, n] : seen) EXPECT_EQ(n, 1) << "task " << id;
      EXPECT_EQ(labelled, parked);
    }
    stop = true;
    churn.wait();
    never.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

// The gates one by one, with a port that only counts.
struct seen_at_the_gate {
  static inline std::atomic<int> executing, parked;
  static inline std::atomic<uint64_t> last;
  static void on_executing(sched::thread&, sched::task& t, void*, sched::instant_note& n) noexcept {
    ++executing;
    n.capture = &t;
  }
  static void on_parked(sched::thread&, sched::task& t, sched::instant_note& n) noexcept {
    ++parked;
    last = t.id;
    n.capture = &t;
  }
  static constexpr sched::instant_port port{on_executing, on_parked};
};

sched::task* record_of(uint64_t id) {
  for (size_t i = 0; i < sched::task_record_count(); ++i)
    if (sched::task_record(i).id == id) return &sched::task_record(i);
  return nullptr;
}

bool open(int64_t& at) {
  for (int i = 0; i < 50; ++i)
    if (sched::open_instant(seen_at_the_gate::port, 20'000'000, at)) return true;
  return false;
}

TEST(Instant, AWaitThatEndsAfterwardsIsKnown) {
  run({.max_procs = 1}, [] {
    seen_at_the_gate::executing = seen_at_the_gate::parked = 0;
    chan<int> c(0);
    std::atomic<uint64_t> id{0};
    bool ended = false;
    wait_group all;
    all.go([&] {
      id = this_task::id();
      c.recv();
      ended = true;
    });
    while (id == 0) this_task::yield();
    sched::task& waiter = *record_of(id);
    const int64_t began = waiter.since_ns;
    int64_t at = 0;
    ASSERT_TRUE(open(at));
    sched::instant_note* note = sched::instant_note_of(waiter);
    ASSERT_NE(note, nullptr);
    EXPECT_EQ(note->waited_for.load(), sched::wait_reason::none);
    c.send(1);
    // Woken, not run: what it waited for is written down, and nothing has been captured.
    if (!ended) {
      EXPECT_EQ(note->waited_for.load(), sched::wait_reason::chan_receive);
      EXPECT_EQ(note->since_ns.load(), began);
    }
    all.wait();
    EXPECT_EQ(note->capture.load(), &waiter);
    EXPECT_EQ(seen_at_the_gate::parked, 1);
    EXPECT_EQ(seen_at_the_gate::last, id);
    EXPECT_EQ(seen_at_the_gate::executing, 0) << "the opener is not asked";

    // Born later: not shown, and its record is settled.
    uint64_t born = 0;
    sched::task* record = nullptr;
    all.go([&] {
      born = this_task::id();
      record = record_of(born);
    });
    all.wait();
    ASSERT_NE(record, nullptr);
    if (const sched::instant_note* n = sched::instant_note_of(*record)) {
      // In a new record, or in that of the waiter, which had been captured.
      EXPECT_TRUE(n->capture == sched::instant_settled || n->capture == &waiter);
    }
    EXPECT_EQ(seen_at_the_gate::parked, 1);
    sched::close_instant();
    EXPECT_EQ(sched::instant_note_of(waiter), nullptr);
  });
}

TEST(Instant, ATaskThatExecutesShowsItself) {
  run({.max_procs = 2}, [] {
    seen_at_the_gate::executing = seen_at_the_gate::parked = 0;
    std::atomic<bool> started{false}, stop{false};
    wait_group all;
    all.go([&] {
      started = true;
      while (!stop.load(std::memory_order_relaxed)) asm volatile("");
    });
    while (!started) this_task::yield();
    int64_t at = 0;
    if (!open(at)) {
      // Where a sanitizer holds signals back, a busy loop does not stop.
      stop = true;
      all.wait();
      GTEST_SKIP() << "the loop did not stop: signals are late here";
    }
    EXPECT_EQ(seen_at_the_gate::executing, 1);
    sched::close_instant();
    stop = true;
    all.wait();
  });
}

// A thread that does not stop costs the profile its instant, and nothing else.
TEST(Instant, WithoutItTasksAreCapturedOneByOne) {
  run({.max_procs = 2}, [] {
    std::atomic<bool> started{false}, stop{false};
    wait_group all;
    all.go([&] {
      sigset_t all_signals, before;
      sigfillset(&all_signals);
      pthread_sigmask(SIG_BLOCK, &all_signals, &before);
      started = true;
      while (!stop.load(std::memory_order_relaxed)) asm volatile("");
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
    });
    while (!started) this_task::yield();
    size_t tasks = prof::capture_tasks(at_one_instant(), [](const task_snapshot&) {});
    EXPECT_EQ(tasks, 2u);
    stop = true;
    all.wait();
  });
}

// Two profiles at a time: one waits for the other.
TEST(Instant, IsSharedByNobody) {
  run({.max_procs = 2}, [] {
    chan<int> never(0);
    for (int i = 0; i < 200; ++i) go([never] { never.recv(); });
    wait_group all;
    for (int i = 0; i < 4; ++i) {
      all.go([] {
        for (int k = 0; k < 4; ++k)
          EXPECT_GE(prof::capture_tasks(at_one_instant(), [](const task_snapshot&) {}), 201u);
      });
    }
    all.wait();
    never.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

}  // namespace
}  // namespace weft
