// Text profiles, byte for byte against Go: recorded samples of Go's own output, a slow model of its
// column writer, and Go itself for quoting, alignment and parsing.
#include "profiler/text_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "profiler/go_quote.h"
#include "profiler/utf8.h"
#include "tests/unit/profiler/fake_symbols.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/make_sample.h"

namespace weft::prof {
namespace {

using test::fake_symbols;
using test::go_tool;
using test::make_sample;
using test::tool_result;

text_sink into(std::string& out) {
  return [&out](std::string_view text) {
    out += text;
    return true;
  };
}

std::string aligned(std::string_view text) {
  std::string out;
  tab_writer writer(into(out));
  EXPECT_TRUE(writer.write(text));
  EXPECT_TRUE(writer.flush());
  return out;
}

// The rule of tab_writer.h read literally, cell by cell, with no state shared between cells.
std::string slow_aligned(const std::string& text) {
  std::vector<std::vector<std::string>> lines(1, {""});
  for (char c : text) {
    if (c == '\n') {
      lines.push_back({""});
    } else if (c == '\t') {
      lines.back().push_back("");
    } else {
      lines.back().back() += c;
    }
  }
  const auto has = [&](size_t row, size_t column) {
    return row < lines.size() && lines[row].size() > column + 1;
  };
  std::string out;
  for (size_t row = 0; row < lines.size(); ++row) {
    for (size_t column = 0; has(row, column); ++column) {
      size_t top = row;
      while (top > 0 && has(top - 1, column)) --top;
      size_t longest = 0;
      for (size_t i = top; has(i, column); ++i)
        longest = std::max(longest, lines[i][column].size());
      size_t width = longest + 1;
      while (width % 8 != 0) ++width;
      out += lines[row][column];
      for (size_t at = lines[row][column].size(); at < width; at += 8 - at % 8) out += '\t';
    }
    out += lines[row].back();
    if (row + 1 < lines.size()) out += '\n';
  }
  return out;
}

std::string random_table(std::mt19937& random) {
  std::string text;
  const auto below = [&](unsigned n) {
    return std::uniform_int_distribution<unsigned>(0, n - 1)(random);
  };
  for (unsigned lines = below(12) + 1; lines > 0; --lines) {
    for (unsigned cells = below(5); cells > 0; --cells) text += std::string(below(20), 'x') + "\t";
    text += std::string(below(3), 'y');
    if (lines > 1 || below(2) == 0) text += '\n';
  }
  return text;
}

TEST(TabWriter, AlignsLikeTheSlowModel) {
  std::mt19937 random(20240601);
  for (int i = 0; i < 5000; ++i) {
    const std::string text = random_table(random);
    ASSERT_EQ(aligned(text), slow_aligned(text)) << "input:\n" << text;
  }
}

TEST(TabWriter, TakesTextInAnyPieces) {
  const std::string text = "a\tb\tc\nlonger cell\tb\tc\n\nplain\nx\ty";
  std::string out;
  tab_writer writer(into(out));
  for (char c : text) writer.write(std::string(1, c));
  writer.flush();
  EXPECT_EQ(out, aligned(text));
  EXPECT_EQ(out, "a\t\tb\tc\nlonger cell\tb\tc\n\nplain\nx\ty");
}

TEST(TabWriter, StopsWhenTheSinkRefuses) {
  int calls = 0;
  tab_writer writer([&](std::string_view) { return ++calls < 1; });
  const std::string line(100000, 'x');
  EXPECT_FALSE(writer.write(line + "\n"));
  EXPECT_FALSE(writer.write("more\n"));
  EXPECT_FALSE(writer.flush());
  EXPECT_EQ(calls, 1);
}

TEST(TabWriter, AgreesWithGo) {
  const go_tool go;
  const std::string source = go.write("align.go", R"(package main
import ("io"; "os"; "text/tabwriter")
func main() {
  text, _ := io.ReadAll(os.Stdin)
  w := tabwriter.NewWriter(os.Stdout, 1, 8, 1, '\t', 0)
  w.Write(text)
  w.Flush()
}
)");
  std::mt19937 random(7);
  std::string text = "#\t0x1\tnaïve\tü\n#\t0x22222222\tx\ty\n\n";
  for (int i = 0; i < 300; ++i) text += random_table(random) + "\n";
  const tool_result result = go.run_program(source, go.write("input", text));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.out, aligned(text));
}

TEST(GoQuote, Vectors) {
  EXPECT_EQ(go_quote(""), R"("")");
  EXPECT_EQ(go_quote("worker"), R"("worker")");
  EXPECT_EQ(go_quote("a\"b\\"), R"("a\"b\\")");
  EXPECT_EQ(go_quote("\a\b\f\n\r\t\v"), R"("\a\b\f\n\r\t\v")");
  EXPECT_EQ(go_quote(std::string_view("\0\x01\x1f\x7f", 4)), R"("\x00\x01\x1f\x7f")");
  EXPECT_EQ(go_quote("naïve ☺ 日本"), "\"naïve ☺ 日本\"");
  EXPECT_EQ(go_quote("\xff\xc3"), R"("\xff\xc3")");
  EXPECT_EQ(go_quote("\xc2\xa0\xc2\xad\xe2\x80\x8b"),
            R"("\u00a0\u00ad\u200b")");  // NBSP, soft hyphen, ZWSP
  EXPECT_EQ(go_quote("\xf0\x9f\x98\x80\xf3\xa0\x80\x81"), "\"\xf0\x9f\x98\x80\\U000e0001\"");
  EXPECT_EQ(go_quote("\xed\xa0\x80"), R"("\xed\xa0\x80")");  // a surrogate is not UTF-8
  EXPECT_EQ(go_quote("\xef\xbf\xbd"), "\"\xef\xbf\xbd\"");   // a real U+FFFD is
}

TEST(GoQuote, RuntimeFormKeepsOnlyAscii) {
  EXPECT_EQ(go_runtime_quote("a\"b"), R"("a\"b")");
  EXPECT_EQ(go_runtime_quote("\a\n\x7f"), R"("\x07\n\x7f")");
  EXPECT_EQ(go_runtime_quote("é😀\xff"), R"("\u00e9\U0001f600\xff")");
}

// Every rune there is, and every pair of bytes, quoted by us and by Go.
TEST(GoQuote, AgreesWithGoOnAllOfUnicode) {
  std::string input;
  const auto add = [&](std::string_view text) {
    input += static_cast<char>(text.size());
    input += text;
  };
  for (uint32_t r = 0; r <= 0x10ffff; ++r) {
    std::string text;
    if (r < 0x80) {
      text = {static_cast<char>(r)};
    } else if (r < 0x800) {
      text = {static_cast<char>(0xc0 | r >> 6), static_cast<char>(0x80 | (r & 0x3f))};
    } else if (r < 0x10000) {
      text = {static_cast<char>(0xe0 | r >> 12), static_cast<char>(0x80 | (r >> 6 & 0x3f)),
              static_cast<char>(0x80 | (r & 0x3f))};
    } else {
      text = {static_cast<char>(0xf0 | r >> 18), static_cast<char>(0x80 | (r >> 12 & 0x3f)),
              static_cast<char>(0x80 | (r >> 6 & 0x3f)), static_cast<char>(0x80 | (r & 0x3f))};
    }
    add(text);
  }
  for (int first = 0x80; first < 0x100; ++first) {
    for (int second = 0; second < 0x100; ++second) {
      add(std::string{static_cast<char>(first), static_cast<char>(second)});
    }
  }
  uint64_t hash = 14695981039346656037u;
  uint64_t runes = 0;
  for (size_t at = 0; at < input.size(); at += static_cast<size_t>(input[at]) + 1) {
    const std::string_view text =
        std::string_view(input).substr(at + 1, static_cast<size_t>(input[at]));
    runes += rune_count(text);
    for (char c : go_quote(text)) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  }
  const go_tool go;
  const std::string source = go.write("quote.go", R"(package main
import ("fmt"; "hash/fnv"; "io"; "os"; "strconv"; "unicode/utf8")
func main() {
  in, _ := io.ReadAll(os.Stdin)
  h := fnv.New64a()
  runes := 0
  for len(in) > 0 {
    n := int(in[0])
    s := string(in[1:n+1])
    in = in[n+1:]
    runes += utf8.RuneCountInString(s)
    h.Write([]byte(strconv.Quote(s)))
  }
  fmt.Print(h.Sum64(), " ", runes)
}
)");
  const tool_result result = go.run_program(source, go.write("input", input));
  EXPECT_EQ(result.out, std::to_string(hash) + " " + std::to_string(runes));
}

TEST(Utf8, ReplacesWhatIsNotValid) {
  EXPECT_EQ(valid_utf8("ok é"), "ok é");
  EXPECT_EQ(valid_utf8("\xff\x61\xc3"), "\xef\xbf\xbd\x61\xef\xbf\xbd");
}

// Stacks recorded from a Go program, with weft's names where Go hides its own.
struct golden_world {
  fake_symbols symbols;
  golden_world() {
    symbols.add(0x43b2f5, "weft::sched::park(weft::sched::wait_reason)", "/weft/park.cc", 1, 0x16);
    symbols.add(0x44c23d, "weft::sched::semaphore::acquire()", "/weft/sem.cc", 2, 0x3d);
    symbols.add(0x44c214, "void weft::detail::lock_slow<true>(weft::detail::word&)",
                "/weft/lock.cc", 3, 0x14);
    symbols.add(0x4674a4, "sync.runtime_SemacquireMutex", "/go/src/runtime/sema.go", 77, 0x24);
    symbols.add(0x471884, "sync.(*Mutex).lockSlow", "/go/src/sync/mutex.go", 171, 0x164);
    symbols.add(0x671b6b, "sync.(*Mutex).Lock", "/go/src/sync/mutex.go", 90, 0x4b);
    symbols.add(0x671b4e, "main.main.func1", "/app/main.go", 45, 0x2e);
    symbols.add(0x46b2e0, "weft_task_main", "/weft/task.cc", 9, 0x10);
    symbols.add(0x40708b, "weft::detail::chan_recv(void*)", "/weft/chan.cc", 4, 0x1b);
    symbols.add(0x671270, "main.main.func2.4", "/app/main.go", 57, 0x30);
    symbols.add(0x671b8f, "sync.(*Mutex).Unlock", "/go/src/sync/mutex.go", 223, 0x6f);
    symbols.add(0x671b76, "main.main.func1", "/app/main.go", 47, 0x56);
  }
};

const label_list worker_labels = {{"role", "worker"}, {"team", "a\"b"}};

TEST(CountText, GoroutineGolden) {
  const golden_world world;
  const std::vector<sample> samples = {
      make_sample({0x43b2f6, 0x40708c, 0x671271, 0x46b2e1}, {1}, worker_labels),
      make_sample({0x43b2f6, 0x44c23e, 0x44c215, 0x4674a5, 0x471885, 0x671b6c, 0x671b4f, 0x46b2e1},
                  {2}),
  };
  std::string out;
  EXPECT_TRUE(write_count_text(into(out), "goroutine", samples, world.symbols));
  EXPECT_EQ(out,
            "goroutine profile: total 3\n"
            "2 @ 0x43b2f6 0x44c23e 0x44c215 0x4674a5 0x471885 0x671b6c 0x671b4f 0x46b2e1\n"
            "#\t0x4674a4\tsync.runtime_SemacquireMutex+0x24\t/go/src/runtime/sema.go:77\n"
            "#\t0x471884\tsync.(*Mutex).lockSlow+0x164\t\t/go/src/sync/mutex.go:171\n"
            "#\t0x671b6b\tsync.(*Mutex).Lock+0x4b\t\t\t/go/src/sync/mutex.go:90\n"
            "#\t0x671b4e\tmain.main.func1+0x2e\t\t\t/app/main.go:45\n"
            "\n"
            "1 @ 0x43b2f6 0x40708c 0x671271 0x46b2e1\n"
            "# labels: {\"role\":\"worker\", \"team\":\"a\\\"b\"}\n"
            "#\t0x671270\tmain.main.func2.4+0x30\t/app/main.go:57\n"
            "\n");
}

TEST(CountText, OrderIsCountThenKeyText) {
  const fake_symbols symbols;
  const std::vector<sample> samples = {
      make_sample({0x201}, {1}),
      make_sample({0x1001}, {1}, {{"k", "v"}}),
      make_sample({0x1001}, {1}),
      make_sample({0x301}, {5}),
      make_sample({0x201}, {1}, {{"a", "b"}}),
  };
  std::string out;
  write_count_text(into(out), "goroutine", samples, symbols);
  EXPECT_EQ(out,
            "goroutine profile: total 9\n"
            "5 @ 0x301\n#\t0x300\n\n"
            "1 @ 0x1001\n#\t0x1000\n\n"
            "1 @ 0x1001\n# labels: {\"k\":\"v\"}\n#\t0x1000\n\n"
            "1 @ 0x201\n#\t0x200\n\n"
            "1 @ 0x201\n# labels: {\"a\":\"b\"}\n#\t0x200\n\n");
}

TEST(CountText, StackOfRuntimeFramesOnlyIsShownWhole) {
  const golden_world world;
  std::string out;
  write_count_text(into(out), "threadcreate", std::vector{make_sample({0x43b2f6, 0x46b2e1}, {1})},
                   world.symbols);
  EXPECT_EQ(out,
            "threadcreate profile: total 1\n"
            "1 @ 0x43b2f6 0x46b2e1\n"
            "#\t0x43b2f5\tweft::sched::park(weft::sched::wait_reason)+0x16\t/weft/park.cc:1\n"
            "#\t0x46b2e0\tweft_task_main+0x10\t\t\t\t\t/weft/task.cc:9\n"
            "\n");
}

TEST(CountText, InlinedFramesAreLinesOfTheirOwn) {
  fake_symbols symbols;
  symbols.add(0x1000, "serve()", "/app/a.cc", 10, 0x20);
  symbols.inline_at(0x1000, "weft::detail::park_here()", "/weft/park.h", 3);
  symbols.inline_at(0x1000, "weft::chan<int>::recv()", "/weft/chan.h", 5);
  symbols.add(0x2000, "weft::detail::closure::run()", "/weft/go.h", 7, 0x8);
  symbols.inline_at(0x2000, "main::{lambda()#1}::operator()() const", "/app/a.cc", 30);
  symbols.inline_at(0x2000, "void std::__invoke_impl<void, f&>(std::__invoke_other, f&)",
                    "/std/invoke.h", 1);
  std::string out;
  write_count_text(into(out), "goroutine", std::vector{make_sample({0x1001, 0x2001}, {1})},
                   symbols);
  EXPECT_EQ(out,
            "goroutine profile: total 1\n"
            "1 @ 0x1001 0x2001\n"
            "#\t0x1000\tweft::chan<int>::recv()+0x20\t\t\t/weft/chan.h:5\n"
            "#\t0x1000\tserve()+0x20\t\t\t\t\t/app/a.cc:10\n"
            "#\t0x2000\tmain::{lambda()#1}::operator()() const+0x8\t/app/a.cc:30\n"
            "\n");
}

TEST(CountText, TruncatedStackKeepsItsRootAndSaysSo) {
  const golden_world world;
  sample s = make_sample({0x671271, 0x46b2e1}, {1});
  s.truncated = true;
  std::string out;
  write_count_text(into(out), "goroutine", std::vector{s}, world.symbols);
  EXPECT_EQ(out,
            "goroutine profile: total 1\n"
            "1 @ 0x671271 0x46b2e1\n"
            "#\t0x671270\tmain.main.func2.4+0x30\t/app/main.go:57\n"
            "#\t0x46b2e0\tweft_task_main+0x10\t/weft/task.cc:9\n"
            "# stack truncated\n"
            "\n");
}

TEST(CountText, ExactLeafIsListedPlusOne) {
  const golden_world world;
  sample s = make_sample({0x671270, 0x671b4f}, {1});
  s.leaf_is_exact = true;
  EXPECT_EQ(stack_text(s.stack()), "@ 0x671271 0x671b4f");
  EXPECT_EQ(stack_text({}), "@ 0x1");
}

TEST(ContentionText, MutexGolden) {
  const golden_world world;
  const std::vector<sample> samples = {
      make_sample({0x671b90, 0x671b77, 0x46b2e1}, {5505, 36446846852})};
  std::string out;
  EXPECT_TRUE(write_contention_text(
      into(out), {.name = "mutex", .cycles_per_second = 2596165362, .sampling_period = 5}, samples,
      world.symbols));
  EXPECT_EQ(out,
            "--- mutex:\n"
            "cycles/second=2596165362\n"
            "sampling period=5\n"
            "36446846852 5505 @ 0x671b90 0x671b77 0x46b2e1\n"
            "#\t0x671b8f\tsync.(*Mutex).Unlock+0x6f\t/go/src/sync/mutex.go:223\n"
            "#\t0x671b76\tmain.main.func1+0x56\t\t/app/main.go:47\n"
            "\n");
}

TEST(ContentionText, MostCyclesFirst) {
  const fake_symbols symbols;
  std::string out;
  write_contention_text(into(out), {.name = "contention"},
                        std::vector{make_sample({0x11}, {9, 10}), make_sample({0x21}, {1, 30})},
                        symbols);
  EXPECT_EQ(out,
            "--- contention:\ncycles/second=1000000000\n"
            "30 1 @ 0x21\n#\t0x20\n\n10 9 @ 0x11\n#\t0x10\n\n");
}

TEST(HeapText, Golden) {
  fake_symbols symbols;
  symbols.add(0x4486f7, "weft::gc::detail::allocate(unsigned long)", "/weft/heap.cc", 1, 0x17);
  symbols.add(0x66341e, "runtime/pprof.StartCPUProfile", "/go/src/runtime/pprof/pprof.go", 782,
              0xfe);
  std::string out;
  EXPECT_TRUE(
      write_heap_text(into(out), {.rate = 4096, .trailer = "\n# runtime.MemStats\n# Alloc = 1\n"},
                      std::vector{make_sample({0x4486f8, 0x11}, {447, 10213704, 214, 3657144}),
                                  make_sample({0x4486f8, 0x66341f}, {2, 2097152, 1, 1048576})},
                      symbols));
  EXPECT_EQ(out,
            "heap profile: 215: 4705720 [449: 12310856] @ heap/8192\n"
            "214: 3657144 [447: 10213704] @ 0x4486f8 0x11\n"
            "#\t0x10\n"
            "\n"
            "1: 1048576 [2: 2097152] @ 0x4486f8 0x66341f\n"
            "#\t0x66341e\truntime/pprof.StartCPUProfile+0xfe\t/go/src/runtime/pprof/pprof.go:782\n"
            "\n"
            "\n# runtime.MemStats\n# Alloc = 1\n");
}

TEST(HeapText, EqualTotalsDoNotLookLikeTwoColumns) {
  const fake_symbols symbols;
  std::string out;
  write_heap_text(into(out), {}, std::vector{make_sample({0x11}, {1, 64, 1, 64})}, symbols);
  EXPECT_TRUE(out.starts_with("heap profile: 1: 64 [1: 65] @ heap/1048576\n1: 64 [1: 64] @ 0x11\n"))
      << out;
}

TEST(TextProfiles, EveryOneIsReadByTheTool) {
  const golden_world world;
  const go_tool go;
  std::string text;
  write_count_text(into(text), "goroutine",
                   std::vector{make_sample({0x43b2f6, 0x671271, 0x46b2e1}, {40}, worker_labels),
                               make_sample({}, {2})},
                   world.symbols);
  tool_result result = go.pprof({"-top"}, go.write("goroutine.txt", text));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_TRUE(result.has("Type: goroutine")) << result.out;
  EXPECT_TRUE(result.has("42 total")) << result.out;

  text.clear();
  write_contention_text(into(text), {.name = "mutex", .sampling_period = 5},
                        std::vector{make_sample({0x671b90, 0x671b77}, {3, 2'000'000'000})},
                        world.symbols);
  result = go.pprof({"-top"}, go.write("mutex.txt", text));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_TRUE(result.has("10s total")) << result.out;  // the tool multiplies by the sampling period

  text.clear();
  write_contention_text(into(text), {.name = "contention"},
                        std::vector{make_sample({0x671b90, 0x671b77}, {3, 2'000'000'000})},
                        world.symbols);
  result = go.pprof({"-top"}, go.write("block.txt", text));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_TRUE(result.has("2s total")) << result.out;

  text.clear();
  write_heap_text(into(text), {.rate = 1, .trailer = "\n# runtime.MemStats\n# Alloc = 64\n"},
                  std::vector{make_sample({0x671b90}, {8, 8192, 4, 4096})}, world.symbols);
  result = go.pprof({"-top"}, go.write("heap.txt", text));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_TRUE(result.has("Type: inuse_space")) << result.out;
  EXPECT_TRUE(result.has("4kB total")) << result.out;
}

}  // namespace
}  // namespace weft::prof
