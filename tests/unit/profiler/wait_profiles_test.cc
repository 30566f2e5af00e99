// The profiles wait and wall against waits of known length; and all profiles of waits together:
// deltas, tools, rates that change.
#include <gtest/gtest.h>
#include <weft/detail/config.h>
#include <weft/pprof.h>
#include <weft/weft.h>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "profiler/pprof_encoder.h"
#include "scheduler/park.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/wait_world.h"

namespace weft::prof {
namespace {

using namespace weft::prof::test;
using sched::time_away;

TEST_F(WaitProfiles, ThreadsThatBlockCountToo) {
  set_block_profile_rate(1);
  set_wait_profile_rate(1);
  in_world(1, [] {
    chan<int> c(0);
    int64_t began = 0;
    std::thread outsider([&] {
      began = now();
      at<13>([&] { c.recv(); });
    });
    EXPECT_TRUE(eventually_waiting(wait_reason::chan_receive, 1));
    [[maybe_unused]] const int64_t seen = now();
    this_task::sleep_for(20ms);
    [[maybe_unused]] const int64_t collected = now();
    const sum under_way = sum_at(bytes_of("wait"), 13, "reason=chan receive");
#if !WEFT_TSAN  // holds back the signal by which a thread in a system call is asked for its stack
    EXPECT_EQ(under_way.count, 1);
    EXPECT_GE(under_way.ns, collected - seen);
#endif
    EXPECT_LE(under_way.ns, now() - began);
    const int64_t before = now();
    c.send(1);
    outsider.join();
    const int64_t after = now();
    bracket truth;
    truth.add(seen, before, began, after);
    EXPECT_THAT(sum_at(bytes_of("block"), 13).ns, within(truth));
    EXPECT_THAT(sum_at(bytes_of("wait"), 13).ns, within(truth));
  });
}

TEST_F(WaitProfiles, WaitIsWallTimeLessRunningTime) {
  set_wait_profile_rate(1);
  for (int procs : {1, 2}) {
    in_world(procs, [procs] {
      constexpr int tasks = 4;
      std::vector<int64_t> away(tasks);
      // What took longer than it should have: a task may lose its processor while it computes.
      std::vector<int64_t> maybe_away(tasks);
      const auto one = [&](int n) {
        chan<int> c(0);
        with_labels(labels{{"case", std::to_string(procs)}}, [&] {
          at<30>([&] {
            for (int i = 0; i < 10; ++i) {
              const int64_t began = now();
              compute(1'000'000);
              int64_t left = now();
              if (left - began > 1'100'000) maybe_away[static_cast<size_t>(n)] += left - began;
              this_task::sleep_for(8ms);
              away[static_cast<size_t>(n)] += now() - left;
              auto sender = spawn([&] {
                this_task::sleep_for(2ms);
                c.send(1);
              });
              left = now();
              c.recv();
              away[static_cast<size_t>(n)] += now() - left;
              left = now();
              this_task::yield();
              away[static_cast<size_t>(n)] += now() - left;
              left = now();
              sender.join();
              away[static_cast<size_t>(n)] += now() - left;
            }
          });
        });
      };
      std::vector<join_handle<void>> all;
      for (int n = 0; n < tasks; ++n) all.push_back(spawn([&, n] { one(n); }));
      for (auto& t : all) t.join();
      bracket truth;
      truth.least = std::accumulate(away.begin(), away.end(), int64_t{0});
      truth.most = std::accumulate(maybe_away.begin(), maybe_away.end(), truth.least);
      const std::string bytes = bytes_of("wait");
      EXPECT_TRUE(valid_profile(bytes));
      // The first runs of these tasks and of their senders have other stacks.
      EXPECT_THAT(sum_at(bytes, 30, "case=" + std::to_string(procs)).ns, within(truth));
      EXPECT_EQ(sum_at(bytes, 30, "case=" + std::to_string(procs) + " reason=sleep").count, 40);
    });
  }
}

TEST_F(WaitProfiles, WaitsUnderWayAreSeenAndDoNotCountTwice) {
  for (int64_t rate : {int64_t{1}, int64_t{10'000'000}}) {
    set_wait_profile_rate(rate);
    const std::string name = "rate=" + std::to_string(rate);
    in_world(1, [&] {
      chan<int> c(0);
      int64_t began = 0;
      auto waiter = spawn([&] {
        with_labels(labels{{"rate", std::to_string(rate)}}, [&] {
          began = now();
          at<31>([&] { c.recv(); });
        });
      });
      EXPECT_TRUE(eventually_waiting(wait_reason::chan_receive, 1));
      const int64_t seen = now();
      this_task::sleep_for(100ms);
      const int64_t before = now();
      const std::string first = bytes_of("wait");
      const int64_t after = now();
      const sum s = sum_at(first, 31, name);
      EXPECT_EQ(s.count, 1);
      // The coarse clock, by which default rates count, is up to 10 ms late.
      const int64_t late = rate == 1 ? 0 : 10'000'000;
      EXPECT_GE(s.ns, before - seen - late);
      EXPECT_LE(s.ns, after - began + late);
      const int64_t ends = now();
      c.send(1);
      waiter.join();
      const int64_t ended = now();
      const sum over = sum_at(bytes_of("wait"), 31, name + " reason=chan receive");
      EXPECT_EQ(over.count, 1);
      EXPECT_GE(over.ns, ends - seen - late);
      EXPECT_LE(over.ns, ended - began + late);
      EXPECT_GE(over.ns, s.ns);
    });
  }
}

TEST_F(WaitProfiles, RunnableIsTheTimeForWantOfAProcessor) {
  set_wait_profile_rate(1);
  in_world(1, [] {
    constexpr int tasks = 8;
    // Atomic: a task that computes may lose its processor, and goes on for a moment beside the
    // next.
    std::atomic<int64_t> away{0}, first_ran{0}, last_ran{0};
    std::vector<join_handle<void>> all;
    const int64_t spawned = now();
    for (int n = 0; n < tasks; ++n) {
      all.push_back(spawn([&] {
        if (first_ran == 0) first_ran = now();
        last_ran = now();
        at<32>([&] {
          for (int i = 0; i < 20; ++i) {
            compute(500'000);
            const int64_t left = now();
            this_task::yield();
            away += now() - left;
          }
        });
      }));
    }
    for (auto& t : all) t.join();
    EXPECT_GE(last_ran - spawned, first_ran - spawned);
    const std::string bytes = bytes_of("wait");
    const sum s = sum_at(bytes, 32, "reason=runnable");
    EXPECT_THAT(s.ns, within_percent(away, 5));
    EXPECT_EQ(sum_at(bytes, 32, "reason=chan receive").ns, 0);
  });
}

TEST_F(WaitProfiles, TheWayToTheFirstRunIsRunnable) {
  set_wait_profile_rate(1);
  in_world(1, [] {
    int64_t began = 0;
    const int64_t before = now();
    auto t = with_labels(labels{{"first", "run"}}, [&] { return spawn([&] { began = now(); }); });
    compute(20'000'000);
    t.join();
    const pb::Profile p = decode_profile(bytes_of("wait"));
    int64_t ns = 0;
    for (const pb::Sample& one : p.sample())
      if (labels_text(p, one) == "first=run reason=runnable") ns += one.value(1);
    // The task looks at the clock some time after the wait has been recorded. It cannot have begun
    // before half a slice had passed.
    EXPECT_GE(ns, 5'000'000);
    EXPECT_LE(ns, began - before);
  });
}

TEST_F(WaitProfiles, ABlockingCallWaitsAsFarAsItDoesNotCompute) {
  for (int64_t rate : {int64_t{1}, int64_t{2'000'000}}) {
    set_wait_profile_rate(rate);
    const std::string name = "call=" + std::to_string(rate) + " reason=blocking call";
    in_world(2, [&] {
      with_labels(labels{{"call", std::to_string(rate)}}, [&] {
        const int64_t before = now();
        at<33>([] { blocking([] { std::this_thread::sleep_for(50ms); }); });
        const int64_t after = now();
        at<34>([] { blocking([] { compute(50'000'000); }); });
        const std::string bytes = bytes_of("wait");
        const sum sleeps = sum_at(bytes, 33, name), computes = sum_at(bytes, 34, name);
        EXPECT_GE(sleeps.ns, 48'000'000);
        EXPECT_LE(sleeps.ns, after - before);
        // What other processes took of the CPU meanwhile is not computing.
        EXPECT_LT(computes.ns, now() - after);
      });
    });
  }
}

TEST_F(WaitProfiles, WaitByTheGridIsUnbiased) {
  set_wait_profile_rate(10'000'000);
  const int64_t period = current_wait_sampling().period_ns;
  EXPECT_EQ(period, int64_t{1} << 23);
  in_world(1, [&] {
    int64_t at_ns = 12'345;
    const auto wait = [&](int64_t blocked, int64_t queued) {
      sched::critical in_runtime;
      at_ns += 7'777'777;  // no multiple of anything
      note_back(*sched::current_task(), {time_away::cause::parked, wait_reason::io_wait, false,
                                         at_ns, at_ns + blocked, at_ns + blocked + queued});
    };
    const int64_t brief = period / 10;
    at<35>([&] {
      for (int i = 0; i < 100'000; ++i) wait(brief, brief / 2);
    });
    at<36>([&] {
      for (int i = 0; i < 10'000; ++i) wait(period, period / 2);
    });
    const std::string bytes = bytes_of("wait");
    EXPECT_THAT(sum_at(bytes, 35, "reason=IO wait").ns, within_percent(100'000 * brief, 5));
    EXPECT_THAT(sum_at(bytes, 35, "reason=runnable").ns, within_percent(50'000 * brief, 5));
    // Exact but for the cap, which so many at once may bring into play where recording is slow:
    // some standard deviations of as many records as there were.
    for (const auto& [reason, expected] : {std::pair{"reason=IO wait", 10'000 * period},
                                           std::pair{"reason=runnable", 5'000 * period}}) {
      const sum s = sum_at(bytes, 36, reason);
      ASSERT_GT(s.count, 0);
      const double percent = 600 / std::sqrt(static_cast<double>(s.count));
      EXPECT_THAT(s.ns, within_percent(expected, std::max(5, static_cast<int>(percent))));
    }
  });
}

// Recording everything that this world does would take the processors' whole time.
TEST_F(WaitProfiles, TheCapMakesSamplingCoarserAndFineAgain) {
  set_wait_profile_rate(2'000'000);
  const int64_t finest = current_wait_sampling().period_ns;
  in_world(1, [&] {
    int64_t at_ns = 0;
    const auto wait = [&] {
      sched::critical in_runtime;
      at_ns += int64_t{1} << 40;
      note_back(*sched::current_task(),
                {time_away::cause::parked, wait_reason::io_wait, false, at_ns,
                 at_ns + (int64_t{1} << 34), at_ns + (int64_t{1} << 34)});
    };
    at<37>([&] {
      for (int i = 0; i < 1'000'000 && current_wait_sampling().period_ns < 4 * finest; ++i) wait();
    });
    EXPECT_GE(current_wait_sampling().period_ns, 4 * finest);
    EXPECT_TRUE(weft::test::eventually([&] {
      this_task::sleep_for(110ms);  // a window, and one record in it
      wait();
      return current_wait_sampling().period_ns == finest;
    }));
  });
}

TEST_F(WaitProfiles, WaitOffCountsNothing) {
  set_wait_profile_rate(0);
  EXPECT_EQ(wait_profile_rate(), 0);
  in_world(1, [] {
    chan<int> c(0);
    auto waiter = spawn([&] { at<38>([&] { c.recv(); }); });
    EXPECT_TRUE(eventually_waiting(wait_reason::chan_receive, 1));
    this_task::sleep_for(20ms);
    EXPECT_EQ(sum_at(bytes_of("wait"), 38).count, 0);
    c.send(1);
    waiter.join();
  });
  EXPECT_EQ(sum_at(bytes_of("wait"), 38).count, 0);
}

TEST_F(WaitProfiles, WallIsTheIntervalForEveryTask) {
  set_wait_profile_rate(100'000);
  in_world(2, [] {
    std::atomic<bool> stop{false};
    chan<int> never(0);
    std::vector<join_handle<void>> tasks;
    for (int n = 0; n < 3; ++n) {
      tasks.push_back(spawn([&, n] {
        with_labels(labels{{"task", std::to_string(n)}}, [&] {
          at<40>([&] {
            if (n == 0) never.recv();
            while (!stop) {
              this_task::sleep_for(n == 1 ? 7ms : 1ms);
              if (n == 2) compute(300'000);
            }
          });
        });
      }));
    }
    EXPECT_TRUE(eventually_waiting(wait_reason::chan_receive, 1));
    const int64_t before = now();
    int64_t from = 0, to = 0;
    const auto pause = [&] {
      from = now();
      std::this_thread::sleep_for(1s);
      to = now();
      return true;
    };
    std::optional<profile_data> wall;
    blocking([&] { wall = wall_profile().collect_over(pause, {}); });
    const int64_t after = now();
    stop = true;
    never.send(1);
    for (auto& t : tasks) t.join();
    ASSERT_TRUE(wall.has_value());
    EXPECT_GE(wall->duration_nanos, to - from);
    int64_t sums[3] = {};
    for (const sample& s : wall->samples) {
      for (const auto& [key, value] : s.labels)
        if (key == "task") sums[std::stoi(value)] += s.values[1];
    }
    for (int n = 0; n < 3; ++n) {
      EXPECT_GE(sums[n], (to - from) * 9 / 10) << n;
      EXPECT_LE(sums[n], (after - before) * 11 / 10) << n;
    }
  });
}

TEST_F(WaitProfiles, DeltaIsWhatHappenedBetween) {
  set_wait_profile_rate(1);
  set_block_profile_rate(1);
  in_world(1, [] {
    bracket earlier;
    chan<int> c(0);
    const auto wait = [&](bracket& b) {
      one_wait<41>(
          b, wait_reason::chan_receive, [&] { c.recv(); }, [&] { c.send(1); });
    };
    wait(earlier);
    for (std::string_view name : {"block", "wait"}) {
      bracket between;
      std::optional<profile_data> d = find_profile(name)->collect_over(
          [&] {
            wait(between);
            return true;
          },
          {});
      ASSERT_TRUE(d.has_value());
      EXPECT_GT(d->duration_nanos, 0);
      const std::string bytes = encode(*d);
      EXPECT_TRUE(valid_profile(bytes));
      EXPECT_THAT(sum_at(bytes, 41).ns, within(between));
    }
  });
}

TEST_F(WaitProfiles, TheToolReadsThemAll) {
  set_wait_profile_rate(1);
  set_block_profile_rate(1);
  set_mutex_profile_fraction(1);
  in_world(1, [] {
    with_labels(labels{{"request", "a b"}}, [] {
      at<42>([] {
        mutex m;
        m.lock();
        auto t = spawn([&] { at<43>([&] { std::lock_guard hold(m); }); });
        EXPECT_TRUE(eventually_waiting(wait_reason::mutex_lock, 1));
        this_task::sleep_for(20ms);
        m.unlock();
        t.join();
      });
    });
  });
  go_tool tool;
  for (const char* name : {"block", "mutex", "wait"}) {
    const std::string file = tool.write(std::string(name) + ".pb.gz", bytes_of(name));
    const int place = std::string_view(name) == "mutex" ? 42 : 43;
    const std::string function = "wait_test::at<" + std::to_string(place);
    for (const char* report : {"-top", "-raw", "-traces"}) {
      const auto shown =
          tool.pprof({report, "-functions", "-nodecount=100000", "-nodefraction=0"}, file);
      EXPECT_EQ(shown.exit_status, 0) << shown.out;
      EXPECT_TRUE(shown.has(function)) << name << report << shown.out;
    }
    const auto tags = tool.pprof({"-tags"}, file);
    EXPECT_TRUE(tags.has("a b")) << tags.out;
    if (place == 43 && name == std::string_view("wait")) {
      EXPECT_TRUE(tags.has("sync.Mutex.Lock") && tags.has("sleep")) << tags.out;
      const auto leaves =
          tool.pprof({"-top", "-tagleaf=reason", "-nodecount=100000", "-nodefraction=0"}, file);
      EXPECT_TRUE(leaves.has("sync.Mutex.Lock")) << leaves.out;
    }
    const auto text = tool.pprof({"-top"}, tool.write(std::string(name) + ".txt", text_of(name)));
    EXPECT_EQ(text.exit_status, 0) << text.out;
  }
}

// Everything at once, for the sanitizers.
TEST_F(WaitProfiles, RatesChangeAndProfilesAreReadWhileTasksWait) {
  in_world(2, [] {
    std::atomic<bool> stop{false};
    mutex m;
    chan<int> c(1);
    std::vector<join_handle<void>> tasks;
    for (int n = 0; n < weft::test::sized(16, 6); ++n) {
      tasks.push_back(spawn([&, n] {
        with_labels(labels{{"n", std::to_string(n)}}, [&] {
          while (!stop) {
            std::lock_guard hold(m);
            c.try_send(n);
            this_task::yield();
            c.try_recv();
            if (n % 4 == 0) this_task::sleep_for(100us);
          }
        });
      }));
    }
    std::thread outsider([&] {
      while (!stop) {
        std::lock_guard hold(m);
        std::this_thread::sleep_for(50us);
      }
    });
    for (int i = 0; i < weft::test::sized(40, 10); ++i) {
      set_block_profile_rate(i % 3 == 0 ? 0 : 1);
      set_mutex_profile_fraction(i % 4);
      set_wait_profile_rate(i % 5 == 0 ? 0 : i % 2 == 0 ? 1 : 5'000'000);
      for (std::string_view name : {"block", "mutex", "wait"})
        EXPECT_TRUE(valid_profile(bytes_of(name)));
      this_task::sleep_for(2ms);
    }
    stop = true;
    outsider.join();
    for (auto& t : tasks) t.join();
  });
}

}  // namespace
}  // namespace weft::prof
