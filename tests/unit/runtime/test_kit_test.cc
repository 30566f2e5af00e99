// The deterministic worlds of <weft/test.h>.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>
#include <weft/blocking.h>
#include <weft/test.h>
#include <weft/weft.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"

namespace {

using namespace std::chrono_literals;
using weft::test::failure;
using weft::test::wait;
namespace test = weft::test;

// A few tasks that meet in every primitive.
void busy_world() {
  weft::chan<int> numbers(2), sums(0);
  weft::mutex lock;
  weft::wait_group workers;
  int shared = 0;
  for (int i = 0; i < 4; ++i) {
    workers.go([&, i] {
      for (int k = 0; k < 5; ++k) {
        weft::this_task::sleep_for(std::chrono::milliseconds(i + k));
        numbers.send(k);
        std::lock_guard hold(lock);
        ++shared;
      }
    });
  }
  weft::go([&] {
    workers.wait();
    numbers.close();
  });
  weft::go([&] {
    int sum = 0;
    for (int n : numbers) sum += n;
    sums.send(sum);
  });
  int done = weft::select(weft::on_recv(sums, [](std::optional<int> s) { EXPECT_EQ(*s, 40); }),
                          weft::on_timeout(1h));
  EXPECT_EQ(done, 0);
  EXPECT_EQ(shared, 20);
}

failure failure_of(const test::options& o, const std::function<void()>& f) {
  try {
    test::run(o, f);
  } catch (const failure& e) {
    return e;
  }
  ADD_FAILURE() << "the world did not fail";
  return {failure::kind::rejected, 0, ""};
}

TEST(TestKit, TimeIsFakeAndStartsAtTheSameInstant) {
  std::set<std::chrono::steady_clock::time_point> starts;
  for (int i = 0; i < 3; ++i) {
    auto r = test::run([&] {
      auto start = weft::now();
      starts.insert(start);
      weft::this_task::sleep_for(24h * 365);
      EXPECT_EQ(weft::now() - start, 24h * 365);
      weft::this_task::sleep_until(start + 24h * 366);
      EXPECT_EQ(weft::now() - start, 24h * 366);
    });
    EXPECT_EQ(r.elapsed, 24h * 366);
  }
  EXPECT_EQ(starts.size(), 1u);
  EXPECT_NE(weft::now(), *starts.begin());
}

TEST(TestKit, EveryTimedWaitFollowsTheClock) {
  test::run([] {
    auto start = weft::now();
    EXPECT_EQ(*weft::after(1h).recv(), start + 1h);
    weft::chan<int> never(0);
    EXPECT_EQ(weft::select(weft::on_recv(never), weft::on_timeout(1h)), 1);
    EXPECT_EQ(weft::now() - start, 2h);
    weft::mutex m;
    m.lock();
    EXPECT_FALSE(m.try_lock_for(1h));
    EXPECT_EQ(weft::now() - start, 3h);
    EXPECT_FALSE(m.try_lock_until(start + 4h));
    EXPECT_EQ(weft::now() - start, 4h);
    weft::condition_variable c;
    EXPECT_EQ(c.wait_for(m, 1h), std::cv_status::timeout);
    EXPECT_EQ(weft::now() - start, 5h);
  });
}

TEST(TestKit, TimeStandsStillWhileATaskCanRun) {
  test::run([] {
    auto start = weft::now();
    bool slept = false;
    weft::go([&] {
      weft::this_task::sleep_for(1ns);
      slept = true;
    });
    for (int i = 0; i < 1000; ++i) weft::this_task::yield();
    EXPECT_FALSE(slept);
    EXPECT_EQ(weft::now(), start);
    weft::this_task::sleep_for(1ns);
    wait();
    EXPECT_TRUE(slept);
  });
}

TEST(TestKit, WaitReturnsWhenAllOthersAreBlocked) {
  test::explore({.seeds = 200}, [] {
    weft::chan<int> c(0);
    int stage = 0;
    weft::go([&] {
      for (int i = 0; i < 10; ++i) weft::this_task::yield();
      stage = 1;
      c.recv();
      stage = 2;
      weft::this_task::sleep_for(1s);
      stage = 3;
    });
    wait();
    if (stage != 1) throw std::logic_error("1");
    c.send(0);
    wait();
    if (stage != 2) throw std::logic_error("2");
    weft::this_task::sleep_for(1s);
    wait();
    if (stage != 3) throw std::logic_error("3");
    wait();  // alone
  });
}

TEST(TestKit, WaitIsForTasksOfAWorldOneAtATime) {
  EXPECT_THROW(wait(), weft::panic_error);
  weft::run([] { EXPECT_THROW(wait(), weft::panic_error); });
  test::run([] {
    int refused = 0;
    weft::wait_group both;
    for (int i = 0; i < 2; ++i) {
      both.go([&] {
        try {
          wait();
        } catch (const weft::panic_error&) {
          ++refused;
        }
      });
    }
    both.wait();
    EXPECT_EQ(refused, 1);
  });
}

TEST(TestKit, SameSeedSameSchedule) {
  for (uint64_t seed : {1, 2, 77}) {
    test::options o{.seed = seed, .record = true};
    auto first = test::run(o, busy_world);
    weft::run(busy_world);  // whatever it leaves in counters and caches
    auto second = test::run(o, busy_world);
    EXPECT_EQ(first.schedule, second.schedule);
    EXPECT_EQ(first.fingerprint, second.fingerprint);
    EXPECT_EQ(first.steps, second.steps);
    EXPECT_EQ(first.elapsed, second.elapsed);
    EXPECT_GT(first.schedule.size(), 30u);
  }
}

TEST(TestKit, DifferentSeedsGiveDifferentSchedules) {
  EXPECT_GT(test::explore({.seeds = 50}, busy_world), 45u);
}

std::string output_of(const std::string& command) {
  std::string text;
  FILE* f = ::popen(command.c_str(), "r");
  char part[256];
  while (std::fgets(part, sizeof part, f) != nullptr) text += part;
  EXPECT_EQ(::pclose(f), 0) << command;
  return text;
}

TEST(TestKit, DISABLED_SaysItsFingerprint) {
  auto r = test::run(busy_world);
  std::printf("fingerprint %llx of seed %llu\n", static_cast<unsigned long long>(r.fingerprint),
              static_cast<unsigned long long>(r.seed));
  EXPECT_NE(r.fingerprint, 0u);
}

TEST(TestKit, SameSeedSameScheduleInAnotherProcess) {
  char self[4096];
  ssize_t n = ::readlink("/proc/self/exe", self, sizeof self - 1);
  ASSERT_GT(n, 0);
  self[n] = 0;
  auto elsewhere = [&](const std::string& environment) {
    std::string all = output_of(environment + " '" + self +
                                "' --gtest_also_run_disabled_tests "
                                "--gtest_filter=TestKit.DISABLED_SaysItsFingerprint");
    size_t at = all.find("fingerprint ");
    EXPECT_NE(at, std::string::npos) << all;
    return at == std::string::npos ? "" : all.substr(at, all.find('\n', at) - at);
  };
  auto here = test::run({.seed = 4711}, busy_world);
  char expected[80];
  std::snprintf(expected, sizeof expected, "fingerprint %llx of seed 4711",
                static_cast<unsigned long long>(here.fingerprint));
  EXPECT_EQ(elsewhere("WEFT_TEST_SEED=4711"), expected);
  EXPECT_EQ(elsewhere("WEFT_MAXPROCS=4 WEFT_TEST_SEED=4711"), expected);
  EXPECT_NE(elsewhere("WEFT_TEST_SEED=4712"), expected);
}

TEST(TestKit, ExploringFindsALostUpdateAndTheSeedReplaysIt) {
  int found = 0;
  auto lost_update = [&] {
    weft::mutex lock;
    int balance = 0;
    weft::wait_group both;
    for (int i = 0; i < 2; ++i) {
      both.go([&] {
        lock.lock();
        int seen = balance;
        lock.unlock();  // too early
        lock.lock();
        balance = seen + 1;
        lock.unlock();
      });
    }
    both.wait();
    if (balance != 2) {
      ++found;
      throw std::runtime_error("balance is " + std::to_string(balance));
    }
  };
  uint64_t seed = 0;
  try {
    test::explore({.seeds = 1000}, lost_update);
    ADD_FAILURE() << "not found";
  } catch (const failure& e) {
    EXPECT_EQ(e.what_kind(), failure::kind::exception);
    EXPECT_NE(std::string(e.what()).find("balance is 1"), std::string::npos) << e.what();
    seed = e.seed();
  }
  EXPECT_EQ(found, 1);
  for (int i = 0; i < 5; ++i)
    EXPECT_THROW(test::run({.seed = seed}, lost_update), std::runtime_error);
  EXPECT_EQ(found, 6);
}

TEST(TestKit, ExploreAsksWhetherTheTestHasFailed) {
  int worlds = 0;
  try {
    test::explore({.seeds = 10, .first_seed = 100, .failed = [&] { return worlds == 3; }},
                  [&] { ++worlds; });
    ADD_FAILURE() << "not rejected";
  } catch (const failure& e) {
    EXPECT_EQ(e.what_kind(), failure::kind::rejected);
    EXPECT_EQ(e.seed(), 102u);
  }
}

TEST(TestKit, ADeadlockNamesTheTasks) {
  // It lives as long as the tasks, which is for ever; the leak checker does not look at their
  // stacks.
  static std::vector<std::unique_ptr<weft::mutex>> kept;
  weft::mutex& lock = *kept.emplace_back(new weft::mutex);
  static weft::chan<int> never(0);
  failure e = failure_of({.seed = 5}, [&lock] {
    lock.lock();
    weft::go({.name = "locker"}, [&lock] { lock.lock(); });
    weft::this_task::sleep_for(3s);
    never.recv();
  });
  weft::test::leave_tasks_behind(weft::sched::wait_reason::mutex_lock, 1);
  weft::test::leave_tasks_behind(weft::sched::wait_reason::chan_receive, 1);
  EXPECT_EQ(e.what_kind(), failure::kind::deadlock);
  EXPECT_EQ(e.seed(), 5u);
  std::string text = e.what();
  EXPECT_NE(text.find("seed 5"), std::string::npos) << text;
  EXPECT_NE(text.find("3000 ms"), std::string::npos) << text;
  EXPECT_NE(text.find("task 1 [chan receive]"), std::string::npos) << text;
  EXPECT_NE(text.find("task 2 \"locker\" [sync.Mutex.Lock], started by task 1"), std::string::npos)
      << text;
}

TEST(TestKit, TasksThatAreLeftAreNamed) {
  static weft::chan<int> nobody_listens(0);
  failure e = failure_of({}, [] { weft::go({.name = "orphan"}, [] { nobody_listens.send(1); }); });
  weft::test::leave_tasks_behind(weft::sched::wait_reason::chan_send, 1);
  EXPECT_EQ(e.what_kind(), failure::kind::tasks_left);
  EXPECT_NE(std::string(e.what()).find("\"orphan\" [chan send]"), std::string::npos) << e.what();
}

TEST(TestKit, TasksMayOutliveTheFunctionUntilTheyNeedTime) {
  auto ended = std::make_shared<int>(0);
  test::run([ended] {
    weft::go([ended] {
      for (int i = 0; i < 5; ++i) weft::this_task::yield();
      ++*ended;
    });
  });
  EXPECT_EQ(*ended, 1);
  failure e = failure_of({}, [] { weft::go([] { weft::this_task::sleep_for(1ns); }); });
  weft::test::leave_tasks_behind(weft::sched::wait_reason::sleep, 1);
  EXPECT_EQ(e.what_kind(), failure::kind::tasks_left);
  EXPECT_NE(std::string(e.what()).find("task 2 [sleep]"), std::string::npos) << e.what();
}

TEST(TestKit, ALivelockHitsTheLimitOfSteps) {
  auto stop = std::make_shared<bool>(false);
  failure e = failure_of({.max_steps = 1000}, [stop] {
    while (!*stop) weft::this_task::yield();
  });
  weft::test::leave_tasks_behind(weft::sched::wait_reason::none, 1);  // runnable for ever
  EXPECT_EQ(e.what_kind(), failure::kind::too_many_steps);
  EXPECT_NE(std::string(e.what()).find("more than 1000 steps"), std::string::npos) << e.what();
  // What it left does not run on in a later world, nor in the ordinary runtime.
  weft::run([stop] {
    *stop = true;
    for (int i = 0; i < 100; ++i) weft::this_task::yield();
  });
  EXPECT_NO_THROW(test::run([] {}));
}

TEST(TestKit, AnExceptionOfTheFunctionReachesTheCaller) {
  EXPECT_THROW(test::run([] { throw std::out_of_range("mine"); }), std::out_of_range);
}

TEST(TestKit, OneWorldAtATime) {
  test::run([] {
    EXPECT_THROW(test::run([] {}), weft::panic_error);
    EXPECT_THROW(weft::run([] {}), weft::panic_error);
  });
  weft::run([] { EXPECT_THROW(test::run([] {}), weft::panic_error); });
  EXPECT_NO_THROW(test::run([] {}));
}

TEST(TestKit, CountsAndSettingsAreOfThisWorld) {
  const int64_t before = weft::num_tasks();
  test::run({.seed = 9}, [&] {
    EXPECT_EQ(weft::num_tasks(), before + 1);
    EXPECT_EQ(test::seed(), 9u);
    EXPECT_EQ(weft::set_max_procs(4), 1);
    EXPECT_EQ(weft::set_max_procs(0), 1);
  });
  EXPECT_THROW(test::seed(), weft::panic_error);
}

TEST(TestKit, TheClockWaitsForABlockingCall) {
  test::run([] {
    auto start = weft::now();
    weft::chan<int> from_outside(0);
    weft::go([=] {
      weft::blocking([] { std::this_thread::sleep_for(2ms); });
      from_outside.send(1);
    });
    EXPECT_EQ(weft::select(weft::on_recv(from_outside), weft::on_timeout(1h)), 0);
    EXPECT_EQ(weft::now(), start);
  });
}

TEST(TestKit, TheClockWaitsForAThreadThatIsAnnounced) {
  test::run([] {
    auto start = weft::now();
    weft::chan<int> c(0);
    auto hold = std::make_unique<test::outside_work>();
    std::thread outside([&] {
      std::this_thread::sleep_for(2ms);
      c.send(7);
      hold.reset();
      c.send(8);  // from here on the runtime knows the thread
    });
    EXPECT_EQ(weft::select(weft::on_recv(c), weft::on_timeout(1h)), 0);
    EXPECT_EQ(c.recv(), 8);
    weft::blocking([&] { outside.join(); });
    EXPECT_EQ(weft::now(), start);
  });
}

TEST(TestKit, TasksAndTimersOfAnEarlierRunStandStill) {
  auto woken = std::make_shared<weft::chan<int>>(1);
  auto ticks = std::make_shared<std::atomic<int>>(0);
  auto timeout = std::make_shared<weft::recv_chan<std::chrono::steady_clock::time_point>>();
  weft::run([&] {
    weft::go([woken, ticks] {
      woken->recv();
      ++*ticks;
    });
    weft::go([ticks] {
      weft::this_task::sleep_for(1ms);
      ++*ticks;
    });
    *timeout = weft::after(50ms);
    weft::this_task::yield();
  });
  // The sleeper and the timer may have had their time already.
  const int ticks_before = *ticks;
  const size_t timeouts_before = timeout->size();
  test::run([&] {
    woken->send(1);
    weft::this_task::sleep_for(1h);
    EXPECT_EQ(*ticks, ticks_before);
    EXPECT_EQ(timeout->size(), timeouts_before);
  });
  weft::run([&] {
    EXPECT_TRUE(weft::test::eventually([&] { return *ticks == 2; }));
    EXPECT_TRUE(timeout->recv());
  });
}

TEST(TestKit, ManyWorldsInARow) {
  for (int i = 0; i < weft::test::sized(2000, 200); ++i) {
    auto r = test::run([] {
      weft::chan<int> c(0);
      weft::go([c] { c.send(1); });
      c.recv();
    });
    ASSERT_GT(r.steps, 0u);
  }
}

// The runtime's own threads are no part of the test: they go by the true clock, whatever hour it is
// in there. Each line of the trace says how long the program has run.
TEST(TestKit, ServiceThreadsKeepTheTrueTime) {
  EXPECT_EXIT(
      {
        ::setenv("WEFT_DEBUG", "schedtrace=1", 1);
        weft::run([] {});  // starts the tracing thread
        weft::test::run([] {
          for (int i = 0; i < 24; ++i) weft::this_task::sleep_for(std::chrono::hours(1));
          // Long enough, in truth, for lines that were written in this world.
          weft::blocking([] { std::this_thread::sleep_for(std::chrono::milliseconds(30)); });
        });
        ::_exit(0);
      },
      testing::ExitedWithCode(0), "^(SCHED [0-9]{1,5}ms: [^\n]*\n)+$");
}

}  // namespace
