#pragma once
// Deterministic tests of concurrent code: fake time, and schedules that a seed replays.
//
//   TEST(Cache, ForgetsAfterAMinute) {
//     weft::test::run([] {
//       cache c(1min);
//       c.put("key", "value");
//       weft::this_task::sleep_for(59s);   // takes no time
//       weft::test::wait();                // everybody else has done what there is to do
//       EXPECT_TRUE(c.get("key"));
//       weft::this_task::sleep_for(2s);
//       weft::test::wait();
//       EXPECT_FALSE(c.get("key"));
//     });
//   }
//   TEST(Cache, SurvivesAnyOrder) { weft::test::explore({.seeds = 1000}, [] { ... }); }
//
// A call of run() makes a world: f and the tasks it starts. They execute one at a time. Which one
// is next is drawn from the seed whenever a task waits or ends, and now and then when it calls weft
// (mutex::lock included), so races between tasks show, and show again with the same seed: the same
// program makes the same choices, in any process. Atomics and plain memory are no points at which
// tasks switch.
//
// Time is fake: sleeps, timers, deadlines and weft::now() follow a clock that starts at the same
// instant in every world and stands still while anything can run. When every task is durably
// blocked, waiting for something that only a task of the world or the clock can end, it jumps to
// the next timer. Not durable, so that time waits for them: tasks that wait for a descriptor, tasks
// in weft::blocking, and threads that used weft during the world and are not waiting in it
// themselves; such tests work, but what comes from outside arrives when it arrives, and no seed
// replays that. std::chrono::steady_clock::now() is not faked: compute time points from
// weft::now().
//
// A task that loops without calling weft, or waits for another by other means (a std::mutex held
// across a call that lets others run), stops the world; after 10 s a line on stderr says so.
// An exception that escapes a task other than f ends the process, after the seed was printed.
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace weft::test {

struct options {
  // Draws the schedule. Default: WEFT_TEST_SEED, else 1.
  std::optional<uint64_t> seed{};
  // Calls into weft and task switches after which the test has failed: a livelock. 0: no limit.
  uint64_t max_steps = 10'000'000;
  // Keep result::schedule.
  bool record = false;
};

struct result {
  uint64_t seed = 0;
  uint64_t steps = 0;
  uint64_t fingerprint = 0;            // equal for equal schedules
  std::chrono::nanoseconds elapsed{};  // on the world's clock
  // With options::record, the tasks in the order in which they ran, numbered from 1 (f) by the
  // order of their creation.
  std::vector<uint32_t> schedule;
};

// The world, not f, went wrong. what() says how, with the seed and every task and what it waits
// for.
class failure : public std::runtime_error {
 public:
  enum class kind : uint8_t {
    deadlock,        // every task waits, and no timer is left
    tasks_left,      // f has returned, and the other tasks will never end
    too_many_steps,  // options::max_steps
    exception,       // explore() only: f threw; the exception is nested in this one
    rejected,        // explore() only: explore_options::failed said so
  };
  failure(kind what_kind, uint64_t with_seed, const std::string& text)
      : std::runtime_error(text), kind_(what_kind), seed_(with_seed) {}
  kind what_kind() const noexcept { return kind_; }
  uint64_t seed() const noexcept { return seed_; }

 private:
  kind kind_;
  uint64_t seed_;
};

namespace detail {
result run_test(const options& o, void (*f)(void*), void* arg);
}

// Runs f as task 1 of a new world, waits for all its tasks, and returns what happened. Rethrows
// what escapes f; throws failure when tasks can never go on or the limit of steps is reached; tasks
// that are left then are never destroyed. When f has returned the clock stops for good, as in Go's
// synctest.Test: tasks that only time could wake are left over. Not from a task, and not while
// weft::run or another world runs: panic_error. Any number of times in a process; tasks of an
// earlier weft::run stand still meanwhile. set_max_procs has no effect.
template <class F>
result run(const options& o, F&& f) {
  auto call = [&f] { static_cast<void>(std::invoke(f)); };
  return detail::run_test(
      o, [](void* p) { (*static_cast<decltype(call)*>(p))(); }, &call);
}
template <class F>
requires std::is_invocable_v<F&> result run(F&& f) { return run(options{}, std::forward<F>(f)); }

// Returns when every other task of the world is durably blocked or has ended: all that can happen
// at this moment of the clock has happened. Go's synctest.Wait. Only from a task of a world, one at
// a time; otherwise panic_error.
void wait();

// The seed of the world that the caller is in; panic_error elsewhere.
uint64_t seed();

// While one exists, something outside the world may still act on it: the clock stands still, and
// nothing is called a deadlock. For threads that have not used weft yet, and for callbacks of other
// libraries. Any thread.
class outside_work {
 public:
  outside_work() noexcept;
  ~outside_work();
  outside_work(const outside_work&) = delete;
  outside_work& operator=(const outside_work&) = delete;
};

struct explore_options {
  uint64_t seeds = 100;     // number of worlds
  uint64_t first_seed = 1;  // and the seed of the first
  uint64_t max_steps = 10'000'000;
  // Asked after each world: true fails it. [] { return testing::Test::HasFailure(); } makes
  // GoogleTest's EXPECT count.
  std::function<bool()> failed{};
};

// Runs f in one world per seed and stops at the first that fails: prints the seed to stderr, throws
// failure. WEFT_TEST_SEED=n in the environment makes n the only seed: that replays it. Returns the
// number of different schedules seen.
uint64_t explore(const explore_options& o, const std::function<void()>& f);

}  // namespace weft::test
