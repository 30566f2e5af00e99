// taskcreate and stack: populations whose spawners, numbers and sizes are known.
#include <gtest/gtest.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <cmath>
#include <functional>
#include <optional>
#include <sstream>
#include <string>

#include "profiler/stack_profile.h"
#include "profiler/symbolize.h"
#include "profiler/task_create_profile.h"
#include "scheduler/stack.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/profile_check.h"

namespace weft {
namespace {

using prof::profile_data;
using prof::sample;

bool shows(const sample& s, std::string_view function) {
  for (size_t i = 0; i < s.pcs.size(); ++i) {
    for (const prof::frame& f : prof::symbolize(s.stack().address(i))) {
      if (f.name.find(function) != std::string::npos) return true;
    }
  }
  return false;
}

bool labelled(const sample& s, const std::string& key, const std::string& value) {
  for (const auto& [k, v] : s.labels) {
    if (k == key && v == value) return true;
  }
  return false;
}

// The sum of value `index` over the samples that show `function`, with these labels if any are
// given.
int64_t sum(const profile_data& p, size_t index, std::string_view function,
            const std::string& key = "", const std::string& value = "") {
  int64_t n = 0;
  for (const sample& s : p.samples) {
    if (shows(s, function) && (key.empty() || labelled(s, key, value))) n += s.values[index];
  }
  return n;
}

std::string written(const char* profile, int debug) {
  std::ostringstream out;
  pprof::lookup(profile)->write_to(out, debug);
  return out.str();
}

constexpr size_t created = 0, live = 1;

[[gnu::noinline]] void spawns_sleepers(int n, chan<int> c) {
  for (int i = 0; i < n; ++i) go([c] { c.recv(); });
  asm volatile("");
}

[[gnu::noinline]] void spawns_short_ones(int n) {
  wait_group all;
  for (int i = 0; i < n; ++i) all.go([] {});
  all.wait();
}

[[gnu::noinline]] void calls_the_spawner(int n, chan<int> c) {
  spawns_sleepers(n, c);
  asm volatile("");
}

TEST(TaskCreateProfile, LiveTasksAreExactWithoutAnySetting) {
  ASSERT_EQ(task_create_profile_rate(), 0);
  run({.max_procs = 2}, [] {
    chan<int> c(0);
    spawns_sleepers(100, c);
    with_labels({{"team", "blue"}}, [&] { spawns_sleepers(40, c); });
    profile_data p = prof::task_create_profile().collect({});
    EXPECT_EQ(sum(p, live, "spawns_sleepers"), 140);
    EXPECT_EQ(sum(p, live, "spawns_sleepers", "team", "blue"), 40);
    EXPECT_EQ(sum(p, created, "spawns_sleepers"), 0) << "nothing was recorded";
    c.close();
    while (num_tasks() > 1) this_task::yield();
    p = prof::task_create_profile().collect({});
    EXPECT_EQ(sum(p, live, "spawns_sleepers"), 0);
  });
}

TEST(TaskCreateProfile, EveryCreationAtRateOne) {
  run({.max_procs = 2}, [] {
    chan<int> c(0);
    set_task_create_profile_rate(1);
    with_labels({{"team", "green"}}, [&] { calls_the_spawner(50, c); });
    spawns_short_ones(200);
    set_task_create_profile_rate(0);
    spawns_short_ones(100);
    const profile_data p = prof::task_create_profile().collect({});
    EXPECT_EQ(sum(p, created, "calls_the_spawner"), 50) << "with the callers of who spawned";
    EXPECT_EQ(sum(p, created, "calls_the_spawner", "team", "green"), 50);
    EXPECT_EQ(sum(p, live, "spawns_sleepers"), 50);
    EXPECT_EQ(sum(p, created, "spawns_short_ones"), 200) << "while the rate was 1";
    EXPECT_EQ(sum(p, live, "spawns_short_ones"), 0);
    c.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

// The sum of what was sampled is that of all creations: within six standard deviations.
TEST(TaskCreateProfile, SampledSumsAreUnbiased) {
  run({.max_procs = 2}, [] {
    for (int64_t rate : {2, 10, 100}) {
      const int64_t before =
          sum(prof::task_create_profile().collect({}), created, "spawns_short_ones");
      set_task_create_profile_rate(rate);
      constexpr int n = 100'000;
      for (int i = 0; i < 20; ++i) spawns_short_ones(n / 20);
      set_task_create_profile_rate(0);
      const int64_t counted =
          sum(prof::task_create_profile().collect({}), created, "spawns_short_ones") - before;
      const double deviation = std::sqrt(static_cast<double>(n) * static_cast<double>(rate - 1));
      EXPECT_NEAR(static_cast<double>(counted), n, 6 * deviation) << "one in " << rate;
    }
  });
}

TEST(TaskCreateProfile, AnIntervalSamplesWithoutASetting) {
  run({.max_procs = 2}, [] {
    chan<int> c(0);
    spawns_sleepers(30, c);
    auto during = [&] {
      EXPECT_GT(task_create_profile_rate(), 0);
      spawns_sleepers(7, c);
      spawns_short_ones(20'000);
      return true;
    };
    std::optional<profile_data> p = prof::task_create_profile().collect_over(during, {});
    ASSERT_TRUE(p.has_value());
    EXPECT_EQ(task_create_profile_rate(), 0) << "off again";
    EXPECT_EQ(sum(*p, live, "spawns_sleepers"), 7);
    EXPECT_NEAR(static_cast<double>(sum(*p, created, "spawns_short_ones")), 20'000, 10'000);
    EXPECT_FALSE(prof::task_create_profile().collect_over([] { return false; }, {}).has_value());
    EXPECT_EQ(task_create_profile_rate(), 0);
    c.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

TEST(TaskCreateProfile, GoToolReadsIt) {
  run({.max_procs = 2}, [] {
    chan<int> c(0);
    set_task_create_profile_rate(1);
    with_labels({{"team", "red"}}, [&] { calls_the_spawner(11, c); });
    set_task_create_profile_rate(0);
    const std::string bytes = written("taskcreate", 0);
    EXPECT_TRUE(prof::test::valid_profile(bytes));
    const prof::test::go_tool go;
    const std::string file = go.write("taskcreate.pb.gz", bytes);
    const auto top = go.pprof({"-top", "-symbolize=none"}, file);
    EXPECT_EQ(top.exit_status, 0) << top.out;
    EXPECT_TRUE(top.has("Type: live\n") && top.has("spawns_sleepers")) << top.out;
    const auto traces = go.pprof({"-traces", "-sample_index=created"}, file);
    EXPECT_TRUE(traces.has("calls_the_spawner")) << traces.out;
    EXPECT_TRUE(go.pprof({"-tags"}, file).has("red"));
    const std::string text = written("taskcreate", 1);
    EXPECT_EQ(text.rfind("taskcreate profile: total 12\n", 0), 0u) << text;
    EXPECT_NE(text.find("# created while recorded: "), std::string::npos) << text;
    const auto from_text = go.pprof({"-top"}, go.write("taskcreate.txt", text));
    EXPECT_EQ(from_text.exit_status, 0) << from_text.out;
    EXPECT_TRUE(from_text.has("of 12 total")) << from_text.out;
    c.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

constexpr size_t stacks = 0, reserved = 1, used = 2, resident = 3;

// Touches about `bytes` of its stack, returns from there and waits.
[[gnu::noinline]] void touch(size_t bytes) {
  volatile char page[4096];
  page[0] = 1;
  if (bytes > sizeof page) touch(bytes - sizeof page);
  asm volatile("");
}

[[gnu::noinline]] void spawns_deep_ones(int n, chan<int> c, std::atomic<int>& ready) {
  for (int i = 0; i < n; ++i) {
    go([c, &ready] {
      touch(200'000);
      ++ready;
      c.recv();
    });
  }
  asm volatile("");
}

[[gnu::noinline]] void spawns_small_ones(int n, chan<int> c, std::atomic<int>& ready) {
  for (int i = 0; i < n; ++i) {
    go({.stack = stack_class::compact}, [c, &ready] {
      ++ready;
      c.recv();
    });
  }
  asm volatile("");
}

int64_t reserve(sched::stack_class cls) { return static_cast<int64_t>(sched::stack_reserve(cls)); }

TEST(StackProfile, KnowsSitesClassesAndBytes) {
  run({.max_procs = 2}, [] {
    chan<int> c(0);
    std::atomic<int> ready{0};
    spawns_deep_ones(10, c, ready);
    with_labels({{"team", "blue"}}, [&] { spawns_small_ones(20, c, ready); });
    while (ready.load() < 30) this_task::yield();
    // Until all of them are parked: the profile is what looks.
    profile_data p;
    do {
      this_task::yield();
      p = prof::stack_profile().collect({});
    } while (sum(p, used, "spawns_small_ones") == 0);
    EXPECT_EQ(sum(p, stacks, "spawns_deep_ones", "stack_class", "standard"), 10);
    EXPECT_EQ(sum(p, reserved, "spawns_deep_ones"), 10 * reserve(sched::stack_class::standard));
    EXPECT_GE(sum(p, resident, "spawns_deep_ones"), 10 * 200'000) << "what was used once is memory";
    EXPECT_LT(sum(p, used, "spawns_deep_ones"), 10 * 16'384) << "and is not in use any more";
    EXPECT_EQ(sum(p, stacks, "spawns_small_ones", "stack_class", "compact"), 20);
    EXPECT_EQ(sum(p, stacks, "spawns_small_ones", "team", "blue"), 20);
    EXPECT_EQ(sum(p, reserved, "spawns_small_ones"), 20 * reserve(sched::stack_class::compact));
    EXPECT_GE(sum(p, resident, "spawns_small_ones"), 20 * 4096);
    EXPECT_LE(sum(p, resident, "spawns_small_ones"), 20 * reserve(sched::stack_class::compact));
    for (const sample& s : p.samples) {
      EXPECT_LE(s.values[resident], s.values[reserved]);
      EXPECT_LE(s.values[used], s.values[reserved]);
    }
    c.close();
    while (num_tasks() > 1) this_task::yield();
    p = prof::stack_profile().collect({});
    EXPECT_EQ(sum(p, stacks, "spawns_deep_ones"), 0);
    int64_t free_stacks = 0;
    for (const sample& s : p.samples)
      if (s.pseudo_frame == "[free stacks]") free_stacks += s.values[stacks];
    EXPECT_GE(free_stacks, 30);
  });
}

TEST(StackProfile, GoToolReadsIt) {
  run({.max_procs = 2}, [] {
    chan<int> c(0);
    std::atomic<int> ready{0};
    spawns_small_ones(5, c, ready);
    while (ready.load() < 5) this_task::yield();
    const std::string bytes = written("stack", 0);
    EXPECT_TRUE(prof::test::valid_profile(bytes));
    const prof::test::go_tool go;
    const std::string file = go.write("stack.pb.gz", bytes);
    const auto top = go.pprof({"-top", "-symbolize=none"}, file);
    EXPECT_EQ(top.exit_status, 0) << top.out;
    EXPECT_TRUE(top.has("Type: resident\n") && top.has("spawns_small_ones")) << top.out;
    EXPECT_TRUE(go.pprof({"-tags"}, file).has("stack_class"));
    const auto text = go.pprof({"-top"}, go.write("stack.txt", written("stack", 1)));
    EXPECT_EQ(text.exit_status, 0) << text.out;
    c.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

}  // namespace
}  // namespace weft
