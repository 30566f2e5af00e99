// Profiles that a program makes itself: Go's rules for pprof.NewProfile, and Go's tool as the
// reader.
#include <gtest/gtest.h>
#include <weft/error.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/profile_check.h"

namespace weft {
namespace {

using pprof::profile;
using test::panic_of;

std::string written(const profile& p, int debug) {
  std::ostringstream out;
  p.write_to(out, debug);
  return out.str();
}

[[gnu::noinline]] void open_in_one_place(profile& p, const void* value) {
  p.add(value);
  asm volatile("");
}

[[gnu::noinline]] void wrapper(profile& p, const void* value) {
  p.add(value, 1);
  asm volatile("");
}

[[gnu::noinline]] void open_through_wrapper(profile& p, const void* value) {
  wrapper(p, value);
  asm volatile("");
}

TEST(UserProfile, NamesAreUniqueAndSomeAreTaken) {
  profile::create("unique_name");
  EXPECT_EQ(panic_of([] { profile::create("unique_name"); }),
            "pprof: NewProfile name already in use: unique_name");
  EXPECT_EQ(panic_of([] { profile::create(""); }), "pprof: NewProfile with empty name");
  for (const char* name :
       {"goroutine", "task", "heap", "allocs", "block", "mutex", "threadcreate", "taskcreate",
        "stack", "wait", "wall", "profile", "trace", "cmdline", "symbol"}) {
    EXPECT_EQ(panic_of([&] { profile::create(name); }),
              "pprof: NewProfile name already in use: " + std::string(name));
  }
}

TEST(UserProfile, IsFoundAndListedAtOnce) {
  EXPECT_EQ(pprof::lookup("listed"), nullptr);
  profile& p = profile::create("listed");
  EXPECT_EQ(pprof::lookup("listed"), &p);
  EXPECT_EQ(p.name(), "listed");
  EXPECT_EQ(p.description(), "");
  std::vector<profile*> all = pprof::profiles();
  EXPECT_EQ(std::count(all.begin(), all.end(), &p), 1);
  EXPECT_TRUE(std::ranges::is_sorted(all, {}, &profile::name));
  EXPECT_EQ(std::count_if(all.begin(), all.end(), [](profile* q) { return q->name() == "task"; }),
            0)
      << "an alias is not another profile";
}

TEST(UserProfile, CountsEntriesAndRefusesDuplicates) {
  profile& p = profile::create("entries");
  int a, b;
  p.add(&a);
  p.add(&b);
  EXPECT_EQ(p.count(), 2);
  EXPECT_EQ(panic_of([&] { p.add(&a); }), "pprof: Profile.Add of duplicate value");
  EXPECT_EQ(p.count(), 2);
  p.remove(&a);
  p.remove(&a);  // not there: nothing happens
  EXPECT_EQ(p.count(), 1);
  p.add(&a);
  EXPECT_EQ(p.count(), 2);
}

TEST(UserProfile, BuiltInProfilesTakeNoEntries) {
  int a;
  for (profile* p : pprof::profiles()) {
    if (p->description().empty()) continue;  // made by these tests
    EXPECT_EQ(panic_of([&] { p->add(&a); }),
              "pprof: Add called on built-in Profile " + std::string(p->name()));
    p->remove(&a);
  }
}

TEST(UserProfile, RecordsStacksAndLabelsOfTheCaller) {
  profile& p = profile::create("records");
  std::vector<int> values(7);
  run({.max_procs = 2}, [&] {
    for (int i = 0; i < 3; ++i) open_in_one_place(p, &values[static_cast<size_t>(i)]);
    with_labels({{"user", "alice \"a\""}}, [&] {
      for (int i = 3; i < 5; ++i) open_in_one_place(p, &values[static_cast<size_t>(i)]);
    });
    open_through_wrapper(p, &values[5]);
  });
  std::thread([&] { open_in_one_place(p, &values[6]); }).join();  // no task
  std::string text = written(p, 1);
  EXPECT_EQ(text.rfind("records profile: total 7\n3 @ 0x", 0), 0u) << text;
  EXPECT_NE(text.find("\n# labels: {\"user\":\"alice \\\"a\\\"\"}\n"), std::string::npos) << text;
  EXPECT_NE(text.find("open_in_one_place"), std::string::npos) << text;
  EXPECT_NE(text.find("open_through_wrapper"), std::string::npos) << text;
  EXPECT_EQ(text.find("::wrapper("), std::string::npos) << "skipped\n" << text;

  std::string bytes = written(p, 0);
  EXPECT_TRUE(prof::test::valid_profile(bytes));
  const auto decoded = prof::test::decode_profile(bytes);
  ASSERT_EQ(decoded.sample_type_size(), 1);
  EXPECT_EQ(decoded.string_table(static_cast<int>(decoded.sample_type(0).type())), "records");
  EXPECT_EQ(decoded.string_table(static_cast<int>(decoded.sample_type(0).unit())), "count");
  EXPECT_EQ(decoded.period(), 1);
  EXPECT_NE(decoded.time_nanos(), 0);
  EXPECT_EQ(decoded.duration_nanos(), 0);
  int64_t sum = 0;
  for (const auto& s : decoded.sample()) sum += s.value(0);
  EXPECT_EQ(sum, 7);
}

TEST(UserProfile, GoToolReadsBothForms) {
  profile& p = profile::create("tooled");
  std::vector<int> values(3);
  run([&] {
    with_labels({{"user", "alice"}}, [&] {
      for (int& v : values) open_in_one_place(p, &v);
    });
  });
  const prof::test::go_tool go;
  const std::string file = go.write("tooled.pb.gz", written(p, 0));
  auto top = go.pprof({"-top", "-symbolize=none"}, file);
  EXPECT_EQ(top.exit_status, 0) << top.out;
  EXPECT_TRUE(top.has("Type: tooled\n")) << top.out;
  EXPECT_TRUE(top.has("100% of 3 total")) << top.out;
  EXPECT_TRUE(top.has("open_in_one_place")) << top.out;
  EXPECT_TRUE(go.pprof({"-tags"}, file).has("user: Total 3")) << go.pprof({"-tags"}, file).out;
  auto list = go.pprof({"-list=open_in_one_place"}, file);
  EXPECT_TRUE(list.has("ROUTINE") && list.has("user_profile_test.cc")) << list.out;
  EXPECT_TRUE(go.pprof({"-traces"}, file).has("open_in_one_place"));
  EXPECT_TRUE(go.pprof({"-raw"}, file).has("PeriodType: tooled count\n"));
  auto text = go.pprof({"-top"}, go.write("tooled.txt", written(p, 1)));
  EXPECT_EQ(text.exit_status, 0) << text.out;
  EXPECT_TRUE(text.has("of 3 total")) << text.out;
}

TEST(UserProfile, SkippingEverythingLeavesARecordAllTheSame) {
  profile& p = profile::create("skipped");
  int a, b;
  p.add(&a, 1'000'000);
  p.add(&b, -5);  // no less than the caller
  EXPECT_EQ(p.count(), 2);
  EXPECT_TRUE(prof::test::valid_profile(written(p, 0)));
  const prof::test::go_tool go;
  EXPECT_EQ(go.pprof({"-top"}, go.write("skipped.txt", written(p, 1))).exit_status, 0);
}

TEST(UserProfile, AddRemoveAndReadFromManyTasks) {
  profile& p = profile::create("crowd");
  constexpr int tasks = 8, rounds = 200;
  std::vector<std::vector<int>> values(tasks, std::vector<int>(rounds));
  run({.max_procs = 2}, [&] {
    wait_group all;
    for (int t = 0; t < tasks; ++t) {
      all.go([&, t] {
        for (int& v : values[static_cast<size_t>(t)]) {
          p.add(&v);
          this_task::yield();
        }
        for (int i = 0; i < rounds; i += 2)
          p.remove(&values[static_cast<size_t>(t)][static_cast<size_t>(i)]);
      });
    }
    for (int i = 0; i < 20; ++i) {
      EXPECT_TRUE(prof::test::valid_profile(written(p, 0)));
      this_task::yield();
    }
    all.wait();
  });
  EXPECT_EQ(p.count(), tasks * rounds / 2);
}

}  // namespace
}  // namespace weft
