// Task dumps against Go's traceback form, and the rules for what is a runtime frame.
#include "profiler/task_dump.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <set>
#include <sstream>

#include "tests/unit/profiler/fake_symbols.h"

namespace weft::prof {
namespace {

using test::fake_symbols;

std::string dump(const std::vector<task_snapshot>& tasks, const symbol_source& symbols) {
  std::string out;
  task_dump_writer writer(
      [&](std::string_view text) {
        out += text;
        return true;
      },
      symbols);
  for (const task_snapshot& task : tasks) EXPECT_TRUE(writer.add(task));
  EXPECT_TRUE(writer.finish());
  EXPECT_EQ(writer.tasks(), tasks.size());
  return out;
}

task_snapshot make_task(uint64_t id, std::string_view status, std::vector<uintptr_t> pcs) {
  task_snapshot task;
  task.id = id;
  task.status = status;
  task.pcs = std::move(pcs);
  return task;
}

std::vector<uintptr_t> deep_stack(fake_symbols& symbols, size_t depth) {
  std::vector<uintptr_t> pcs;
  for (size_t i = 0; i < depth; ++i) {
    symbols.add(0x1000 + i * 16, "f" + std::to_string(i), "/a.cc", 1, 0x1);
    pcs.push_back(0x1001 + i * 16);
  }
  return pcs;
}

// A recorded dump of Go's, with (...) for the arguments.
TEST(TaskDump, Golden) {
  fake_symbols symbols;
  symbols.add(0x1000, "weft::sched::park()", "/weft/park.cc", 9, 0x10);
  symbols.add(0x2000, "sync.runtime_SemacquireMutex", "/go/src/runtime/sema.go", 77, 0x24);
  symbols.add(0x3000, "main.main.func1", "/app/main.go", 45, 0x4b);
  symbols.inline_at(0x3000, "sync.(*Mutex).Lock", "/go/src/sync/mutex.go", 90);
  symbols.add(0x4000, "weft_context_entry", "", 0, 0x1);
  symbols.add(0x5000, "main.main", "/app/main.go", 43, 0x88);
  task_snapshot task = make_task(7, "semacquire", {0x1001, 0x2001, 0x3001, 0x4001});
  task.wait_ns = 239'000'000'000;
  task.locked_to_thread = true;
  task.created_by = 0x5001;
  task.parent_id = 1;
  // "sync.(*Mutex).Lock" has parentheses that are no parameter list.
  EXPECT_EQ(dump({task}, symbols),
            "goroutine 7 [semacquire, 3 minutes, locked to thread]:\n"
            "sync.runtime_SemacquireMutex(...)\n"
            "\t/go/src/runtime/sema.go:77 +0x25\n"
            "sync.(*Mutex).Lock(...)\n"
            "\t/go/src/sync/mutex.go:90\n"
            "main.main.func1(...)\n"
            "\t/app/main.go:45 +0x4c\n"
            "created by main.main in goroutine 1\n"
            "\t/app/main.go:43 +0x89\n");
}

TEST(TaskDump, HeaderItems) {
  const fake_symbols symbols;
  const auto header = [&](const task_snapshot& task) {
    const std::string out = dump({task}, symbols);
    return out.substr(0, out.find('\n'));
  };
  task_snapshot task = make_task(9, "sleep", {0x11});
  EXPECT_EQ(header(task), "goroutine 9 [sleep]:");
  task.wait_ns = 59'999'999'999;
  EXPECT_EQ(header(task), "goroutine 9 [sleep]:");
  task.wait_ns = 60'000'000'000;
  EXPECT_EQ(header(task), "goroutine 9 [sleep, 1 minutes]:");
  task.labels = {{"role", "worker"}, {"team", "a\"b"}};
  EXPECT_EQ(header(task), "goroutine 9 [sleep, 1 minutes] {role: worker, team: \"a\\\"b\"}:");
  task.name = "conn 12, [x]\n";
  task.labels = {{"path", "/a.b_c"}, {"", "é"}};
  EXPECT_EQ(
      header(task),
      R"(goroutine 9 [sleep, 1 minutes, name "conn 12\x2c \x5bx\x5d\n"] {path: /a.b_c, "": "\u00e9"}:)");
  // What panicparse asks of a header; labels only ever follow where the program set some.
  task.labels.clear();
  EXPECT_TRUE(std::regex_match(header(task), std::regex("^goroutine (\\d+) \\[([^\\]]+)\\]:$")));
}

// The line grammar that panicparse and its like use; a line outside it ends their parse.
TEST(TaskDump, EveryLineIsOneThatReadersKnow) {
  fake_symbols symbols;
  task_snapshot deep = make_task(1, "chan receive (nil chan)", deep_stack(symbols, 120));
  deep.name = "a]: b, c";
  symbols.add(0x100, "run()::{lambda(int)#1}::operator()(int) const", "/app dir/s.cc", 12, 0x20);
  symbols.inline_at(0x100, "std::map<int, char*>::at(int const&)", "/std/map.h", 3);
  deep.created_by = 0x101;
  deep.parent_id = 77;
  task_snapshot cut = make_task(2, "running", {0x101, 0x999});
  cut.truncated = true;
  const std::regex grammar[] = {
      std::regex("goroutine \\d+ \\[[^\\]]+\\]:"),
      std::regex(".+\\(.*\\)"),
      std::regex("\t.+:\\d+( \\+0x[0-9a-f]+)?"),
      std::regex("created by .+?( in goroutine \\d+)?"),
      std::regex("\\.\\.\\.(additional|\\d+) frames elided\\.\\.\\."),
      std::regex(""),
  };
  std::istringstream lines(dump({deep, cut}, symbols));
  std::set<size_t> used;
  for (std::string line; std::getline(lines, line);) {
    size_t rule = 0;
    while (rule < std::size(grammar) && !std::regex_match(line, grammar[rule])) ++rule;
    EXPECT_LT(rule, std::size(grammar)) << line;
    used.insert(rule);
  }
  EXPECT_EQ(used.size(), std::size(grammar));
}

TEST(TaskDump, BlankLineBetweenTasksOnly) {
  fake_symbols symbols;
  symbols.add(0x10, "f()", "/a.cc", 1, 0x1);
  EXPECT_EQ(dump({make_task(1, "running", {0x11}), make_task(2, "IO wait", {0x11})}, symbols),
            "goroutine 1 [running]:\nf(...)\n\t/a.cc:1 +0x2\n"
            "\n"
            "goroutine 2 [IO wait]:\nf(...)\n\t/a.cc:1 +0x2\n");
  EXPECT_EQ(dump({}, symbols), "");
}

TEST(TaskDump, ExactLeafHasItsOwnOffset) {
  fake_symbols symbols;
  symbols.add(0x1010, "spin(int)", "/a.cc", 4, 0x10);
  task_snapshot task = make_task(1, "running", {0x1010, 0x1011});
  task.leaf_is_exact = true;
  EXPECT_EQ(dump({task}, symbols),
            "goroutine 1 [running]:\nspin(...)\n\t/a.cc:4 +0x10\nspin(...)\n\t/a.cc:4 +0x11\n");
}

TEST(TaskDump, UnknownThingsStayInForm) {
  fake_symbols symbols;
  symbols.add(0x30, "dynsym_only", "", 0, 0x8, "dynsym_only");
  task_snapshot task = make_task(3, "chan receive", {0x21, 0x31});
  task.created_by = 0x99;
  EXPECT_EQ(dump({task, make_task(4, "running", {})}, symbols),
            "goroutine 3 [chan receive]:\n"
            "0x20(...)\n\t?:0\n"
            "dynsym_only(...)\n\t?:0 +0x9\n"
            "created by 0x98\n\t?:0\n"
            "\n"
            "goroutine 4 [running]:\n"
            "\tgoroutine running on other thread; stack unavailable\n");
}

TEST(TaskDump, HundredFramesAreShown) {
  fake_symbols symbols;
  const std::string out = dump({make_task(1, "running", deep_stack(symbols, 100))}, symbols);
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 201);
  EXPECT_EQ(out.find("elided"), std::string::npos);
}

TEST(TaskDump, MiddleOfADeeperStackIsElided) {
  fake_symbols symbols;
  task_snapshot task = make_task(1, "running", deep_stack(symbols, 137));
  task.truncated = true;
  const std::string out = dump({task}, symbols);
  EXPECT_NE(out.find("f49(...)\n\t/a.cc:1 +0x2\n...37 frames elided...\nf87(...)\n"),
            std::string::npos)
      << out;
  EXPECT_TRUE(out.ends_with("f136(...)\n\t/a.cc:1 +0x2\n...additional frames elided...\n")) << out;
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1 + 200 + 2);
}

TEST(TaskDump, CreatorIsTheCallerOfSpawnEvenInlined) {
  fake_symbols symbols;
  symbols.add(0x10, "f()", "/a.cc", 1, 0x1);
  symbols.add(0x100, "serve(int)", "/app/s.cc", 12, 0x20);
  symbols.inline_at(0x100, "weft::detail::spawn_record::make()", "/weft/go.h", 8);
  symbols.inline_at(0x100, "void weft::go<serve(int)::{lambda()#1}>(serve(int)::{lambda()#1})",
                    "/weft/go.h", 30);
  task_snapshot task = make_task(5, "runnable", {0x11});
  task.created_by = 0x101;
  EXPECT_TRUE(dump({task}, symbols).ends_with("created by serve\n\t/app/s.cc:12 +0x21\n"))
      << dump({task}, symbols);
}

TEST(TaskDump, ManyTasksNeedOneLookupPerAddressAndNoBuffer) {
  fake_symbols symbols;
  const std::vector<uintptr_t> pcs = deep_stack(symbols, 12);
  size_t largest = 0;
  size_t total = 0;
  task_dump_writer writer(
      [&](std::string_view text) {
        largest = std::max(largest, text.size());
        total += text.size();
        return true;
      },
      symbols);
  for (uint64_t id = 1; id <= 100'000; ++id) writer.add(make_task(id, "chan receive", pcs));
  EXPECT_TRUE(writer.finish());
  EXPECT_EQ(symbols.lookups, 12u);
  EXPECT_GT(total, 20'000'000u);
  EXPECT_LT(largest, 128u * 1024);
}

TEST(TaskDump, StopsWhenTheReaderLeaves) {
  fake_symbols symbols;
  const std::vector<uintptr_t> pcs = deep_stack(symbols, 20);
  size_t calls = 0;
  task_dump_writer writer(
      [&](std::string_view) {
        ++calls;
        return false;
      },
      symbols);
  size_t added = 0;
  while (added < 1'000'000 && writer.add(make_task(1, "select", pcs))) ++added;
  EXPECT_LT(added, 1000u);
  EXPECT_FALSE(writer.add(make_task(2, "select", pcs)));
  EXPECT_FALSE(writer.finish());
  EXPECT_EQ(calls, 1u);
}

TEST(RuntimeFrames, Classification) {
  for (const char* name :
       {"weft::sched::worker::run()", "weft::detail::chan_core::recv(void*)",
        "void weft::detail::invoke<main::{lambda()#1}>(void*)", "weft_switch", "_start",
        "weft::sched::(anonymous namespace)::loop()", "weft::prof::take_sample()",
        "weft::sched::worker::run()::{lambda()#1}::operator()() const",
        "std::unique_ptr<int, std::default_delete<int> > weft::detail::make<int>()"}) {
    EXPECT_EQ(classify_frame(name), frame_kind::runtime) << name;
  }
  for (const char* name :
       {"weft::chan<int>::recv()", "weft::mutex::lock()", "weft::this_task::sleep_for()", "main",
        "void weft::go<weft::detail::x>(weft::detail::x)", "weft_switcher", "_started", "",
        "foo(weft::sched::task*)", "my::weft::sched::f()", "app::sched::operator<(int)",
        "std::invoker::call()"}) {
    EXPECT_EQ(classify_frame(name), frame_kind::user) << name;
  }
  for (const char* name : {"void std::__invoke_impl<void, main::{lambda()#1}>(std::__invoke_other, "
                           "main::{lambda()#1}&&)",
                           "std::invoke<f>(f)", "std::function<void ()>::operator()() const"}) {
    EXPECT_EQ(classify_frame(name), frame_kind::plumbing) << name;
  }
}

TEST(RuntimeFrames, NamesWithoutParameters) {
  const std::pair<const char*, const char*> cases[] = {
      {"main", "main"},
      {"serve(int)", "serve"},
      {"void a::f<int>(int) const", "a::f<int>"},
      {"run()::{lambda(int)#1}::operator()(int) const", "run()::{lambda(int)#1}::operator()"},
      {"(anonymous namespace)::f(int)", "(anonymous namespace)::f"},
      {"void (anonymous namespace)::f<int>(int)", "(anonymous namespace)::f<int>"},
      {"std::vector<int, std::allocator<int> > make<int>(int (*)(char))", "make<int>"},
      {"a::operator<<(std::ostream&, a::b const&)", "a::operator<<"},
      {"bool operator< <int>(x<int> const&)", "operator< <int>"},
      {"a::operator bool() const", "a::operator bool"},
      {"a::operator->() const", "a::operator->"},
      {"operator new(unsigned long)", "operator new"},
      {"decltype(auto) f<int>(int)", "f<int>"},
      {"outer(int)::inner(char)", "outer(int)::inner"},
      {"f(int) [clone .constprop.0]", "f"},
      {"sync.(*Mutex).Lock", "sync.(*Mutex).Lock"},
      {"x[abi:cxx11](int)", "x[abi:cxx11]"},
      {"", ""},
  };
  for (const auto& [name, expected] : cases) EXPECT_EQ(without_parameters(name), expected) << name;
}

TEST(RuntimeFrames, WhatStandsBetweenAnAllocationAndWhoWantedIt) {
  for (const char* name :
       {"malloc", "operator new(unsigned long)", "operator new[](unsigned long)",
        "std::__new_allocator<int>::allocate(unsigned long, void const*)",
        "std::allocator_traits<std::allocator<int> >::allocate(std::allocator<int>&, unsigned "
        "long)",
        "std::_Vector_base<int, std::allocator<int> >::_M_allocate(unsigned long)",
        "a::b* weft::gc::make<a::b>()", "weft::gc::refill(weft::gc::mutator&, unsigned int)"})
    EXPECT_TRUE(is_allocation_frame(name)) << name;
  EXPECT_TRUE(is_allocation_frame("allocate", "/usr/include/c++/12/bits/new_allocator.h"));
  for (const char* name :
       {"malloc_everything()", "mine::malloc", "std::vector<int>::push_back(int const&)",
        "operator new_thing", "allocate", "gc::make<int>()"})
    EXPECT_FALSE(is_allocation_frame(name)) << name;
  EXPECT_FALSE(is_allocation_frame("weft::gc::vector<int>::push_back(int)",
                                   "/usr/include/weft/gc/vector.h"));
}

TEST(RuntimeFrames, SpawnFunctions) {
  EXPECT_TRUE(is_spawn_frame("weft::go(weft::spawn_options)"));
  EXPECT_TRUE(is_spawn_frame("void weft::go<run(int)::{lambda()#1}>(run(int)::{lambda()#1})"));
  EXPECT_TRUE(is_spawn_frame("weft::join_handle<int> weft::spawn<f>(f)"));
  EXPECT_FALSE(is_spawn_frame("weft::run(int)::{lambda()#1}::operator()() const"));
  EXPECT_FALSE(is_spawn_frame("weft::gossip()"));
  EXPECT_FALSE(is_spawn_frame("main"));
}

}  // namespace
}  // namespace weft::prof
