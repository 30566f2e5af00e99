// Every primitive from threads that are no tasks.
#include <gtest/gtest.h>
#include <weft/barrier.h>
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/condition_variable.h>
#include <weft/context.h>
#include <weft/labels.h>
#include <weft/latch.h>
#include <weft/mutex.h>
#include <weft/once.h>
#include <weft/recursive_mutex.h>
#include <weft/select.h>
#include <weft/select_set.h>
#include <weft/semaphore.h>
#include <weft/shared_mutex.h>
#include <weft/task_group.h>
#include <weft/time.h>
#include <weft/wait_group.h>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "scheduler/park.h"
#include "tests/conformance/world.h"

namespace weft {
namespace {

using namespace std::chrono_literals;

// Waits for a thread without keeping this task's processor.
void join(std::thread& t) {
  blocking([&] { t.join(); });
}
void on_thread(std::function<void()> f) {
  std::thread t(std::move(f));
  join(t);
}

WEFT_WORLD_TEST(Foreign, ChannelsBothWays) {
  chan<int> to(0);
  chan<int> from(2);
  const int n = test::sized(2000, 200);
  std::thread t([=] {
    for (int v : to) from.send(v * 2);
    from.close();
  });
  go([=] {
    for (int i = 0; i < n; ++i) to.send(i);
    to.close();
  });
  int64_t sum = 0;
  for (int v : from) sum += v;
  join(t);
  EXPECT_EQ(sum, int64_t{n} * (n - 1));
}

WEFT_WORLD_TEST(Foreign, ThreadToThread) {
  chan<int> c(0);
  const int n = test::sized(1000, 200);
  int64_t sum = 0;
  std::thread a([=] {
    for (int i = 0; i < n; ++i) c.send(i);
    c.close();
  });
  std::thread b([&, c] {
    while (auto v = c.recv()) sum += *v;
  });
  join(a);
  join(b);
  EXPECT_EQ(sum, int64_t{n} * (n - 1) / 2);
}

WEFT_WORLD_TEST(Foreign, Select) {
  chan<int> c(0);
  on_thread([=] {
    EXPECT_EQ(select(on_recv(c), on_default()), 1);
    EXPECT_EQ(select(on_recv(c), on_timeout(1ms)), 1);
    EXPECT_EQ(select(on_recv(after(1ms)), on_recv(c)), 0);
  });
  std::atomic<int> chosen{-1};
  std::thread t([&, c] { chosen = select(on_send(c, 1), on_send(chan<int>{}, 2)); });
  EXPECT_EQ(c.recv(), 1);
  join(t);
  EXPECT_EQ(chosen.load(), 0);
}

WEFT_WORLD_TEST(Foreign, MutexAmongTasksAndThreads) {
  mutex m;
  int64_t total = 0;
  const int n = test::sized(2000, 200);
  auto work = [&] {
    for (int i = 0; i < n; ++i) {
      std::lock_guard hold(m);
      ++total;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(work);
  wait_group wg;
  for (int i = 0; i < 3; ++i) wg.go(work);
  wg.wait();
  for (auto& t : threads) join(t);
  EXPECT_EQ(total, 6 * n);
  on_thread([&] {
    m.lock();
    EXPECT_FALSE(m.try_lock_for(1ms));
    m.unlock();
  });
}

WEFT_WORLD_TEST(Foreign, ConditionVariable) {
  mutex m;
  condition_variable cv;
  int turn = 0;
  constexpr int n = 200;
  auto play = [&](int mine) {
    for (int i = 0; i < n; ++i) {
      std::unique_lock hold(m);
      cv.wait(hold, [&] { return turn % 2 == mine; });
      ++turn;
      cv.notify_all();
    }
  };
  std::thread t([&] { play(1); });
  play(0);
  join(t);
  EXPECT_EQ(turn, 2 * n);
  on_thread([&] {
    std::unique_lock hold(m);
    EXPECT_EQ(cv.wait_for(hold, 1ms), std::cv_status::timeout);
  });
}

WEFT_WORLD_TEST(Foreign, WaitGroupGoSpawnJoinSleep) {
  on_thread([] {
    wait_group wg;
    std::atomic<int> n{0};
    for (int i = 0; i < 50; ++i) wg.go([&] { ++n; });
    wg.wait();
    EXPECT_EQ(n.load(), 50);
    EXPECT_EQ(spawn([] { return 4; }).join(), 4);
    EXPECT_THROW(spawn([] { throw 1; }).join(), int);
    auto start = std::chrono::steady_clock::now();
    this_task::sleep_for(2ms);
    EXPECT_GE(std::chrono::steady_clock::now() - start, 2ms);
    this_task::yield();
    EXPECT_EQ(blocking([] { return 6; }), 6);
  });
}

WEFT_WORLD_TEST(Foreign, ThreadsAreNotCountedAsTasks) {
  on_thread([] { EXPECT_EQ(test::own_tasks(), 1); });
  std::set<uint64_t> ids{this_task::id()};
  for (int i = 0; i < 10; ++i) {
    uint64_t id = 0;
    on_thread([&] { id = this_task::id(); });
    EXPECT_TRUE(ids.insert(id).second);
  }
}

// Threads come and go; their records are reused.
WEFT_WORLD_TEST(Foreign, ManyShortThreads) {
  chan<int> c(0);
  const int n = test::sized(300, 60);
  auto sum = spawn([c] {
    int s = 0;
    for (int i = 0; i < n; ++i) s += *c.recv();
    return s;
  });
  std::vector<std::thread> threads;
  for (int i = 0; i < n; ++i) {
    threads.emplace_back([c] { c.send(1); });
    if (i % 10 == 9) {
      for (auto& t : threads) join(t);
      threads.clear();
    }
  }
  EXPECT_EQ(sum.join(), n);
}

// A thread goes on with what it does while no scheduler runs, as far as no task is needed.
TEST(Foreign, PrimitivesWorkOutsideOfRun) {
  chan<int> c(1);
  c.send(1);
  EXPECT_EQ(c.recv(), 1);
  mutex m;
  std::lock_guard hold(m);
  wait_group wg;
  wg.add(1);
  std::thread t([&] { wg.done(); });
  wg.wait();
  t.join();
  chan<int> u(0);
  std::thread s([=] { u.send(5); });
  EXPECT_EQ(u.recv(), 5);
  s.join();
}

// Time limits hold while no scheduler runs: before the first run() and between two.
void expect_time_limits_to_work() {
  auto start = std::chrono::steady_clock::now();
  this_task::sleep_for(2ms);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 2ms);
  chan<int> c(0);
  EXPECT_EQ(select(on_recv(c), on_timeout(1ms)), 1);
  EXPECT_EQ(select(on_recv(c), on_recv(after(1ms))), 1);
  mutex m;
  m.lock();
  EXPECT_FALSE(m.try_lock_for(1ms));
  condition_variable cv;
  std::unique_lock hold(m, std::adopt_lock);
  EXPECT_EQ(cv.wait_for(hold, 1ms), std::cv_status::timeout);
  // A limit that is not reached, on many threads at once.
  std::vector<std::thread> threads;
  std::atomic<int> late{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      if (select(on_recv(c), on_timeout(std::chrono::microseconds(100 * i))) == 1) ++late;
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(late.load(), 8);
}

TEST(Foreign, TimeLimitsOutsideOfRun) {
  EXPECT_EXIT(
      {
        std::thread([] { expect_time_limits_to_work(); }).join();
        chan<int> c(1);
        go([c] { c.send(1); });  // waits for the run
        EXPECT_EQ(select(on_recv(c), on_timeout(1ms)), 1);
        options o;
        o.max_procs = 2;
        run(o, [&] { EXPECT_EQ(c.recv(), 1); });
        expect_time_limits_to_work();
        run(o, [] { this_task::sleep_for(1ms); });
        expect_time_limits_to_work();
        ::_exit(testing::Test::HasFailure() ? 1 : 0);
      },
      testing::ExitedWithCode(0), "");
}

// A sleeper whose time comes between two runs goes on with the second.
TEST(Foreign, TasksSleepAcrossRuns) {
  std::atomic<bool> woke{false};
  options o;
  o.max_procs = 1;
  run(o, [&] {
    go([&] {
      this_task::sleep_for(1ms);
      woke = true;
    });
    this_task::yield();
  });
  this_task::sleep_for(3ms);
  run(o, [&] { EXPECT_TRUE(test::eventually([&] { return woke.load(); })); });
}

WEFT_WORLD_TEST(Foreign, LabelsAndNames) {
  on_thread([] {
    this_task::set_name("a thread");
    EXPECT_EQ(this_task::name(), "a thread");
    with_labels({{"user", "alice"}}, [] {
      EXPECT_EQ(this_task::labels().pairs().size(), 1u);
      // Inherited by what the thread starts.
      spawn([] { EXPECT_EQ(this_task::labels().pairs().at(0).second, "alice"); }).join();
    });
    EXPECT_TRUE(this_task::labels().empty());
  });
  on_thread([] { EXPECT_EQ(this_task::name(), ""); });  // the record's next user
}

WEFT_WORLD_TEST(Foreign, EveryPrimitiveFromManyThreadsAtOnce) {
  chan<int> c(4);
  mutex m;
  condition_variable cv;
  wait_group wg;
  int64_t under_lock = 0;
  std::atomic<int64_t> received{0}, tasks{0};
  const int rounds = test::sized(60, 20);
  const int count = 12;
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < rounds; ++k) {
        if (i % 2 == 0)
          c.send(1);
        else
          received += *c.recv();
        {
          std::unique_lock hold(m);
          ++under_lock;
          cv.notify_one();
          cv.wait_for(hold, 10us);
        }
        wg.go([&] { ++tasks; });
        tasks += spawn([] { return 1; }).join();
        select(on_recv(after(10us)), on_timeout(1ms));
        blocking([] { this_task::yield(); });
        this_task::sleep_for(5us);
      }
    });
  }
  for (auto& t : threads) join(t);
  wg.wait();
  EXPECT_EQ(under_lock, count * rounds);
  EXPECT_EQ(received.load(), count / 2 * rounds);
  EXPECT_EQ(tasks.load(), 2 * count * rounds);
}

int mappings() {
  int n = 0;
  if (FILE* f = std::fopen("/proc/self/maps", "re")) {
    for (int ch; (ch = std::fgetc(f)) != EOF;) n += ch == '\n';
    std::fclose(f);
  }
  return n;
}

// A thread says goodbye to nobody; its record, its task and its signal stack are there for the
// next.
WEFT_WORLD_TEST(Foreign, EndedThreadsLeaveNothingBehind) {
  auto some_threads = [] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([] {
        this_task::set_name("short-lived");
        this_task::sleep_for(10us);
      });
    }
    for (auto& t : threads) join(t);
  };
  for (int i = 0; i < 3; ++i) some_threads();
  const int known = sched::thread_count();
  const size_t records = sched::task_record_count();
  const int maps = mappings();
  for (int i = 0; i < test::sized(40, 10); ++i) some_threads();
  // Workers may have come meanwhile, for the joins; eight at most, as those block one by one.
  EXPECT_LE(sched::thread_count(), known + 8);
  EXPECT_EQ(sched::task_record_count(), records);
  EXPECT_LE(mappings(), maps + 60);
}

// Runs body on three threads and in three tasks at once.
void on_both(std::function<void()> body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(body);
  wait_group wg;
  for (int i = 0; i < 3; ++i) wg.go(body);
  wg.wait();
  for (auto& t : threads) join(t);
}

WEFT_WORLD_TEST(Foreign, SharedAndRecursiveMutexes) {
  shared_mutex shared;
  recursive_mutex recursive;
  int64_t a = 0;
  int64_t b = 0;
  std::atomic<int64_t> seen{0};
  const int n = test::sized(300, 50);
  on_both([&] {
    for (int i = 0; i < n; ++i) {
      {
        std::unique_lock hold(shared);
        ++a;
      }
      {
        std::shared_lock hold(shared);
        if (a > 0) ++seen;
      }
      std::lock_guard outer(recursive);
      std::lock_guard inner(recursive);
      ++b;
    }
  });
  EXPECT_EQ(a, 6 * n);
  EXPECT_EQ(b, 6 * n);
  EXPECT_EQ(seen.load(), 6 * n);
  std::lock_guard hold(recursive);
  std::unique_lock writes(shared);
  on_thread([&] {
    EXPECT_FALSE(recursive.try_lock());
    EXPECT_FALSE(recursive.try_lock_for(1ms));
    EXPECT_FALSE(shared.try_lock_for(1ms));
    EXPECT_FALSE(shared.try_lock_shared_for(1ms));
  });
}

WEFT_WORLD_TEST(Foreign, Semaphore) {
  counting_semaphore<> permits(2);
  std::atomic<int> inside{0}, most{0};
  const int n = test::sized(200, 50);
  on_both([&] {
    for (int i = 0; i < n; ++i) {
      permits.acquire();
      const int now = ++inside;
      if (now > most) most = now;
      this_task::yield();
      --inside;
      permits.release();
    }
  });
  EXPECT_LE(most.load(), 2);
  permits.acquire();
  permits.acquire();
  on_thread([&] { EXPECT_FALSE(permits.try_acquire_for(1ms)); });
}

WEFT_WORLD_TEST(Foreign, LatchAndBarrier) {
  latch all(6);
  std::atomic<int> phase{0};
  barrier sync(6, [&]() noexcept { ++phase; });
  const int phases = test::sized(50, 20);
  on_both([&] {
    all.arrive_and_wait();
    EXPECT_TRUE(all.try_wait());
    for (int k = 0; k < phases; ++k) {
      EXPECT_EQ(phase.load(), k);
      sync.arrive_and_wait();
    }
  });
  EXPECT_EQ(phase.load(), phases);
  on_thread([&] {
    EXPECT_FALSE(latch(1).wait_for(1ms));
    EXPECT_FALSE(sync.wait_for(sync.arrive(), 1ms));
  });
}

WEFT_WORLD_TEST(Foreign, Once) {
  once_flag flag;
  once o;
  std::atomic<int> flagged{0}, called{0};
  on_both([&] {
    call_once(flag, [&] {
      this_task::sleep_for(100us);
      ++flagged;
    });
    EXPECT_EQ(flagged.load(), 1);
    o.call([&] {
      this_task::sleep_for(100us);
      ++called;
    });
    EXPECT_EQ(called.load(), 1);
  });
}

WEFT_WORLD_TEST(Foreign, TimersAndTickers) {
  on_thread([] {
    timer t(1ms);
    EXPECT_TRUE(t.channel().recv().has_value());
    EXPECT_FALSE(t.stop());
    EXPECT_FALSE(t.reset(1h));
    EXPECT_TRUE(t.stop());
    int n = 0;
    ticker beat(100us);
    for (auto at : beat.channel()) {
      EXPECT_NE(at, timer::time_point());
      if (++n == 3) break;
    }
    chan<int> ran(1);
    after_func(100us, [ran] { ran.send(7); });
    EXPECT_EQ(ran.recv(), 7);
  });
}

WEFT_WORLD_TEST(Foreign, TaskGroupAndSelectSet) {
  on_thread([] {
    std::atomic<int> n{0};
    task_group g;
    g.set_limit(2);
    for (int i = 0; i < 20; ++i) g.go([&] { ++n; });
    g.wait();
    EXPECT_EQ(n.load(), 20);
    task_group failing;
    failing.go([] { throw std::runtime_error("from a task"); });
    EXPECT_THROW(failing.wait(), std::runtime_error);

    select_set set;
    std::vector<chan<int>> channels;
    for (int i = 0; i < 12; ++i) set.add(on_recv(channels.emplace_back(0)));
    go([c = channels[9]] { c.send(5); });
    EXPECT_EQ(set.select(), 9);
    EXPECT_EQ(set.take<int>(9), 5);
    set.add(on_timeout(1ms));
    EXPECT_EQ(set.select(), 12);
  });
}

// A task's cancellation ends the threads' waits, each of its own kind.
WEFT_WORLD_TEST(Foreign, CancelledContextsEndWaits) {
  auto [ctx, cancel] = with_cancel(background());
  mutex m;
  shared_mutex shared;
  recursive_mutex recursive;
  condition_variable cv;
  mutex guard;
  counting_semaphore<> permits(0);
  latch closed(1);
  barrier<> lonely(2);
  wait_group wg;
  task_group group(background());
  chan<int> never(0);
  chan<int> nobody(0);
  m.lock();
  shared.lock();
  recursive.lock();
  wg.add(1);
  group.go([never] { never.recv(); });
  auto sleeper = spawn([never] { never.recv(); });
  const std::vector<std::function<bool(const context&)>> waits = {
      [&](const context& c) { return m.lock(c); },
      [&](const context& c) { return shared.lock(c); },
      [&](const context& c) { return shared.lock_shared(c); },
      [&](const context& c) { return recursive.lock(c); },
      [&](const context& c) {
        std::unique_lock hold(guard);
        return cv.wait(hold, c);
      },
      [&](const context& c) { return permits.acquire(c); },
      [&](const context& c) { return closed.wait(c); },
      [&](const context& c) { return lonely.wait(lonely.arrive(), c); },
      [&](const context& c) { return wg.wait(c); },
      [&](const context& c) { return group.wait(c); },
      [&](const context& c) { return never.recv(c).has_value(); },
      [&](const context& c) { return nobody.send(c, 1).has_value(); },
      [&](const context& c) { return select(on_done(c), on_recv(never)) != 0; },
      [&](const context& c) { return this_task::sleep_for(c, 1h); },
      [&](const context& c) { return sleeper.join(c).has_value(); },
  };
  std::vector<std::thread> threads;
  std::atomic<int> got{0};
  for (const auto& wait : waits)
    threads.emplace_back([&ctx = ctx, &wait, &got] { got += wait(ctx); });
  using sched::wait_reason;
  for (auto [reason, n] : {std::pair{wait_reason::mutex_lock, 2},
                           {wait_reason::cond_wait, 1},
                           {wait_reason::semacquire, 1},
                           {wait_reason::latch_wait, 1},
                           {wait_reason::barrier_wait, 1},
                           {wait_reason::wait_group_wait, 2},
                           {wait_reason::chan_send, 1},
                           {wait_reason::select, 1},
                           {wait_reason::sleep, 1},
                           {wait_reason::join, 1}})
    EXPECT_TRUE(test::eventually_waiting(reason, n)) << sched::reason_name(reason);
  cancel();
  for (auto& t : threads) join(t);
  EXPECT_EQ(got.load(), 0);
  never.close();
  sleeper.join();
  group.wait();
  static_cast<void>(lonely.arrive());
  m.unlock();
  shared.unlock();
  recursive.unlock();
}

}  // namespace
}  // namespace weft
