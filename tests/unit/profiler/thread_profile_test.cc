// threadcreate: every thread of the process, and for the runtime's workers who asked for them.
#include <dirent.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <weft/blocking.h>
#include <weft/latch.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <sstream>
#include <string>
#include <thread>

#include "profiler/thread_profile.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/profile_check.h"

namespace weft {
namespace {

std::string written(int debug) {
  std::ostringstream out;
  pprof::lookup("threadcreate")->write_to(out, debug);
  return out.str();
}

int threads_of_process() {
  int n = 0;
  DIR* all = ::opendir("/proc/self/task");
  while (const dirent* entry = ::readdir(all)) n += entry->d_name[0] != '.';
  ::closedir(all);
  return n;
}

int total(const std::string& text) { return std::stoi(text.substr(text.find("total ") + 6)); }

// Threads may still be starting: the counts agree as soon as none is.
testing::AssertionResult counts_all_threads() {
  for (int i = 0; i < 10'000; ++i) {
    int before = threads_of_process();
    if (total(written(1)) == before && pprof::lookup("threadcreate")->count() == before)
      return testing::AssertionSuccess();
    std::this_thread::yield();
  }
  return testing::AssertionFailure() << threads_of_process() << " threads, but\n" << written(1);
}

[[gnu::noinline]] void block_until(std::atomic<bool>& done) {
  blocking([&] {
    while (!done.load()) std::this_thread::yield();
  });
  asm volatile("");
}

// Runs f while so many tasks are in blocking calls that new threads had to be made.
template <class F>
void with_new_threads(F f) {
  prof::install_thread_profile();
  run({.max_procs = 2}, [&] {
    std::atomic<bool> done{false};
    std::atomic<int> blocked{0};
    const int wanted = threads_of_process() + 4;
    wait_group all;
    with_labels({{"asks", "for threads"}}, [&] {
      for (int i = 0; i < wanted; ++i) {
        all.go([&] {
          ++blocked;
          block_until(done);
        });
      }
    });
    while (blocked.load() < wanted) this_task::yield();
    f();
    done = true;
    all.wait();
  });
}

TEST(ThreadProfile, NamesWhoAskedAndCountsAllThreads) {
  with_new_threads([] {
    EXPECT_TRUE(counts_all_threads());
    std::string text = written(1);
    EXPECT_EQ(text.rfind("threadcreate profile: total ", 0), 0u) << text;
    EXPECT_NE(text.find("block_until"), std::string::npos) << text;
    EXPECT_NE(text.find("# labels: {\"asks\":\"for threads\"}"), std::string::npos) << text;
    EXPECT_NE(text.find("# [main thread]\n"), std::string::npos) << text;
    EXPECT_NE(text.find("# [thread weft-monitor]\n"), std::string::npos) << text;
    EXPECT_NE(text.find("\n# workers: "), std::string::npos) << text;
  });
}

TEST(ThreadProfile, IsAValidProfileThatGoToolReads) {
  with_new_threads([] {
    std::string bytes = written(0);
    EXPECT_TRUE(prof::test::valid_profile(bytes));
    const auto decoded = prof::test::decode_profile(bytes);
    EXPECT_EQ(decoded.sample_type_size(), 1);
    EXPECT_EQ(decoded.duration_nanos(), 0);
    int64_t sum = 0;
    for (const auto& s : decoded.sample()) {
      EXPECT_GT(s.location_id_size(), 0);
      sum += s.value(0);
    }
    EXPECT_GE(sum, 4);
    const prof::test::go_tool go;
    const std::string file = go.write("threadcreate.pb.gz", bytes);
    auto top = go.pprof({"-top", "-cum", "-symbolize=none"}, file);
    EXPECT_EQ(top.exit_status, 0) << top.out;
    EXPECT_TRUE(top.has("Type: threadcreate\n")) << top.out;
    EXPECT_TRUE(top.has("block_until")) << top.out;
    EXPECT_TRUE(go.pprof({"-raw"}, file).has("PeriodType: threadcreate count\n"));
    EXPECT_TRUE(go.pprof({"-traces"}, file).has("[main thread]"));
    EXPECT_TRUE(go.pprof({"-tags"}, file).has("for threads"));
    // Go's own text of this profile is refused by Go's own tool.
    auto text = go.pprof({"-top"}, go.write("threadcreate.txt", written(1)));
    EXPECT_EQ(text.exit_status, 0) << text.out;
  });
}

TEST(ThreadProfile, AThreadThatEndedIsNotListed) {
  with_new_threads([] {
    std::string own;
    auto t = spawn([&] {
      lock_os_thread();  // and never unlocks it: its thread ends with it
      own = "/proc/self/task/" + std::to_string(::gettid());
    });
    t.join();
    while (::access(own.c_str(), F_OK) == 0) std::this_thread::yield();
    EXPECT_TRUE(counts_all_threads());
  });
}

}  // namespace
}  // namespace weft
