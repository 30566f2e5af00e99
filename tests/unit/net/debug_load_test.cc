// Every kind of profile, taken over HTTP while tasks contend, wait, allocate, compute, spawn and
// end: each is what its kind promises, decoded by protobuf, and Go's own tool reads it in every way
// it has, from the server and from a file.
#include <gtest/gtest.h>
#include <weft/debug/debug.h>
#include <weft/gc/gc.h>
#include <weft/http/server.h>
#include <weft/labels.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/conformance/world.h"
#include "tests/unit/net/debug_client.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/profile_check.h"

// What the tool is asked to list.
namespace debug_load {

using namespace std::chrono_literals;

std::atomic<bool> g_stop{false};
weft::pprof::profile& open_things() {
  static weft::pprof::profile& p = weft::pprof::profile::create("open_things");
  return p;
}

[[gnu::noinline]] void hand_over(weft::chan<int> from, weft::chan<int> to) {
  while (auto n = from.recv()) {
    if (g_stop) break;
    to.send(*n + 1);
  }
  to.close();
}

[[gnu::noinline]] void contend(weft::mutex& m) {
  while (!g_stop) {
    m.lock();
    weft::this_task::yield();  // so that others queue
    m.unlock();
  }
}

[[gnu::noinline]] uint64_t compute(uint64_t seed) {
  for (int i = 0; i < 20'000; ++i) seed = seed * 6364136223846793005u + 1442695040888963407u;
  return seed;
}

[[gnu::noinline]] void work() {
  std::atomic<uint64_t> sum{0};
  while (!g_stop) {
    sum += compute(sum);
    weft::this_task::sleep_for(100us);
  }
}

struct node {
  weft::gc::ref<node> next;
  std::array<char, 200> room;
};

// Some 400 KB are alive all the while, so that a profile of what lives shows them.
[[gnu::noinline]] void allocate() {
  node* base = nullptr;
  for (int n = 0; n < 2'000; ++n) {
    node* added = weft::gc::make<node>();
    added->next = base;
    base = added;
  }
  node* kept = base;
  for (int n = 0; !g_stop; ++n) {
    node* added = weft::gc::make<node>();
    added->next = n % 64 != 0 ? kept : base;
    kept = added;
    if (n % 100 == 0) weft::this_task::sleep_for(1ms);
  }
  weft::gc::keep(kept);
}

[[gnu::noinline]] void spawn_and_open() {
  int thing = 0;
  int always = 0;
  open_things().add(&always);
  while (!g_stop) {
    open_things().add(&thing);
    weft::spawn([] { weft::this_task::sleep_for(1ms); }).join();
    open_things().remove(&thing);
  }
  open_things().remove(&always);
}

// The runtime has to start a thread for whoever runs beside this call, or has one left of the last;
// so one more call than ever before.
[[gnu::noinline]] void block() {
  static std::atomic<int> ever{0};
  const int calls = ever += 4;
  weft::wait_group done;
  std::atomic<int> inside{0};
  for (int i = 0; i < calls; ++i) {
    done.go([&] {
      weft::blocking([&] {
        ++inside;
        while (inside != calls && !g_stop) std::this_thread::sleep_for(1ms);
      });
    });
  }
  done.wait();
}

// A profile of the program's own is never empty.
[[gnu::noinline]] void keep_open(int& thing) { open_things().add(&thing); }

}  // namespace debug_load

namespace weft {
namespace {

using prof::test::decode_profile;
using prof::test::go_tool;
using prof::test::valid_profile;
using test::answer;
using test::ask;
using test::get;

struct kind {
  const char* name;
  const char* path;
  std::vector<std::string> types;
  std::string default_type = {};  // "": the last one
  std::string period_type = {};
  std::string text = {};      // how ?debug=1 begins, a regular expression; "": it has no such form
  bool has_duration = false;  // also without ?seconds=
  bool has_delta = true;      // ?seconds=N is what happened in N seconds
  const char* list = "debug_load";
};
// Part of the tests' names.
void PrintTo(const kind& k, std::ostream* out) { *out << k.name; }

const std::vector<kind>& kinds() {
  static const std::vector<std::string> memory = {"alloc_objects/count", "alloc_space/bytes",
                                                  "inuse_objects/count", "inuse_space/bytes"};
  static const std::vector<std::string> delays = {"contentions/count", "delay/nanoseconds"};
  static const std::string counts = " profile: total \\d+\n\\d+ @( 0x[0-9a-f]+)+\n";
  static const std::string record = "\\d+ \\d+ @( 0x[0-9a-f]+)+\n";
  static const std::string contention = "--- contention:\ncycles/second=1000000000\n" + record;
  static const std::string heap =
      "heap profile: \\d+: \\d+ \\[\\d+: \\d+\\] @ heap/2048\n"
      "\\d+: \\d+ \\[\\d+: \\d+\\] @( 0x[0-9a-f]+)+\n";
  static const std::vector<kind> all = {
      {"goroutine", "goroutine", {"goroutine/count"}, "", "goroutine/count", "goroutine" + counts},
      {"heap", "heap?gc=1", memory, "", "space/bytes", heap},
      {"allocs", "allocs", memory, "alloc_space", "space/bytes", heap},
      {"block", "block", delays, "", "contentions/count", contention},
      {"mutex", "mutex", delays, "", "contentions/count",
       "--- mutex:\ncycles/second=1000000000\nsampling period=1\n" + record},
      {"wait", "wait", {"samples/count", "delay/nanoseconds"}, "", "delay/nanoseconds", contention},
      {.name = "wall",
       .path = "wall?seconds=1",
       .types = {"samples/count", "wall/nanoseconds"},
       .period_type = "wall/nanoseconds",
       .text = contention,
       .has_duration = true},
      {.name = "profile",
       .path = "profile?seconds=1",
       .types = {"samples/count", "cpu/nanoseconds"},
       .period_type = "cpu/nanoseconds",
       .has_duration = true},
      {.name = "threadcreate",
       .path = "threadcreate",
       .types = {"threadcreate/count"},
       .period_type = "threadcreate/count",
       .text = "threadcreate" + counts,
       .list = "."},
      {"taskcreate",
       "taskcreate",
       {"created/count", "live/count"},
       "",
       "created/count",
       "taskcreate" + counts},
      {.name = "stack",
       .path = "stack",
       .types = {"stacks/count", "reserved/bytes", "used/bytes", "resident/bytes"},
       .period_type = "stacks/count",
       .text = "stack" + counts,
       .list = "under_load"},
      {.name = "open_things",
       .path = "open_things",
       .types = {"open_things/count"},
       .period_type = "open_things/count",
       .text = "open_things" + counts,
       .has_delta = false},  // as Go's
  };
  return all;
}

// Runs f(port) on a plain thread beside the load.
template <class F>
void under_load(F f) {
  http::mux m;
  debug::handle(m);
  int thing = 0;
  debug_load::keep_open(thing);
  const int64_t mem_rate = mem_profile_rate();
  const int64_t wait_rate = wait_profile_rate();
  set_mem_profile_rate(1024);
  set_block_profile_rate(1);
  set_mutex_profile_fraction(1);
  set_wait_profile_rate(1);
  set_task_create_profile_rate(1);
  debug_load::g_stop = false;
  run({.max_procs = 2}, [&] {
    test::own_server s(m);
    wait_group load;
    mutex contended;
    chan<int> there(0);
    chan<int> back(0);
    const auto start = [&](const char* what, auto body) {
      load.add(1);
      go([&load, what, body]() mutable {
        with_labels({{"load", what}}, [&] { body(); });
        load.done();
      });
    };
    start("channels", [&] { debug_load::hand_over(there, back); });
    start("channels", [&] { debug_load::hand_over(back, there); });
    for (int i = 0; i < 3; ++i) start("locks", [&] { debug_load::contend(contended); });
    start("work", [] { debug_load::work(); });
    start("memory", [] { debug_load::allocate(); });
    start("tasks", [] { debug_load::spawn_and_open(); });
    start("threads", [] { debug_load::block(); });
    there.send(0);
    this_task::sleep_for(std::chrono::milliseconds(200));
    blocking([&] { f(s.port()); });
    debug_load::g_stop = true;
    load.wait();
  });
  set_task_create_profile_rate(0);
  set_wait_profile_rate(wait_rate);
  set_mutex_profile_fraction(0);
  set_block_profile_rate(0);
  set_mem_profile_rate(mem_rate);
  debug_load::open_things().remove(&thing);
}

class DebugUnderLoad : public testing::TestWithParam<kind> {};

// The names that the index page lists: whoever adds one learns here what it has to keep.
TEST(DebugUnderLoadKinds, AreAllThereAre) {
  debug_load::open_things();
  std::set<std::string> expected;
  for (const kind& k : kinds()) expected.insert(k.name);
  for (const char* no_profile : {"cmdline", "symbol"}) expected.insert(no_profile);
  std::set<std::string> all;
  http::mux m;
  debug::handle(m);
  run({.max_procs = 2}, [&] {
    http::server s(m);
    net::tcp_listener l = net::listen("tcp", "127.0.0.1:0");
    const int port = l.local_address().port();
    go([&s, l = std::move(l)]() mutable { s.serve(std::move(l)); });
    blocking([&] {
      const std::string page = ask(port, get("/debug/pprof/")).body;
      static const std::regex row("<tr><td>\\d+</td><td><a href='[^']*'>([^<]*)</a></td></tr>");
      for (auto at = std::sregex_iterator(page.begin(), page.end(), row);
           at != std::sregex_iterator(); ++at)
        all.insert((*at)[1]);
    });
    s.close();
    while (num_tasks() > 1) this_task::yield();
  });
  // Of other tests' making.
  for (pprof::profile* p : pprof::profiles()) {
    if (p->description().empty() && p != &debug_load::open_things())
      std::erase_if(all, [&](const std::string& name) { return !expected.contains(name); });
  }
  EXPECT_EQ(all, expected) << "a new profile needs a line in kinds()";
}

std::string text(const prof::pb::Profile& p, int64_t index) {
  return p.string_table(static_cast<int>(index));
}
std::string text(const prof::pb::Profile& p, const prof::pb::ValueType& type) {
  return text(p, type.type()) + "/" + text(p, type.unit());
}

void check_form(const prof::pb::Profile& p, const kind& k) {
  std::vector<std::string> types;
  for (const auto& type : p.sample_type()) types.push_back(text(p, type));
  EXPECT_EQ(types, k.types);
  EXPECT_EQ(text(p, p.default_sample_type()), k.default_type);
  EXPECT_EQ(text(p, p.period_type()), k.period_type);
  EXPECT_GT(p.period(), 0);
  EXPECT_EQ(p.comment_size(), 0);
  EXPECT_EQ(p.drop_frames(), 0);
  EXPECT_EQ(p.keep_frames(), 0);
  const int64_t age = std::time(nullptr) - p.time_nanos() / 1'000'000'000;
  EXPECT_GE(age, -1);
  EXPECT_LE(age, 300);
}

bool is_used(const prof::pb::Profile& p, const prof::pb::Mapping& m) {
  return std::ranges::any_of(p.location(), [&](const auto& l) { return l.mapping_id() == m.id(); });
}

// Executable mappings as the kernel lists them: the program and the libraries it was linked with.
void check_mappings(const prof::pb::Profile& p) {
  uint64_t id = 0;
  uint64_t end = 0;
  bool program = false;
  for (const auto& m : p.mapping()) {
    EXPECT_EQ(m.id(), ++id);
    EXPECT_GE(m.memory_start(), end) << text(p, m.filename());
    end = m.memory_limit();
    const std::string build_id = text(p, m.build_id());
    EXPECT_EQ(build_id.find_first_not_of("0123456789abcdef"), std::string::npos) << build_id;
    EXPECT_EQ(text(p, m.filename()).find(" (deleted)"), std::string::npos);
    if (text(p, m.filename()).ends_with("/weft_net_tests")) {
      program = true;
      EXPECT_TRUE(m.has_functions() || !is_used(p, m));
    }
  }
  EXPECT_TRUE(program);
}

TEST_P(DebugUnderLoad, IsWhatItsKindPromises) {
  const kind& k = GetParam();
  under_load([&](int port) {
    for (int round = 0; round < 3; ++round) {
      const answer a = ask(port, get("/debug/pprof/" + std::string(k.path)));
      ASSERT_EQ(a.status, 200) << a.body;
      ASSERT_TRUE(valid_profile(a.body));
      const prof::pb::Profile p = decode_profile(a.body);
      check_form(p, k);
      check_mappings(p);
      EXPECT_EQ(p.duration_nanos() >= 1'000'000'000, k.has_duration);
      bool labelled = false;
      int64_t sum = 0;
      for (const auto& s : p.sample()) {
        EXPECT_LE(s.location_id_size(), 1024);
        for (int64_t value : s.value()) {
          EXPECT_GE(value, 0);
          sum += value;
        }
        for (const auto& label : s.label()) labelled |= text(p, label.key()) == "load";
      }
      EXPECT_GT(sum, 0);
      EXPECT_TRUE(labelled);
    }
  });
}

TEST_P(DebugUnderLoad, AndItsChangeInASecond) {
  const kind& k = GetParam();
  std::string path = k.path;
  path = path.substr(0, path.find('?')) + "?seconds=1";
  under_load([&](int port) {
    const answer a = ask(port, get("/debug/pprof/" + path));
    if (!k.has_delta) {
      EXPECT_EQ(a.status, 400);
      EXPECT_EQ(a.body, "\"seconds\" parameter is not supported for this profile type\n");
      return;
    }
    ASSERT_EQ(a.status, 200) << a.body;
    ASSERT_TRUE(valid_profile(a.body));
    const prof::pb::Profile p = decode_profile(a.body);
    check_form(p, k);
    EXPECT_GE(p.duration_nanos(), 1'000'000'000);
    for (const auto& s : p.sample()) {
      EXPECT_TRUE(std::ranges::any_of(s.value(), [](int64_t v) { return v != 0; }));
    }
  });
}

TEST_P(DebugUnderLoad, AndItsText) {
  const kind& k = GetParam();
  if (k.text.empty()) return;
  std::string path = k.path;
  path = path.substr(0, path.find('?')) + "?debug=1";
  under_load([&](int port) {
    const answer a = ask(port, get("/debug/pprof/" + path));
    ASSERT_EQ(a.status, 200) << a.body;
    const std::string start = a.body.substr(0, 20'000);  // a regex of std takes stack by the byte
    EXPECT_TRUE(std::regex_search(start, std::regex("^" + k.text))) << start.substr(0, 500);
    EXPECT_TRUE(std::regex_search(start, std::regex("\n# labels: \\{.*\"load\":\""))) << start;
    EXPECT_TRUE(std::regex_search(
        start, std::regex("\n#\t0x[0-9a-f]+\t[^\t\n]+\\+0x[0-9a-f]+\t[^\t\n]+:\\d+\n")))
        << start;
    const go_tool go;
    const auto top = go.pprof({"-top"}, go.write("text", a.body));
    EXPECT_EQ(top.exit_status, 0) << top.out;
  });
}

// Whether a listing has lines of source with figures beside them, as they are in the files that it
// names.
testing::AssertionResult lists_source(const std::string& listing) {
  std::vector<std::string> file;
  int equal = 0;
  std::istringstream lines(listing);
  static const std::regex routine("ROUTINE =+ .* in (\\S+)");
  static const std::regex figures("\\s+(\\S+)\\s+(\\S+)\\s+(\\d+):(.*)");
  std::smatch found;
  for (std::string line; std::getline(lines, line);) {
    if (line.size() > 1000) continue;
    if (std::regex_match(line, found, routine)) {
      file.clear();
      // As the tool finds it by -source_path: absolute, or relative to where it was compiled.
      std::ifstream source(std::filesystem::path(WEFT_TEST_BUILD_DIRECTORY) / found[1].str());
      for (std::string one; std::getline(source, one);) file.push_back(one);
    } else if (std::regex_match(line, found, figures)) {
      if (found[1] == "." && found[2] == ".") continue;
      const auto at = static_cast<size_t>(std::stoul(found[3]));
      equal += at > 0 && at <= file.size() && found[4] == file[at - 1] && !file[at - 1].empty();
    }
  }
  if (equal > 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "no line of source in\n" << listing;
}

TEST_P(DebugUnderLoad, IsReadByGosTool) {
  const kind& k = GetParam();
  under_load([&](int port) {
    const go_tool go;
    const std::string url = "http://127.0.0.1:" + std::to_string(port) + "/debug/pprof/" + k.path;
    const answer a = ask(port, get("/debug/pprof/" + std::string(k.path)));
    const std::string file = go.write("profile", a.body);
    const std::string type = "Type: " + (k.default_type.empty() ? k.types.back() : k.default_type);
    const std::string list = std::string("-list=") + k.list;
    for (const std::string& source : {url, file}) {
      const auto top = go.pprof({"-top"}, source);
      EXPECT_EQ(top.exit_status, 0) << top.out;
      EXPECT_TRUE(top.has("\n" + type.substr(0, type.find('/')) + "\n")) << top.out;
      EXPECT_TRUE(top.has("File: weft_net_tests\n")) << top.out;
      EXPECT_EQ(top.has("\nDuration: "), k.has_duration) << top.out;
      const auto raw = go.pprof({"-raw"}, source);
      EXPECT_EQ(raw.exit_status, 0) << raw.out;
      EXPECT_TRUE(raw.has("\nSamples:\n") && raw.has("\nLocations\n") && raw.has("\nMappings\n"));
      const auto traces = go.pprof({"-traces"}, source);
      EXPECT_EQ(traces.exit_status, 0) << traces.out;
      EXPECT_TRUE(traces.has("-----------+---")) << traces.out;
      const auto tags = go.pprof({"-tags"}, source);
      EXPECT_EQ(tags.exit_status, 0) << tags.out;
      EXPECT_TRUE(tags.has(" load: Total ")) << tags.out;
      const auto listing = go.pprof({list, "-source_path=" WEFT_TEST_BUILD_DIRECTORY}, source);
      EXPECT_EQ(listing.exit_status, 0) << listing.out;
      EXPECT_TRUE(listing.has("Total: ")) << listing.out;
      EXPECT_TRUE(lists_source(listing.out));
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, DebugUnderLoad, testing::ValuesIn(kinds()),
                         [](const auto& of) { return std::string(of.param.name); });

}  // namespace
}  // namespace weft
