// CPU profiles of programs whose truth is known: who burned how much is measured by the CPU clock
// of the thread that burns, which no load of the machine changes.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <weft/detail/config.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <regex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "profiler/cpu_sampler.h"
#include "profiler/symbolize.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/profile_check.h"
#include "tests/unit/profiler/profile_sums.h"

namespace cpu_truth {

using std::chrono::milliseconds;
using weft::prof::cpu_consumer;
using weft::prof::sample;

int64_t clock_ns(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}
int64_t thread_cpu() { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }

int64_t process_cpu() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  return (int64_t{used.ru_utime.tv_sec} + used.ru_stime.tv_sec) * 1'000'000'000 +
         (int64_t{used.ru_utime.tv_usec} + used.ru_stime.tv_usec) * 1000;
}

// Burns ns of the calling thread's CPU time, which it must not leave, and returns what it was.
template <int K>
[[gnu::noinline]] int64_t burn(int64_t ns) {
  const int64_t start = thread_cpu();
  int64_t spent = 0;
  while (spent < ns) {
    for (int i = 0; i < 20'000; ++i) asm volatile("" : : "r"(i + K));
    spent = thread_cpu() - start;
  }
  return spent;
}

bool has(const sample& s, std::string_view function) {
  for (size_t i = 0; i < s.pcs.size(); ++i) {
    for (const weft::prof::frame& f : weft::prof::symbolize(s.stack().address(i))) {
      if (f.name.find(function) != std::string::npos) return true;
    }
  }
  return false;
}

template <class F>
int64_t sum_ns(const std::vector<sample>& samples, F wanted) {
  int64_t ns = 0;
  for (const sample& s : samples) {
    if (wanted(s)) ns += s.values[1];
  }
  return ns;
}
int64_t all_ns(const std::vector<sample>& samples) {
  return sum_ns(samples, [](const sample&) { return true; });
}

// Other processes that want every core while it lives.
class machine_load {
 public:
  explicit machine_load(int hogs) {
    for (int i = 0; i < hogs; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        const pid_t parent = ::getppid();
        while (::getppid() == parent) {
          for (int j = 0; j < 1'000'000; ++j) asm volatile("");
        }
        ::_exit(0);
      }
      children_.push_back(child);
    }
  }
  ~machine_load() {
    for (pid_t child : children_) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
  }
  machine_load(const machine_load&) = delete;

 private:
  std::vector<pid_t> children_;
};

struct world {
  int procs;
  int hogs;
};
void PrintTo(const world& w, std::ostream* out) {  // part of the tests' names
  *out << w.procs << " processors, " << w.hogs << " others that compute";
}
class CpuTruth : public testing::TestWithParam<world> {};

TEST_P(CpuTruth, SharesOfFunctionsAndLabelsAndTheTotal) {
  const machine_load load(GetParam().hogs);
  weft::run({.max_procs = GetParam().procs}, [] {
    std::array<std::atomic<int64_t>, 3> truth{};
    cpu_consumer consumer(500);
    const int64_t before = process_cpu();  // after the tables for unwinding were made
    weft::wait_group wg;
    // Two tasks per function, so functions meet on every processor; shares of 10 : 6 : 4.
    for (int copy = 0; copy < 2; ++copy) {
      weft::with_labels({{"job", "first"}},
                        [&] { wg.go([&] { truth[0] += burn<0>(500'000'000); }); });
      weft::with_labels({{"job", "second"}},
                        [&] { wg.go([&] { truth[1] += burn<1>(300'000'000); }); });
      wg.go([&] { truth[2] += burn<2>(200'000'000); });
    }
    wg.wait();
    const auto samples = consumer.stop().samples;
    const int64_t used = process_cpu() - before;
    const auto total = static_cast<double>(all_ns(samples));
    EXPECT_NEAR(total / static_cast<double>(used), 1, 0.05);
    const auto true_total = static_cast<double>(truth[0] + truth[1] + truth[2]);
    const char* functions[] = {"burn<0>", "burn<1>", "burn<2>"};
    const char* jobs[] = {"first", "second", ""};
    for (size_t i = 0; i < 3; ++i) {
      const double share = static_cast<double>(truth[i]) / true_total;
      const auto by_name = static_cast<double>(
          sum_ns(samples, [&](const sample& s) { return has(s, functions[i]); }));
      EXPECT_NEAR(by_name / total, share, 0.03) << functions[i];
      const auto by_label = static_cast<double>(sum_ns(samples, [&](const sample& s) {
        return s.labels.empty() ? *jobs[i] == '\0' : s.labels[0].second == jobs[i];
      }));
      EXPECT_NEAR(by_label / total, share, 0.03) << "label " << jobs[i];
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Worlds, CpuTruth,
                         testing::Values(world{1, 0}, world{2, 0}, world{1, 4}, world{2, 4}),
                         [](const auto& each) {
                           return "P" + std::to_string(each.param.procs) +
                                  (each.param.hogs > 0 ? "Loaded" : "");
                         });

// Labels at the moment of the tick: inherited by tasks, replaced in a scope, restored after it.
TEST(CpuTruthLabels, FollowTheScopes) {
  weft::run({.max_procs = 1}, [] {
    cpu_consumer consumer(500);
    weft::with_labels({{"a", "1"}}, [] {
      burn<10>(200'000'000);
      weft::with_labels({{"b", "2"}}, [] { weft::spawn([] { burn<11>(200'000'000); }).join(); });
      burn<12>(200'000'000);
    });
    burn<13>(200'000'000);
    const auto samples = consumer.stop().samples;
    const auto labels_of = [&](const char* function) {
      std::map<std::string, int64_t> found;
      for (const sample& s : samples) {
        if (!has(s, function)) continue;
        std::string text;
        for (const auto& [key, value] : s.labels) text += key + value;
        found[text] += s.values[0];
      }
      return found;
    };
    using counts = std::map<std::string, int64_t>;
    for (const auto& [function, text] : {std::pair("burn<10>", "a1"),
                                         {"burn<11>", "a1b2"},
                                         {"burn<12>", "a1"},
                                         {"burn<13>", ""}}) {
      const counts found = labels_of(function);
      ASSERT_EQ(found.size(), 1u) << function;
      EXPECT_EQ(found.begin()->first, text) << function;
      EXPECT_GT(found.begin()->second, 10) << function;
    }
  });
}

// Threads that live for half a tick: seen in the mean, because the first tick falls anywhere.
TEST(CpuTruthThreads, ShortLivedOnesAreSeenInTheMean) {
  weft::run({.max_procs = 2}, [] {
    std::atomic<int64_t> truth{0};
    weft::chan<int> attach(1);
    cpu_consumer consumer(100);
    for (int i = 0; i < 400; ++i) {
      weft::blocking([&] {
        std::thread([&] {
          attach.send(1);  // a thread that the runtime knows
          attach.recv();
          truth += burn<20>(5'000'000);
        }).join();
      });
    }
    const auto samples = consumer.stop().samples;
    // The kernel may look at a thread's timer after its end only; what is due is counted all the
    // same.
    const auto seen = static_cast<double>(sum_ns(samples, [](const sample& s) {
      return has(s, "burn<20>") || s.pseudo_frame == "[too short to be sampled]";
    }));
    // 400 threads of half a period: 200 ticks with a deviation of 10, and what starting a thread
    // costs.
    EXPECT_GT(seen / static_cast<double>(truth), 0.8);
    EXPECT_LT(seen / static_cast<double>(truth), 1.4);
    EXPECT_GT(sum_ns(samples, [](const sample& s) { return has(s, "burn<20>"); }), 0);
  });
}

// A thread that never heard of weft is sampled, with its name and its whole stack.
[[gnu::noinline]] void stranger(std::atomic<int64_t>& truth) {
  truth += burn<30>(1'500'000'000);
  asm volatile("");
}

TEST(CpuTruthThreads, StrangersAreSampledUnderTheirNames) {
  weft::run({.max_procs = 1}, [] {
    std::atomic<int64_t> truth{0};
    std::atomic<bool> named{false};
    std::atomic<bool> go{false};
    std::thread thread([&] {
      ::pthread_setname_np(::pthread_self(), "stranger");
      named = true;
      while (!go) std::this_thread::yield();
      stranger(truth);
    });
    while (!named) std::this_thread::yield();
    cpu_consumer consumer(500);
    const int64_t before = process_cpu();
    go = true;
    weft::blocking([&] { thread.join(); });
    const auto samples = consumer.stop().samples;
    const auto used = static_cast<double>(process_cpu() - before);
    EXPECT_NEAR(static_cast<double>(all_ns(samples)) / used, 1, 0.05);
    const auto whole = static_cast<double>(sum_ns(samples, [](const sample& s) {
      return has(s, "burn<30>") && has(s, "stranger(") && s.pseudo_frame == "[stranger]";
    }));
    // The first ticks, before its stack was looked up, may lack the outer frames.
    EXPECT_GT(whole / static_cast<double>(truth), 0.75);
  });
}

TEST(CpuTruthThreads, SpareThreadsOfBlockingCalls) {
  weft::run({.max_procs = 1}, [] {
    std::atomic<int64_t> truth{0};
    cpu_consumer consumer(500);
    const int64_t before = process_cpu();  // after the tables for unwinding were made
    weft::wait_group wg;
    for (int i = 0; i < 8; ++i)
      wg.go([&] { weft::blocking([&] { truth += burn<40>(150'000'000); }); });
    wg.wait();
    const auto samples = consumer.stop().samples;
    const auto used = static_cast<double>(process_cpu() - before);
    EXPECT_NEAR(static_cast<double>(all_ns(samples)) / used, 1, 0.05);
    const auto seen =
        static_cast<double>(sum_ns(samples, [](const sample& s) { return has(s, "burn<40>"); }));
    EXPECT_NEAR(seen / static_cast<double>(truth), 1, 0.05);
  });
}

// ---- through code that was compiled by others ---------------------------------------------------

int compare_ints(const void* a, const void* b) {
  const int x = *static_cast<const int*>(a);
  const int y = *static_cast<const int*>(b);
  return x < y ? -1 : x > y;
}

template <class F>
[[gnu::noinline]] void for_a_while(F f) {
  const int64_t start = thread_cpu();
  while (thread_cpu() - start < 400'000'000) f();
}

[[gnu::noinline]] void by_qsort() {
  std::vector<int> numbers(20'000);
  for_a_while([&] {
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int>(i * 7919 % 20'011);
    std::qsort(numbers.data(), numbers.size(), sizeof(int), compare_ints);
  });
}
[[gnu::noinline]] void by_sort() {
  std::vector<std::string> words(5'000);
  for_a_while([&] {
    for (size_t i = 0; i < words.size(); ++i) words[i] = std::to_string(i * 7919 % 20'011);
    std::sort(words.begin(), words.end());
  });
}
[[gnu::noinline]] void by_regex() {
  const std::regex pattern("(a|b)*c[0-9]+x");
  const std::string text = "abababababababababc123456789x";
  for_a_while([&] { EXPECT_TRUE(std::regex_match(text, pattern)); });
}
[[gnu::noinline]] void by_memcpy() {
  std::vector<char> from(1 << 20, 'x');
  std::vector<char> to(1 << 20);
  for_a_while([&] {
    std::memcpy(to.data(), from.data(), from.size());
    asm volatile("" : : "r"(to.data()) : "memory");
  });
}
[[gnu::noinline]] void by_clock() {
  for_a_while([] {
    timespec t{};
    for (int i = 0; i < 1000; ++i) ::clock_gettime(CLOCK_MONOTONIC, &t);
  });
}

TEST(CpuTruthLibraries, StacksReachTheTaskThroughAllOfThem) {
#if WEFT_TSAN
  GTEST_SKIP() << "TSan hands over a signal that came inside a library call when the call is over, "
                  "with the registers of then: that stack is gone";
#endif
  weft::run({.max_procs = 2}, [] {
    struct library_use {
      const char* name;
      void (*run)();
    };
    const library_use uses[] = {{"by_qsort", by_qsort},
                                {"by_sort", by_sort},
                                {"by_regex", by_regex},
                                {"by_memcpy", by_memcpy},
                                {"by_clock", by_clock}};
    for (const library_use& use : uses) {
      cpu_consumer consumer(500);
      weft::with_labels({{"use", use.name}}, [&] { weft::spawn([&] { use.run(); }).join(); });
      const auto samples = consumer.stop().samples;
      const auto labelled = static_cast<double>(sum_ns(
          samples, [&](const sample& s) { return !s.labels.empty() && s.pseudo_frame.empty(); }));
      const auto whole = static_cast<double>(
          sum_ns(samples, [&](const sample& s) { return !s.labels.empty() && has(s, use.name); }));
      EXPECT_GT(labelled, 200e6) << use.name;
      EXPECT_GT(whole / labelled, 0.99) << use.name;
    }
  });
}

// ---- consumers ----------------------------------------------------------------------------------

TEST(CpuTruthConsumers, EachHasItsOwnIntervalWhateverTheRates) {
  weft::run({.max_procs = 1}, [] {
    cpu_consumer slow(100);
    int64_t only_slow = burn<50>(300'000'000);
    cpu_consumer fast(1000);
    const int64_t both = burn<50>(400'000'000);
    const auto fast_samples = fast.stop().samples;
    only_slow += burn<50>(300'000'000);
    const auto slow_samples = slow.stop().samples;
    const auto burned = [](const sample& s) { return has(s, "burn<50>"); };
    EXPECT_NEAR(static_cast<double>(sum_ns(fast_samples, burned)), static_cast<double>(both),
                static_cast<double>(both) * 0.1);
    const auto all = static_cast<double>(only_slow + both);
    EXPECT_NEAR(static_cast<double>(sum_ns(slow_samples, burned)), all, all * 0.1);
  });
}

TEST(CpuTruthConsumers, TaskNumbersWhereAskedForAndNotMoreThanTheBound) {
  weft::run({.max_procs = 1}, [] {
    cpu_consumer consumer({.hz = 500, .by_task = true});
    cpu_consumer plain(500);
    uint64_t id = 0;
    weft::spawn([&] {
      id = weft::this_task::id();
      burn<60>(200'000'000);
    }).join();
    for (const sample& s : consumer.stop().samples) {
      if (!has(s, "burn<60>")) continue;
      ASSERT_EQ(s.numbers.size(), 1u);
      EXPECT_EQ(s.numbers[0].key, "task");
      EXPECT_EQ(s.numbers[0].value, static_cast<int64_t>(id));
    }
    for (const sample& s : plain.stop().samples) EXPECT_TRUE(s.numbers.empty());
  });
}

TEST(CpuTruthConsumers, RatesOutOfRangeAreRefused) {
  EXPECT_THROW(cpu_consumer(0), std::invalid_argument);
  EXPECT_THROW(cpu_consumer(weft::prof::max_cpu_hz + 1), std::invalid_argument);
  EXPECT_THROW(weft::set_cpu_profile_rate(0), std::invalid_argument);
}

// ---- roots and ends -----------------------------------------------------------------------------

TEST(CpuTruthRoots, WorkOutsideTasksHasANameOfItsOwn) {
  weft::run({.max_procs = 2}, [] {
    cpu_consumer consumer(1000);
    const int64_t start = process_cpu();
    // Sleeps so short that most of the time goes into looking for work and timers.
    weft::wait_group wg;
    for (int i = 0; i < 4; ++i) {
      wg.go([&] {
        while (process_cpu() - start < 1'000'000'000)
          weft::this_task::sleep_for(std::chrono::microseconds(20));
      });
    }
    wg.wait();
    std::map<std::string, int64_t> roots;
    for (const sample& s : consumer.stop().samples) {
      roots[s.pseudo_frame] += s.values[0];
      // Only the program's own tasks have no root.
      if (s.pseudo_frame.empty()) continue;
      EXPECT_TRUE(s.labels.empty());
    }
    EXPECT_GT(roots["[scheduler]"], 10);
    EXPECT_GT(roots[""], 10);
  });
}

[[gnu::noinline]] int64_t deeper(int depth) {
  const int64_t r = depth == 0 ? burn<70>(200'000'000) : deeper(depth - 1);
  asm volatile("");
  return r + 1;
}

TEST(CpuTruthRoots, WhatIsTooDeepIsMarked) {
  weft::run({.max_procs = 1}, [] {
    std::ostringstream out;
    weft::pprof::start_cpu_profile(out);
    deeper(1000);
    weft::pprof::stop_cpu_profile();
    EXPECT_TRUE(weft::prof::test::valid_profile(out.str()));
    const auto profile = weft::prof::test::decode_profile(out.str());
    int64_t cut = 0;
    for (const auto& s : profile.sample()) {
      const auto& root =
          profile.location(static_cast<int>(s.location_id(s.location_id_size() - 1)) - 1);
      const auto& f = profile.function(static_cast<int>(root.line(0).function_id()) - 1);
      if (s.location_id_size() < 512) continue;
      EXPECT_EQ(profile.string_table(static_cast<int>(f.name())), "[truncated stack]");
      cut += s.value(0);
    }
    EXPECT_GT(cut, 5);
  });
}

// ---- as Go's tool reads it ----------------------------------------------------------------------

TEST(CpuTruthTool, ReadsBackWhatWasBurned) {
  std::ostringstream out;
  weft::run({.max_procs = 1}, [&] {
    weft::set_cpu_profile_rate(500);
    weft::pprof::start_cpu_profile(out);
    weft::with_labels({{"job", "tool"}}, [] { burn<80>(600'000'000); });
    weft::pprof::stop_cpu_profile();
    weft::set_cpu_profile_rate(100);
  });
  const weft::prof::test::go_tool go;
  const std::string file = go.write("cpu.pb.gz", out.str());
  const auto reads = [&](std::initializer_list<std::string> options,
                         std::initializer_list<const char*> wanted) {
    const auto result = go.pprof(options, file);
    EXPECT_EQ(result.exit_status, 0) << result.out;
    for (const char* text : wanted) EXPECT_TRUE(result.has(text)) << text << "\n" << result.out;
  };
  reads({"-top"}, {"Type: cpu", "Duration: ", "cpu_truth::burn<80>"});
  reads({"-raw"}, {"PeriodType: cpu nanoseconds", "Period: 2000000", "cpu_truth::burn<80>"});
  reads({"-traces"}, {"job:", "tool", "cpu_truth::burn<80>"});
  reads({"-tags"}, {"job: Total", "tool"});
  reads({"-list", "burn<80>"}, {"cpu_truth_test.cc", "ROUTINE"});
}

struct burning {
  int64_t each;
  int64_t spent = 0;
};
int burn_in_callback(void* argument) {
  auto& b = *static_cast<burning*>(argument);
  b.spent += burn<7>(b.each);
  return 0;
}

// Nanoseconds of a profile in burn<7>; of these, in stacks that lead to the root and in stacks that
// say that they do not.
struct in_library {
  int64_t all = 0, whole = 0, cut = 0;
};
in_library time_in_library(std::string_view bytes) {
  using weft::prof::test::goes_through;
  const auto p = weft::prof::test::decode_profile(bytes);
  in_library t;
  for (const auto& s : p.sample()) {
    if (!goes_through(p, s, "burn<7>")) continue;
    t.all += s.value(1);
    if (goes_through(p, s, "[truncated stack]"))
      t.cut += s.value(1);
    else if (goes_through(p, s, "call_late_library"))
      t.whole += s.value(1);
  }
  return t;
}

// Burns `each` ns of CPU time, `times` times, in a callback of a library that is loaded for it.
[[gnu::noinline]] void call_late_library(int64_t& spent, int times, int64_t each = 100'000'000) {
  // The loader's own lock is not one that a sanitizer sees.
  static std::mutex one_at_a_time;
  void* library;
  {
    const std::lock_guard hold(one_at_a_time);
    library = ::dlopen(WEFT_TEST_LATE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  }
  ASSERT_NE(library, nullptr) << ::dlerror();
  auto* call = reinterpret_cast<int (*)(int (*)(void*), void*)>(::dlsym(library, "weft_late_call"));
  ASSERT_NE(call, nullptr) << ::dlerror();
  burning b{each};
  for (int i = 0; i < times; ++i) EXPECT_EQ(call(burn_in_callback, &b), 1);
  spent += b.spent;
  const std::lock_guard hold(one_at_a_time);
  ::dlclose(library);
}

// The tables for unwinding and the list of mappings are older than the library: both must follow
// while the profile is under way, and until they have, stacks say that they are not whole.
TEST(CpuProfiles, ALibraryThatIsLoadedMeanwhileHasItsFramesAndNames) {
  weft::run({.max_procs = 2}, [&] {
    int64_t spent = 0;
    std::ostringstream out;
    weft::pprof::start_cpu_profile(out);
    burn<8>(50'000'000);
    call_late_library(spent, 10);  // loaded, used and closed
    burn<8>(50'000'000);
    void* library = ::dlopen(WEFT_TEST_LATE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr);
    call_late_library(spent, 10);  // and once more, perhaps elsewhere; it stays until the end
    weft::pprof::stop_cpu_profile();
    ::dlclose(library);
    const std::string bytes = out.str();
    EXPECT_TRUE(weft::prof::test::valid_profile(bytes));
    const in_library t = time_in_library(bytes);
    EXPECT_NEAR(static_cast<double>(t.all) / static_cast<double>(spent), 1, 0.1);
    EXPECT_EQ(t.whole + t.cut, t.all) << "a stack without its root that does not say so";
    EXPECT_GT(t.whole, 0);
    const auto through = weft::prof::test::sums_by_function(bytes, "weft_late_call");
    EXPECT_GT(through[1], 0);
    EXPECT_LE(through[1], t.all);
  });
}

// Many times, from two tasks, while profiles are taken and written.
TEST(CpuProfiles, LibrariesComeAndGoAllTheWhile) {
  weft::run({.max_procs = 2}, [&] {
    std::atomic<bool> stop{false};
    std::vector<weft::join_handle<int64_t>> tasks;
    for (int i = 0; i < 2; ++i) {
      tasks.push_back(weft::spawn([&] {
        int64_t spent = 0;
        while (!stop) call_late_library(spent, 2, 1'000'000);
        return spent;
      }));
    }
    for (int round = 0; round < 10; ++round) {
      std::ostringstream out;
      weft::pprof::start_cpu_profile(out);
      weft::this_task::sleep_for(milliseconds(150));
      weft::pprof::stop_cpu_profile();
      ASSERT_TRUE(weft::prof::test::valid_profile(out.str())) << "round " << round;
      const in_library t = time_in_library(out.str());
      EXPECT_EQ(t.whole + t.cut, t.all);
    }
    stop = true;
    for (auto& t : tasks) EXPECT_GT(t.join(), 0);
  });
}

}  // namespace cpu_truth
