// profile.proto: decoded again and held against the rules readers rely on, then given to go tool
// pprof.
#include "profiler/pprof_encoder.h"

#include <gtest/gtest.h>

#include <random>
#include <stdexcept>

#include "tests/unit/profiler/fake_symbols.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/make_sample.h"
#include "tests/unit/profiler/profile_check.h"

namespace weft::prof {
namespace {

using test::decode_profile;
using test::fake_symbols;
using test::go_tool;
using test::make_sample;
using test::profile_checker;
using test::tool_result;
using test::valid_profile;

constexpr int64_t start_time = 1'700'000'000'000'000'000;

// A program with everything that makes C++ names hard, a library without line tables, and a vdso.
struct world {
  fake_symbols symbols;
  world() {
    symbols.maps = {{0x7f0000, 0x7f9000, 0, "/opt/demo/libdemo.so.6", "c0ffee"},
                    {0x401000, 0x409000, 0x1000, "/app/server", "0123abcd"},
                    {0x7ff000, 0x7ff800, 0, "[vdso]", ""}};
    symbols.main = "/app/server";
    symbols.add(0x401010, "weft::sched::park()", "/weft/park.cc", 5, 0x10);
    symbols.add(0x402020, "weft::chan<std::vector<int, std::allocator<int> > >::recv()",
                "/weft/chan.h", 77, 0x20, "_ZN4weft4chanISt6vectorIiSaIiEEE4recvEv");
    symbols.add(0x403030, "shortlink::run()::{lambda(int)#1}::operator()(int) const", "/app/run.cc",
                41, 0x30, "_ZZN9shortlink3runEvENKUliE_clEi");
    symbols.inline_at(0x403030, "(anonymous namespace)::parse(int)", "/app/parse.cc", 9,
                      "_ZN12_GLOBAL__N_15parseEi");
    symbols.add(0x404040, "main", "/app/main.cc", 12, 0x40, "main");
    symbols.add(0x405050, "weft_task_main", "/weft/task.cc", 3, 0x50, "weft_task_main");
    symbols.add(0x7f0100, "epoll_wait", "", 0, 0x10, "epoll_wait");
    // The symbolizer knew only the display name.
    symbols.add(0x406060, "std::map<int, a[3]>::find(int const&)", "/std/map.h", 1, 0x60,
                "std::map<int, a[3]>::find(int const&)");
  }
};

const std::vector<uintptr_t> worker_stack = {0x401011, 0x402021, 0x403031, 0x405051};

std::vector<std::string> names_of(const pb::Profile& p, const pb::Sample& s) {
  std::vector<std::string> names;
  for (uint64_t id : s.location_id()) {
    for (const pb::Line& line : p.location(static_cast<int>(id - 1)).line()) {
      names.push_back(p.string_table(
          static_cast<int>(p.function(static_cast<int>(line.function_id() - 1)).name())));
    }
  }
  return names;
}

std::string string_at(const pb::Profile& p, int64_t index) {
  return p.string_table(static_cast<int>(index));
}

TEST(Encode, CpuProfileHasGoShape) {
  const world w;
  std::vector<sample> counts = {make_sample({0x402020, 0x403031, 0x405051}, {3}, {{"role", "w"}})};
  counts[0].leaf_is_exact = true;
  const std::string bytes =
      encode(cpu_profile(counts, 100, {start_time, 1'000'000'000}), w.symbols);
  ASSERT_TRUE(valid_profile(bytes));
  const pb::Profile p = decode_profile(bytes);
  ASSERT_EQ(p.sample_type_size(), 2);
  EXPECT_EQ(string_at(p, p.sample_type(0).type()), "samples");
  EXPECT_EQ(string_at(p, p.sample_type(0).unit()), "count");
  EXPECT_EQ(string_at(p, p.sample_type(1).type()), "cpu");
  EXPECT_EQ(string_at(p, p.sample_type(1).unit()), "nanoseconds");
  EXPECT_EQ(string_at(p, p.period_type().type()), "cpu");
  EXPECT_EQ(p.period(), 10'000'000);
  EXPECT_EQ(p.time_nanos(), start_time);
  EXPECT_EQ(p.duration_nanos(), 1'000'000'000);
  EXPECT_EQ(p.default_sample_type(), 0);
  EXPECT_EQ(p.comment_size(), 0);
  EXPECT_EQ(p.drop_frames(), 0);
  ASSERT_EQ(p.sample_size(), 1);
  EXPECT_EQ(p.sample(0).value(0), 3);
  EXPECT_EQ(p.sample(0).value(1), 30'000'000);
  ASSERT_EQ(p.sample(0).label_size(), 1);
  EXPECT_EQ(string_at(p, p.sample(0).label(0).key()), "role");
  EXPECT_EQ(string_at(p, p.sample(0).label(0).str()), "w");
  // The exact leaf as it is, the caller one less, the task's entry not at all.
  ASSERT_EQ(p.sample(0).location_id_size(), 2);
  EXPECT_EQ(p.location(0).address(), 0x402020u);
  EXPECT_EQ(p.location(1).address(), 0x403030u);
}

TEST(Encode, InnermostInlinedFunctionIsTheFirstLine) {
  const world w;
  const pb::Profile p = decode_profile(
      encode(count_profile("goroutine", {make_sample(worker_stack, {1})}, 0), w.symbols));
  ASSERT_EQ(p.sample_size(), 1);
  EXPECT_EQ(names_of(p, p.sample(0)),
            (std::vector<std::string>{"weft::chan<std::vector<int, std::allocator<int> > >::recv()",
                                      "(anonymous namespace)::parse(int)",
                                      "shortlink::run()::{lambda(int)#1}::operator()(int) const"}));
  EXPECT_EQ(p.location(1).line_size(), 2);
  EXPECT_EQ(p.location(1).line(0).line(), 9);
  EXPECT_EQ(p.location(1).line(1).line(), 41);
  EXPECT_EQ(p.function(0).start_line(), 75);
}

TEST(Encode, MainBinaryIsTheFirstMapping) {
  const world w;
  const pb::Profile p = decode_profile(
      encode(count_profile("goroutine", {make_sample(worker_stack, {1})}, 0), w.symbols));
  ASSERT_EQ(p.mapping_size(), 3);
  EXPECT_EQ(string_at(p, p.mapping(0).filename()), "/app/server");
  EXPECT_EQ(string_at(p, p.mapping(0).build_id()), "0123abcd");
  EXPECT_EQ(p.mapping(0).memory_start(), 0x401000u);
  EXPECT_EQ(p.mapping(0).file_offset(), 0x1000u);
  EXPECT_EQ(string_at(p, p.mapping(1).filename()), "/opt/demo/libdemo.so.6");
  EXPECT_EQ(string_at(p, p.mapping(2).filename()), "[vdso]");
}

TEST(Encode, HasFunctionsIsHonestForEachMapping) {
  const world w;
  const std::string bytes = encode(
      count_profile("goroutine", {make_sample({0x7f0101, 0x402021, 0x404041}, {1})}, 0), w.symbols);
  EXPECT_TRUE(valid_profile(bytes));
  const pb::Profile p = decode_profile(bytes);
  EXPECT_TRUE(p.mapping(0).has_functions());
  EXPECT_FALSE(p.mapping(1).has_functions()) << "the library has a name but no file and line";
  EXPECT_FALSE(p.mapping(2).has_functions()) << "nothing was looked up in the vdso";
}

TEST(Encode, UnknownAddressesHaveNoLines) {
  const world w;
  const std::string bytes =
      encode(count_profile("goroutine", {make_sample({0x408001, 0x9999991}, {1})}, 0), w.symbols);
  EXPECT_TRUE(valid_profile(bytes));
  const pb::Profile p = decode_profile(bytes);
  EXPECT_EQ(p.location(0).mapping_id(), 1u);
  EXPECT_EQ(p.location(0).line_size(), 0);
  EXPECT_FALSE(p.mapping(0).has_functions());
  EXPECT_EQ(p.location(1).mapping_id(), 0u);
}

TEST(Encode, WithoutMappingsOneFakeMappingHoldsAll) {
  world w;
  w.symbols.maps.clear();
  const std::string bytes =
      encode(count_profile("goroutine", {make_sample(worker_stack, {1})}, 0), w.symbols);
  EXPECT_TRUE(valid_profile(bytes));
  const pb::Profile p = decode_profile(bytes);
  ASSERT_EQ(p.mapping_size(), 1);
  EXPECT_EQ(p.mapping(0).id(), 1u);
  EXPECT_EQ(p.mapping(0).memory_limit(), 0u);
  EXPECT_EQ(p.location(0).mapping_id(), 1u);
}

TEST(Encode, SystemNameDiffersWhereTheToolWouldRewrite) {
  const world w;
  const pb::Profile p = decode_profile(
      encode(count_profile("goroutine", {make_sample({0x406061, 0x402021, 0x404041}, {1})}, 0),
             w.symbols));
  ASSERT_EQ(p.function_size(), 3);
  EXPECT_EQ(string_at(p, p.function(0).name()), "std::map<int, a[3]>::find(int const&)");
  EXPECT_EQ(string_at(p, p.function(0).system_name()), "");
  EXPECT_EQ(string_at(p, p.function(1).system_name()), "_ZN4weft4chanISt6vectorIiSaIiEEE4recvEv");
  EXPECT_EQ(string_at(p, p.function(2).name()), "main");
  EXPECT_EQ(string_at(p, p.function(2).system_name()), "main");
}

TEST(Encode, TruncatedAndEmptyStacksAreVisible) {
  const world w;
  sample cut = make_sample({0x402021, 0x405051}, {1});
  cut.truncated = true;
  sample lost = make_sample({}, {4});
  lost.pseudo_frame = "[lost samples]";
  const std::string bytes =
      encode(count_profile("goroutine", {cut, make_sample({}, {2}), lost}, 0), w.symbols);
  EXPECT_TRUE(valid_profile(bytes));
  const pb::Profile p = decode_profile(bytes);
  ASSERT_EQ(p.sample_size(), 3);
  // What looks like a task's entry may be anything in a stack whose root is missing.
  EXPECT_EQ(names_of(p, p.sample(0)).back(), "[truncated stack]");
  EXPECT_EQ(names_of(p, p.sample(0)).size(), 3u);
  EXPECT_EQ(names_of(p, p.sample(1)), std::vector<std::string>{"[no stack]"});
  EXPECT_EQ(names_of(p, p.sample(2)), std::vector<std::string>{"[lost samples]"});
}

TEST(Encode, SamplesThatShowTheSameAreSummed) {
  const world w;
  // Two ways of parking that are hidden, one visible stack; labels keep samples apart.
  const std::string bytes =
      encode(count_profile("goroutine",
                           {make_sample({0x401011, 0x402021}, {2}), make_sample({0x402021}, {5}),
                            make_sample({0x402021}, {1}, {{"role", "w"}}),
                            make_sample({0x402021}, {1}, {{"role", "w"}})},
                           0),
             w.symbols);
  EXPECT_TRUE(valid_profile(bytes));
  const pb::Profile p = decode_profile(bytes);
  ASSERT_EQ(p.sample_size(), 2);
  EXPECT_EQ(p.sample(0).value(0), 7);
  EXPECT_EQ(p.sample(1).value(0), 2);
}

TEST(Encode, RecursionRepeatsTheLocation) {
  const world w;
  const pb::Profile p = decode_profile(encode(
      count_profile("goroutine", {make_sample({0x402021, 0x404041, 0x404041, 0x404041}, {1})}, 0),
      w.symbols));
  EXPECT_EQ(p.sample(0).location_id_size(), 4);
  EXPECT_EQ(p.location_size(), 2);
}

// A public function with an internal one inlined into it: one address, two views.
TEST(Encode, InlinedRuntimeFrameIsHiddenAtTheLeafOnly) {
  world w;
  w.symbols.inline_at(0x402020, "weft::detail::wait_list::park()", "/weft/wait.h", 8);
  const std::string bytes = encode(
      count_profile(
          "goroutine",
          {make_sample({0x402021, 0x404041}, {1}), make_sample({0x404041, 0x402021}, {1})}, 0),
      w.symbols);
  EXPECT_TRUE(valid_profile(bytes));
  const pb::Profile p = decode_profile(bytes);
  EXPECT_EQ(names_of(p, p.sample(0)).front(),
            "weft::chan<std::vector<int, std::allocator<int> > >::recv()");
  EXPECT_EQ(names_of(p, p.sample(1))[1], "weft::detail::wait_list::park()");
}

TEST(Encode, CpuProfileKeepsTheRuntimeAtTheLeaf) {
  const world w;
  const pb::Profile p =
      decode_profile(encode(cpu_profile({make_sample(worker_stack, {1})}, 100, {1, 1}), w.symbols));
  EXPECT_EQ(names_of(p, p.sample(0)).front(), "weft::sched::park()");
}

TEST(Encode, NoSamplesIsAProfileToo) {
  const world w;
  const std::string bytes = encode(contention_profile({}, start_time), w.symbols);
  EXPECT_TRUE(valid_profile(bytes));
  EXPECT_EQ(decode_profile(bytes).sample_type_size(), 2);
}

TEST(Encode, LabelsThatAreNotUtf8AreRepaired) {
  const world w;
  const std::string bytes =
      encode(count_profile("goroutine", {make_sample(worker_stack, {1}, {{"user", "\xffx"}})}, 0),
             w.symbols);
  EXPECT_TRUE(valid_profile(bytes));
  const pb::Profile p = decode_profile(bytes);
  EXPECT_EQ(string_at(p, p.sample(0).label(0).str()), "\xef\xbf\xbdx");
}

TEST(Encode, NumericLabels) {
  const world w;
  sample s = make_sample(worker_stack, {4, 4096, 3, 3072});
  s.numbers = {{"bytes", 1024, ""}, {"task", 7, "id"}};
  const std::string bytes = encode(heap_profile({s}, 524288, false, start_time), w.symbols);
  EXPECT_TRUE(valid_profile(bytes));
  const pb::Profile p = decode_profile(bytes);
  ASSERT_EQ(p.sample(0).label_size(), 2);
  EXPECT_EQ(p.sample(0).label(0).num(), 1024);
  EXPECT_EQ(p.sample(0).label(0).num_unit(), 0);
  EXPECT_EQ(string_at(p, p.sample(0).label(1).num_unit()), "id");
}

TEST(Encode, WrongNumberOfValuesIsRefused) {
  const world w;
  profile_data data = contention_profile({make_sample(worker_stack, {1})}, 0);
  try {
    encode(data, w.symbols);
    FAIL() << "accepted";
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "profile sample has 1 values, the profile has 2 sample types");
  }
}

TEST(Encode, RandomProfilesKeepTheRulesAndTheirTotals) {
  world w;
  std::mt19937 random(99);
  const uintptr_t known[] = {0x401010, 0x402020, 0x403030, 0x404040, 0x405050,
                             0x406060, 0x7f0100, 0x408000, 0x123};
  const auto below = [&](unsigned n) {
    return std::uniform_int_distribution<unsigned>(0, n - 1)(random);
  };
  for (int round = 0; round < 200; ++round) {
    profile_data data = contention_profile({}, start_time);
    data.leaf = below(2) == 0 ? leaf_frames::all : leaf_frames::hide_runtime;
    int64_t total = 0;
    for (unsigned n = below(40); n > 0; --n) {
      sample s = make_sample({}, {1, below(1000)});
      for (unsigned depth = below(6); depth > 0; --depth)
        s.pcs.push_back(known[below(std::size(known))] + 1);
      s.leaf_is_exact = below(2) == 0;
      if (s.leaf_is_exact && !s.pcs.empty()) --s.pcs[0];
      s.truncated = below(4) == 0;
      if (below(2) == 0) s.labels = {{"k", std::to_string(below(3))}};
      total += s.values[1];
      data.samples.push_back(s);
    }
    const std::string bytes = encode(data, w.symbols);
    ASSERT_TRUE(valid_profile(bytes)) << "round " << round;
    const pb::Profile p = decode_profile(bytes);
    for (const pb::Sample& s : p.sample()) total -= s.value(1);
    ASSERT_EQ(total, 0);
  }
}

// A profile written by hand from the format's field numbers: our schema must read it the same way.
TEST(Schema, ReadsTheGoldenProfile) {
  constexpr unsigned char golden[] = {
      0x0a, 0x04, 0x08, 0x01, 0x10, 0x02, 0x0a, 0x04, 0x08, 0x03, 0x10, 0x04, 0x12, 0x11, 0x08,
      0x01, 0x08, 0x02, 0x10, 0x03, 0x10, 0x80, 0x87, 0xa7, 0x0e, 0x1a, 0x04, 0x08, 0x08, 0x10,
      0x09, 0x1a, 0x0d, 0x08, 0x01, 0x10, 0x80, 0x20, 0x18, 0x80, 0xa0, 0x02, 0x28, 0x05, 0x38,
      0x01, 0x22, 0x0d, 0x08, 0x01, 0x10, 0x01, 0x18, 0x80, 0x40, 0x22, 0x04, 0x08, 0x01, 0x10,
      0x07, 0x22, 0x0d, 0x08, 0x02, 0x10, 0x01, 0x18, 0x90, 0x40, 0x22, 0x04, 0x08, 0x02, 0x10,
      0x09, 0x2a, 0x06, 0x08, 0x01, 0x10, 0x06, 0x18, 0x06, 0x2a, 0x06, 0x08, 0x02, 0x10, 0x07,
      0x18, 0x07, 0x32, 0x00, 0x32, 0x07, 0x73, 0x61, 0x6d, 0x70, 0x6c, 0x65, 0x73, 0x32, 0x05,
      0x63, 0x6f, 0x75, 0x6e, 0x74, 0x32, 0x03, 0x63, 0x70, 0x75, 0x32, 0x0b, 0x6e, 0x61, 0x6e,
      0x6f, 0x73, 0x65, 0x63, 0x6f, 0x6e, 0x64, 0x73, 0x32, 0x02, 0x2f, 0x70, 0x32, 0x01, 0x66,
      0x32, 0x04, 0x6d, 0x61, 0x69, 0x6e, 0x32, 0x04, 0x72, 0x6f, 0x6c, 0x65, 0x32, 0x01, 0x77,
      0x48, 0x80, 0x80, 0xa8, 0xb1, 0xe3, 0x9f, 0xe7, 0xcb, 0x17, 0x50, 0x80, 0x94, 0xeb, 0xdc,
      0x03, 0x5a, 0x04, 0x08, 0x03, 0x10, 0x04, 0x60, 0x80, 0xad, 0xe2, 0x04};
  const std::string bytes(std::begin(golden), std::end(golden));
  const pb::Profile p = decode_profile(bytes);
  EXPECT_EQ(p.time_nanos(), start_time);
  EXPECT_EQ(p.duration_nanos(), 1'000'000'000);
  EXPECT_EQ(p.period(), 10'000'000);
  ASSERT_EQ(p.sample_size(), 1);
  EXPECT_EQ(p.sample(0).value(1), 30'000'000);
  EXPECT_EQ(names_of(p, p.sample(0)), (std::vector<std::string>{"f", "main"}));
  EXPECT_EQ(string_at(p, p.sample(0).label(0).key()), "role");
  EXPECT_EQ(string_at(p, p.mapping(0).filename()), "/p");
  EXPECT_TRUE(p.mapping(0).has_functions());
  EXPECT_EQ(p.location(1).address(), 0x2010u);
  EXPECT_EQ(p.location(1).line(0).line(), 9);
  // Our own profile of the same program is the same to the tool.
  fake_symbols symbols;
  symbols.maps = {{0x1000, 0x9000, 0, "/p", ""}};
  symbols.add(0x2000, "f", "", 7, 0, "f");
  symbols.add(0x2010, "main", "", 9, 0, "main");
  std::vector<sample> counts = {make_sample({0x2000, 0x2011}, {3}, {{"role", "w"}})};
  counts[0].leaf_is_exact = true;
  const go_tool go;
  const tool_result expected = go.pprof({"-traces"}, go.write("golden", bytes));
  const tool_result ours = go.pprof(
      {"-traces", "-symbolize=none"},
      go.write("ours", encode(cpu_profile(counts, 100, {start_time, 1'000'000'000}), symbols)));
  EXPECT_EQ(expected.exit_status, 0) << expected.out;
  EXPECT_TRUE(expected.has("Duration: 1s, Total samples = 30ms ( 3.00%)")) << expected.out;
  EXPECT_EQ(ours.out, expected.out);
}

TEST(ProfileKinds, TypesOfEveryKind) {
  EXPECT_EQ(heap_profile({}, 524288, false, 1).default_sample_type, "");
  const profile_data allocs = heap_profile({}, 524288, true, 1);
  EXPECT_EQ(allocs.default_sample_type, "alloc_space");
  EXPECT_EQ(allocs.sample_types, (std::vector<value_type>{{"alloc_objects", "count"},
                                                          {"alloc_space", "bytes"},
                                                          {"inuse_objects", "count"},
                                                          {"inuse_space", "bytes"}}));
  EXPECT_EQ(allocs.period_type, (value_type{"space", "bytes"}));
  EXPECT_EQ(allocs.period, 524288);
  const profile_data threads = count_profile("threadcreate", {}, 1);
  EXPECT_EQ(threads.sample_types, (std::vector<value_type>{{"threadcreate", "count"}}));
  EXPECT_EQ(threads.period, 1);
  EXPECT_EQ(cpu_profile({}, 99, {1, 2}).period, 10'101'010);
  EXPECT_THROW(cpu_profile({}, 0, {1, 2}), std::invalid_argument);
  EXPECT_THROW(cpu_profile({}, 1'000'000'001, {1, 2}), std::invalid_argument);
}

TEST(ProfileKinds, DeltaKeepsNegativeValuesAndDropsZeros) {
  const label_list labels = {{"k", "v"}};
  const profile_data first = count_profile(
      "goroutine", {make_sample({1, 2}, {5}), make_sample({3}, {2}), make_sample({3}, {1}, labels)},
      100);
  const profile_data second = count_profile(
      "goroutine", {make_sample({1, 2}, {5}), make_sample({3}, {9}), make_sample({4}, {1})}, 350);
  const profile_data delta = delta_profile(first, second);
  EXPECT_EQ(delta.time_nanos, 350);
  EXPECT_EQ(delta.duration_nanos, 250);
  ASSERT_EQ(delta.samples.size(), 3u);
  EXPECT_EQ(delta.samples[0].values[0], 7);
  EXPECT_EQ(delta.samples[1].values[0], 1);
  EXPECT_EQ(delta.samples[2].values[0], -1);
  EXPECT_EQ(delta.samples[2].labels, labels);
  EXPECT_THROW(delta_profile(first, contention_profile({}, 1)), std::invalid_argument);
}

TEST(Gzip, RoundTripAtEveryLevel) {
  std::string data;
  for (int i = 0; i < 50000; ++i) data += std::to_string(i * 7919);
  for (int level = 1; level <= 9; ++level) EXPECT_EQ(test::gunzip(gzip(data, level)), data);
  EXPECT_EQ(test::gunzip(gzip("")), "");
  EXPECT_THROW(gzip("", 0), std::invalid_argument);
}

// The checker must see what it claims to see.
TEST(ProfileChecker, FindsEachKindOfDamage) {
  const world w;
  const pb::Profile good = decode_profile(encode(
      count_profile("goroutine", {make_sample(worker_stack, {1}, {{"k", "v"}})}, 7), w.symbols));
  const auto problems = [](const pb::Profile& p) {
    return profile_checker(p.SerializeAsString()).problems().size();
  };
  ASSERT_EQ(problems(good), 0u);
  const auto damaged = [&](auto change) {
    pb::Profile p = good;
    change(p);
    return problems(p) > 0;
  };
  EXPECT_TRUE(damaged([](pb::Profile& p) { p.set_string_table(0, "x"); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) { p.mutable_sample(0)->add_value(1); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) { p.mutable_sample(0)->add_location_id(99); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) { p.mutable_location(0)->set_id(0); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) { p.mutable_location(0)->set_mapping_id(9); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) { p.mutable_location(0)->set_address(1); }));
  EXPECT_TRUE(
      damaged([](pb::Profile& p) { p.mutable_location(0)->mutable_line(0)->set_function_id(77); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) {
    for (pb::Location& l : *p.mutable_location()) l.mutable_line(0)->set_line(0);
  }));
  EXPECT_TRUE(damaged(
      [](pb::Profile& p) { p.mutable_function(0)->set_system_name(p.function(0).name()); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) { p.mutable_function(1)->set_id(1); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) { p.mutable_mapping(0)->set_has_functions(false); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) { p.mutable_mapping(1)->set_has_functions(true); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) { *p.add_sample() = p.sample(0); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) { p.mutable_sample(0)->mutable_label(0)->set_key(0); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) { p.clear_sample_type(); }));
  EXPECT_TRUE(damaged([](pb::Profile& p) { p.set_default_sample_type(1000); }));
  const std::string twice = good.SerializeAsString() + "\x48\x01";
  EXPECT_EQ(profile_checker(twice).problems(), std::vector<std::string>{"time_nanos twice"});
  EXPECT_FALSE(profile_checker("junk").problems().empty());
}

// --- go tool pprof -------------------------------------------------------------------------------

// Without -symbolize=none on purpose: the step that symbolizes is the one that rewrites names.
TEST(GoTool, CxxNamesSurvive) {
  const world w;
  const go_tool go;
  const std::string file =
      go.write("cpu.pb.gz",
               gzip(encode(cpu_profile({make_sample({0x406061, 0x402021, 0x403031, 0x404041}, {3})},
                                       100, {start_time, 1'000'000'000}),
                           w.symbols)));
  for (const char* mode :
       {"-symbolize=local", "-symbolize=demangle=full", "-symbolize=demangle=none"}) {
    const tool_result top = go.pprof({"-top", mode}, file);
    EXPECT_EQ(top.exit_status, 0) << top.out;
    for (const char* name :
         {"std::map<int, a[3]>::find(int const&)", "  main\n", "(anonymous namespace)::parse(int)",
          "shortlink::run()::{lambda(int)#1}::operator()(int) const",
          "weft::chan<std::vector<int, std::allocator<int> > >::recv()"}) {
      EXPECT_TRUE(top.has(name)) << mode << " lost " << name << ":\n" << top.out;
    }
  }
}

TEST(GoTool, CpuProfileTopRawTracesTags) {
  const world w;
  const go_tool go;
  sample cut = make_sample({0x7f0101, 0x404041}, {1});
  cut.truncated = true;
  const std::string file = go.write(
      "cpu.pb.gz", gzip(encode(cpu_profile({make_sample({0x402021, 0x404041, 0x405051}, {6},
                                                        {{"role", "worker"}, {"team", "a\"b"}}),
                                            make_sample({0x404041, 0x405051}, {3}), cut},
                                           100, {start_time, 1'000'000'000}),
                               w.symbols)));
  tool_result result = go.pprof({"-top"}, file);
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_TRUE(result.has("File: server\n")) << result.out;
  EXPECT_TRUE(result.has("Build ID: 0123abcd\n")) << result.out;
  EXPECT_TRUE(result.has("Type: cpu\n")) << result.out;
  EXPECT_TRUE(result.has("Duration: 1s, Total samples = 100ms (10.00%)\n")) << result.out;
  EXPECT_TRUE(result.has("60ms 60.00% 60.00%       60ms 60.00%  weft::chan<")) << result.out;
  EXPECT_TRUE(result.has("30ms 30.00% 90.00%      100ms   100%  main\n")) << result.out;
  EXPECT_TRUE(result.has("10ms 10.00%   100%       10ms 10.00%  epoll_wait\n")) << result.out;
  EXPECT_TRUE(result.has("[truncated stack]\n")) << result.out;
  EXPECT_FALSE(result.has("weft_task_main")) << result.out;

  result = go.pprof({"-raw"}, file);
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_TRUE(result.has("PeriodType: cpu nanoseconds\nPeriod: 10000000\n")) << result.out;
  EXPECT_TRUE(result.has("samples/count cpu/nanoseconds\n")) << result.out;
  EXPECT_TRUE(result.has("0x404040 M=1 main /app/main.cc:12 s=10")) << result.out;
  EXPECT_TRUE(result.has("1: 0x401000/0x409000/0x1000 /app/server 0123abcd [FN]\n")) << result.out;
  EXPECT_TRUE(result.has("2: 0x7f0000/0x7f9000/0x0 /opt/demo/libdemo.so.6 c0ffee \n"))
      << result.out;

  result = go.pprof({"-traces"}, file);
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_TRUE(result.has("role:  worker\n")) << result.out;
  EXPECT_TRUE(result.has("30ms   main\n")) << result.out;

  result = go.pprof({"-tags"}, file);
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_TRUE(result.has("role: Total 60.0ms")) << result.out;
  EXPECT_TRUE(result.has("60.0ms (  100%): worker")) << result.out;

  result = go.pprof({"-top", "-tagfocus=role=worker"}, file);
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_TRUE(result.has("Showing nodes accounting for 60ms, 60.00% of 100ms total")) << result.out;
}

TEST(GoTool, EveryKindIsRead) {
  const world w;
  const go_tool go;
  struct {
    const char* file;
    profile_data data;
    const char* expected;
  } cases[] = {
      {"goroutine", count_profile("goroutine", {make_sample(worker_stack, {42})}, start_time),
       "42 total"},
      {"threadcreate", count_profile("threadcreate", {make_sample(worker_stack, {7})}, start_time),
       "7 total"},
      {"mutex", contention_profile({make_sample(worker_stack, {2, 3'000'000'000})}, start_time),
       "3s total"},
      {"heap",
       heap_profile({make_sample(worker_stack, {4, 8192, 2, 4096})}, 524288, false, start_time),
       "4kB total"},
      {"allocs",
       heap_profile({make_sample(worker_stack, {4, 8192, 2, 4096})}, 524288, true, start_time),
       "8kB total"},
      {"empty", count_profile("goroutine", {}, start_time), "of 0 total"},
      {"delta",
       delta_profile(count_profile("goroutine", {make_sample(worker_stack, {42})}, start_time),
                     count_profile("goroutine", {make_sample(worker_stack, {40})},
                                   start_time + 1'000'000'000)),
       "2 total"},
  };
  for (const auto& c : cases) {
    const std::string bytes = encode(c.data, w.symbols);
    EXPECT_TRUE(valid_profile(bytes)) << c.file;
    const tool_result result = go.pprof({"-top"}, go.write(c.file, gzip(bytes)));
    EXPECT_EQ(result.exit_status, 0) << c.file << "\n" << result.out;
    EXPECT_TRUE(result.has(c.expected)) << c.file << "\n" << result.out;
    EXPECT_TRUE(result.has("File: server\n")) << c.file << "\n" << result.out;
  }
}

TEST(GoTool, ProfileWithoutMappingsIsRead) {
  world w;
  w.symbols.maps.clear();
  w.symbols.main.clear();
  const go_tool go;
  const tool_result result = go.pprof(
      {"-top"},
      go.write("p", encode(count_profile("goroutine", {make_sample(worker_stack, {42})}, 0),
                           w.symbols)));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_TRUE(result.has("42 total")) << result.out;
}

}  // namespace
}  // namespace weft::prof
