// From this process's own stack to what Go's tools print: unwinder, symbolizer and encoders
// together.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "profiler/pprof_encoder.h"
#include "profiler/task_dump.h"
#include "profiler/text_format.h"
#include "profiler/unwind.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/own_stack.h"
#include "tests/unit/profiler/profile_check.h"

namespace live_test {

using captured = std::vector<uintptr_t>;

[[gnu::noinline]] captured capture(int) {
  captured pcs(128);
  pcs.resize(weft::prof::unwind_here(weft::prof::test::own_stack(), pcs).depth);
  return pcs;
}

template <typename T>
[[gnu::noinline]] captured through_template(std::vector<T> values) {
  captured pcs = capture(static_cast<int>(values.size()));
  asm volatile("" : : "r"(pcs.data()) : "memory");
  return pcs;
}

namespace {
[[gnu::noinline]] captured through_lambda() {
  const auto body = [](int n) __attribute__((noinline)) {
    captured pcs = through_template(std::vector<long>(static_cast<size_t>(n)));
    asm volatile("" : : "r"(pcs.data()) : "memory");
    return pcs;
  };
  captured pcs = body(3);
  asm volatile("" : : "r"(pcs.data()) : "memory");
  return pcs;
}
}  // namespace

}  // namespace live_test

namespace weft::prof {
namespace {

using test::go_tool;
using test::tool_result;
using test::valid_profile;

sample live_sample() {
  unwind_refresh();
  sample s;
  s.pcs = live_test::through_lambda();
  s.values = {1};
  return s;
}

constexpr const char* expected_names[] = {
    "live_test::capture(int)",
    "live_test::through_template<long>(std::vector<long, std::allocator<long> >)",
    "::through_lambda()",
};

TEST(LiveProfile, IsValidAndReadByTheTool) {
  const sample s = live_sample();
  ASSERT_GE(s.pcs.size(), 4u);
  const std::string bytes =
      gzip(encode(count_profile("goroutine", {s}, 1'700'000'000'000'000'000)));
  EXPECT_TRUE(valid_profile(bytes));
  const go_tool go;
  const std::string file = go.write("goroutine.pb.gz", bytes);
  const tool_result top = go.pprof({"-top", "-nodecount=100"}, file);
  EXPECT_EQ(top.exit_status, 0) << top.out;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").filename();
  EXPECT_TRUE(top.has("File: " + self + "\n")) << top.out;
  const tool_result raw = go.pprof({"-raw", "-symbolize=none"}, file);
  for (const char* name : expected_names) EXPECT_TRUE(raw.has(name)) << name << "\n" << raw.out;
  EXPECT_TRUE(raw.has("live_profile_test.cc:")) << raw.out;
}

TEST(LiveProfile, TextNamesFilesAndLines) {
  std::string text;
  const text_sink sink = [&](std::string_view piece) {
    text += piece;
    return true;
  };
  const sample s = live_sample();
  EXPECT_TRUE(write_count_text(sink, "goroutine", std::span(&s, 1)));
  for (const char* name : expected_names) EXPECT_NE(text.find(name), std::string::npos) << text;
  EXPECT_NE(text.find("live_profile_test.cc:"), std::string::npos) << text;

  text.clear();
  task_dump_writer dump(sink);
  task_snapshot task;
  task.id = 1;
  task.status = "running";
  task.pcs = s.pcs;
  EXPECT_TRUE(dump.add(task) && dump.finish());
  const size_t frame = text.find("\nlive_test::capture(...)\n\t");
  ASSERT_NE(frame, std::string::npos) << text;
  // Relative where the build maps its paths.
  const std::string file = text.substr(frame, text.find(" +0x", frame) - frame);
  EXPECT_NE(file.find("live_profile_test.cc:"), std::string::npos) << text;
  EXPECT_NE(text.find("live_test::through_template<long>(...)\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace weft::prof
