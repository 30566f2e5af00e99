// Capture, goroutine profile and CPU profile of live tasks.
#include <gtest/gtest.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <atomic>
#include <map>
#include <mutex>
#include <sstream>
#include <string>

#include "profiler/capture.h"
#include "profiler/cpu_sampler.h"
#include "profiler/goroutine_profile.h"
#include "profiler/symbolize.h"
#include "tests/unit/profiler/profile_check.h"

namespace weft {
namespace {

using prof::capture_tasks;
using prof::task_snapshot;

bool has_frame(const task_snapshot& t, std::string_view function) {
  for (size_t i = 0; i < t.pcs.size(); ++i) {
    uintptr_t pc = i == 0 && t.leaf_is_exact ? t.pcs[0] : t.pcs[i] - 1;
    for (const prof::frame& f : prof::symbolize(pc)) {
      if (f.name.find(function) != std::string::npos) return true;
    }
  }
  return false;
}

[[gnu::noinline]] void parked_in_receive(chan<int> c) {
  c.recv();
  asm volatile("");
}

[[gnu::noinline]] void burn_here(const std::atomic<bool>& stop) {
  while (!stop.load(std::memory_order_relaxed)) asm volatile("");
}

// Neither a dump nor a profile that nobody waits for any more goes on to the last task.
TEST(Capture, EndsWhenNobodyWantsTheRest) {
  run({.max_procs = 1}, [] {
    constexpr size_t tasks = 3000;
    chan<int> c(0);
    for (size_t i = 0; i < tasks; ++i) go([c] { parked_in_receive(c); });
    EXPECT_EQ(prof::write_task_dump([](std::string_view) { return true; }), tasks + 1);
    EXPECT_LT(prof::write_task_dump([](std::string_view) { return false; }), tasks);
    prof::capture_options options;
    int looks = 0;
    options.stop = [&] { return ++looks == 3; };
    EXPECT_LT(capture_tasks(options, [](const task_snapshot&) {}), tasks);
    EXPECT_EQ(looks, 3);
    c.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

TEST(Capture, SeesParkedTasksWithReasonStackAndParent) {
  run({.max_procs = 2}, [] {
    chan<int> c(0);
    for (int i = 0; i < 100; ++i) go({.name = "receiver"}, [c] { parked_in_receive(c); });
    // Until all of them are parked: the profile itself is the observer.
    std::map<std::string, int> by_status;
    int named = 0;
    do {
      by_status.clear();
      named = 0;
      capture_tasks({}, [&](const task_snapshot& t) {
        ++by_status[std::string(t.status)];
        if (t.name == "receiver" && t.status == "chan receive") {
          EXPECT_TRUE(has_frame(t, "parked_in_receive"));
          EXPECT_EQ(t.parent_id, this_task::id());
          EXPECT_NE(t.created_by, 0u);
          EXPECT_FALSE(t.truncated);
          ++named;
        }
      });
      this_task::yield();
    } while (by_status["chan receive"] < 100);
    EXPECT_EQ(named, 100);
    EXPECT_EQ(by_status["running"], 1);  // this one
    c.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

TEST(Capture, AsksRunningTasks) {
  run({.max_procs = 2}, [] {
    std::atomic<bool> stop{false};
    go([&] { burn_here(stop); });
    bool seen = false;
    while (!seen) {
      capture_tasks({}, [&](const task_snapshot& t) {
        if (t.id != this_task::id() && has_frame(t, "burn_here")) seen = true;
      });
      this_task::yield();
    }
    stop = true;
    while (num_tasks() > 1) this_task::yield();
  });
}

// Parked and executing ones alike; the dump says so in the task's first line.
TEST(Capture, SeesThatTasksAreLockedToThreads) {
  run({.max_procs = 2}, [] {
    chan<int> c(0);
    std::atomic<bool> stop{false};
    go({.name = "locked"}, [c] {
      lock_os_thread();
      parked_in_receive(c);
    });
    go({.name = "locked"}, [&] {
      lock_os_thread();
      burn_here(stop);
      unlock_os_thread();
    });
    go({.name = "free"}, [c] { parked_in_receive(c); });
    int locked = 0;
    while (locked < 2) {
      locked = 0;
      capture_tasks({}, [&](const task_snapshot& t) {
        EXPECT_FALSE(t.name != "locked" && t.locked_to_thread);
        locked += t.locked_to_thread;
      });
      this_task::yield();
    }
    stop = true;
    c.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

TEST(Capture, EveryTaskOnceWhileAllOfThemMove) {
  run({.max_procs = 2}, [] {
    constexpr int pairs = 50;
    std::atomic<bool> stop{false};
    wait_group wg;
    for (int i = 0; i < pairs; ++i) {
      chan<int> there(0), back(0);
      wg.go([=, &stop] {
        while (!stop) {
          there.send(1);
          back.recv();
        }
        there.close();
      });
      wg.go([=] {
        while (there.recv()) back.send(1);
      });
    }
    for (int round = 0; round < 50; ++round) {
      std::map<uint64_t, int> seen;
      size_t n = capture_tasks({}, [&](const task_snapshot& t) { ++seen[t.id]; });
      EXPECT_EQ(n, 2u * pairs + 1);
      for (auto& [id, times] : seen) EXPECT_EQ(times, 1) << "task " << id;
    }
    stop = true;
    wg.wait();
  });
}

// A waiter for a lock says which one, and which task holds it: one that waits itself, or executes.
TEST(GoroutineProfile, DumpNamesLocksAndTheirOwners) {
  run({.max_procs = 2}, [] {
    mutex parked_lock, busy_lock;
    chan<int> c(0);
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> parked_owner{0}, busy_owner{0};
    go([&] {
      std::lock_guard hold(parked_lock);
      parked_owner = this_task::id();
      parked_in_receive(c);
    });
    go([&] {
      std::lock_guard hold(busy_lock);
      busy_owner = this_task::id();
      burn_here(stop);
    });
    while (parked_owner == 0 || busy_owner == 0) this_task::yield();
    go([&] { std::lock_guard hold(parked_lock); });
    go([&] { std::lock_guard hold(busy_lock); });
    const auto line = [](const mutex& m, uint64_t owner) {
      std::ostringstream text;
      text << "[sync.Mutex.Lock, on " << static_cast<const void*>(&m) << ", held by goroutine "
           << owner << "]";
      return text.str();
    };
    std::string text;
    do {
      this_task::yield();
      std::ostringstream out;
      dump_tasks(out);
      text = out.str();
    } while (text.find(line(parked_lock, parked_owner)) == std::string::npos ||
             text.find(line(busy_lock, busy_owner)) == std::string::npos);
    stop = true;
    c.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

// As Go's TestGoroutineProfile: known numbers of tasks in known places, with labels. What its
// document promises: every task that is there for the whole of a profile, once.
[[gnu::noinline]] void parked_in_select(chan<int> a, chan<int> b) {
  select(on_recv(a, [](auto&&) {}), on_recv(b, [](auto&&) {}));
  asm volatile("");
}
[[gnu::noinline]] void parked_in_lock(mutex& m) {
  std::lock_guard hold(m);
  asm volatile("");
}
[[gnu::noinline]] void parked_in_sleep(const std::atomic<bool>& stop) {
  while (!stop) this_task::sleep_for(std::chrono::milliseconds(20));
  asm volatile("");
}

TEST(GoroutineProfile, KnownPopulationsAreCountedExactly) {
  run({.max_procs = 2}, [] {
    chan<int> a(0), b(0);
    mutex m;
    std::atomic<bool> stop{false};
    m.lock();
    for (int i = 0; i < 50; ++i) go([a] { parked_in_receive(a); });
    for (int i = 0; i < 44; ++i) go([a, b] { parked_in_select(a, b); });
    with_labels({{"kind", "locker"}}, [&] {
      for (int i = 0; i < 40; ++i) go([&] { parked_in_lock(m); });
    });
    for (int i = 0; i < 36; ++i) {
      // Two sets of labels, so two records.
      with_labels({{"kind", i % 3 == 0 ? "third" : "rest"}},
                  [&] { go([&] { parked_in_sleep(stop); }); });
    }
    const std::map<std::pair<std::string, std::string>, int64_t> wanted = {
        {{"parked_in_receive", ""}, 50},
        {{"parked_in_select", ""}, 44},
        {{"parked_in_lock", "locker"}, 40},
        {{"parked_in_sleep", "third"}, 12},
        {{"parked_in_sleep", "rest"}, 24}};
    this_task::sleep_for(std::chrono::milliseconds(50));  // most of them have arrived
    std::map<std::pair<std::string, std::string>, int64_t> found;
    do {
      found.clear();
      int64_t total = 0;
      std::ostringstream out;
      pprof::lookup("goroutine")->write_to(out, 0);
      ASSERT_TRUE(prof::test::valid_profile(out.str()));
      const auto profile = prof::test::decode_profile(out.str());
      const auto text = [&](int64_t i) { return profile.string_table(static_cast<int>(i)); };
      for (const auto& s : profile.sample()) {
        total += s.value(0);
        std::string label;
        for (const auto& l : s.label()) label = text(l.str());
        for (uint64_t id : s.location_id()) {
          for (const auto& l : profile.location(static_cast<int>(id) - 1).line()) {
            const std::string name =
                text(profile.function(static_cast<int>(l.function_id()) - 1).name());
            for (const auto& [place, n] : wanted) {
              if (name.find(place.first) != std::string::npos && label == place.second &&
                  name.find("lambda") == std::string::npos)
                found[place] += s.value(0);
            }
          }
        }
      }
      EXPECT_EQ(total, 50 + 44 + 40 + 36 + 1);  // in every profile, wherever they are
    } while (found != wanted);
    m.unlock();
    stop = true;
    a.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

TEST(GoroutineProfile, TotalsMatchAndLabelsShow) {
  run({.max_procs = 2}, [] {
    chan<int> c(0);
    with_labels({{"role", "worker"}}, [&] {
      for (int i = 0; i < 7; ++i) go([c] { parked_in_receive(c); });
    });
    std::string text;
    do {
      this_task::yield();
      std::ostringstream out;
      pprof::lookup("goroutine")->write_to(out, 1);
      text = out.str();
    } while (text.find("\n7 @") == std::string::npos);
    EXPECT_EQ(text.rfind("goroutine profile: total 8\n", 0), 0u) << text;
    EXPECT_NE(text.find("# labels: {\"role\":\"worker\"}"), std::string::npos) << text;
    std::ostringstream binary;
    pprof::lookup("goroutine")->write_to(binary, 0);
    EXPECT_TRUE(prof::test::valid_profile(binary.str()));
    std::ostringstream full;
    EXPECT_EQ(dump_tasks(full), 8u);
    EXPECT_NE(full.str().find("[chan receive, on 0x"), std::string::npos) << full.str();
    EXPECT_NE(full.str().find("created by "), std::string::npos) << full.str();
    c.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

TEST(CpuProfile, NamesTheBurningFunctionAndItsLabels) {
  run({.max_procs = 2}, [] {
    prof::cpu_consumer consumer(500);
    std::atomic<bool> stop{false};
    with_labels({{"who", "burner"}}, [&] { go([&] { burn_here(stop); }); });
    // Long enough in CPU time for a hundred ticks at the kernel's coarsest tick.
    this_task::sleep_for(std::chrono::milliseconds(1200));
    stop = true;
    while (num_tasks() > 1) this_task::yield();
    prof::cpu_result r = consumer.stop();
    int64_t total = 0, burning = 0;
    for (const prof::sample& s : r.samples) {
      total += s.values[0];
      for (size_t i = 0; i < s.pcs.size(); ++i) {
        if (prof::symbolize(s.stack().address(i)).back().name.find("burn_here") !=
            std::string::npos) {
          burning += s.values[0];
          ASSERT_EQ(s.labels.size(), 1u);
          EXPECT_EQ(s.labels[0].second, "burner");
          break;
        }
      }
    }
    EXPECT_GT(burning, 20);
    EXPECT_GT(burning * 10, total * 8);
    EXPECT_EQ(r.lost, 0u);
  });
}

TEST(CpuProfile, SeveralConsumersAtOnce) {
  run({.max_procs = 2}, [] {
    std::atomic<bool> stop{false};
    go([&] { burn_here(stop); });
    prof::cpu_consumer whole(100);
    this_task::sleep_for(std::chrono::milliseconds(300));
    int64_t inner_ticks = 0;
    {
      prof::cpu_consumer inner(100);
      this_task::sleep_for(std::chrono::milliseconds(300));
      for (const prof::sample& s : inner.stop().samples) inner_ticks += s.values[0];
    }
    int64_t whole_ticks = 0;
    for (const prof::sample& s : whole.stop().samples) whole_ticks += s.values[0];
    stop = true;
    while (num_tasks() > 1) this_task::yield();
    EXPECT_GT(inner_ticks, 0);
    EXPECT_GT(whole_ticks, inner_ticks);
  });
}

}  // namespace
}  // namespace weft
