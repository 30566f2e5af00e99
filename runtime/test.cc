// Deterministic worlds: starts the runtime in the mode of scheduler/directed.h and says how it
// went.
#include <unistd.h>
#include <weft/error.h>
#include <weft/task.h>
#include <weft/test.h>

#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <unordered_set>
#include <utility>

#include "base/options.h"
#include "runtime/run_world.h"
#include "scheduler/directed.h"
#include "scheduler/park.h"

namespace weft::test {
namespace {

using kind = failure::kind;
using ending = sched::directed_world::ending;

// One at a time, as weft::run; the monitor may look at it a little longer.
sched::directed_world g_world;
std::atomic<bool> g_busy{false};
std::terminate_handler g_terminate_before = nullptr;

std::optional<uint64_t> seed_from_environment() {
  std::string_view text = base::option_value(base::option::WEFT_TEST_SEED);
  if (text.empty()) return std::nullopt;
  uint64_t seed = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error != std::errc{} || end != text.data() + text.size())
    throw std::invalid_argument(
        "WEFT_TEST_SEED must be a number from 0 to 18446744073709551615, not '" +
        std::string(text) + "'");
  return seed;
}

void reset(const options& o, uint64_t seed) {
  sched::directed_world& w = g_world;
  w.seed.store(seed, std::memory_order_relaxed);
  w.max_steps = o.max_steps;
  w.keep_schedule = o.record;
  w.end = ending::none;
  w.steps.store(0, std::memory_order_relaxed);
  w.fingerprint = 0;
  w.schedule.clear();
  w.supervisor = w.waiter = nullptr;
  w.main_done = false;
}

[[noreturn]] void say_seed_and_terminate() {
  char line[80];
  int n = std::snprintf(line, sizeof line, "weft::test: seed %llu\n",
                        static_cast<unsigned long long>(g_world.seed.load()));
  [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, line, static_cast<size_t>(n));
  g_terminate_before();
  std::abort();
}

// Every task that is left and what it waits for, in the order of creation. From the supervisor.
std::string describe_tasks() {
  std::map<uint64_t, std::string> lines;
  sched::for_each_directed_task(
      g_world,
      [](sched::task& t, void* arg) {
        const uint32_t word = t.state.load(std::memory_order_acquire);
        const sched::task_status status = sched::status_of(word);
        if (status == sched::task_status::free || t.foreign || t.system.load()) return;
        const uint64_t number = g_world.number_of(t);
        std::string line = "\n  task " + std::to_string(number);
        if (t.name != nullptr) line += " \"" + std::string(t.name) + "\"";
        line += " [";
        line += status == sched::task_status::waiting ? sched::reason_name(sched::reason_of(word))
                                                      : sched::status_name(status);
        line += "]";
        if (number > 1 && t.parent_id > g_world.first_id)
          line += ", started by task " + std::to_string(t.parent_id - g_world.first_id);
        else if (number == 1)
          line += ", the function of the test";
        (*static_cast<std::map<uint64_t, std::string>*>(arg))[number] = std::move(line);
      },
      &lines);
  std::string text;
  for (const auto& [number, line] : lines) text += line;
  return text;
}

std::string where(const sched::directed_world& w) {
  const auto ms = (w.clock_ns - sched::directed_start_ns) / 1'000'000;
  return " (seed " + std::to_string(w.seed.load()) + ", step " + std::to_string(w.steps.load()) +
         ", " + std::to_string(ms) + " ms after the start):";
}

}  // namespace

namespace detail {

result run_test(const options& o, void (*f)(void*), void* arg) {
  struct body {
    void (*f)(void*);
    void* arg;
    std::exception_ptr error;
    std::string tasks;

    static void start(void* p) {
      auto* b = static_cast<body*>(p);
      weft::go([b] {
        try {
          b->f(b->arg);
        } catch (...) {
          b->error = std::current_exception();
        }
        sched::directed_main_done();
      });
    }
    void operator()() {
      g_terminate_before = std::set_terminate(say_seed_and_terminate);
      sched::run_directed(g_world, start, this);
      std::set_terminate(g_terminate_before);
      if (g_world.end != ending::finished) tasks = describe_tasks();
    }
  } b{f, arg, nullptr, {}};

  const uint64_t seed = o.seed ? *o.seed : seed_from_environment().value_or(1);
  if (g_busy.exchange(true)) throw panic_error("weft::test::run is already running");
  struct release {
    ~release() { g_busy.store(false); }
  } at_end;
  reset(o, seed);
  { sched::critical attached; }  // the caller's own record belongs to no world
  auto main = [&b] { b(); };
  weft::options procs;
  procs.max_procs = 1;
  weft::detail::run_world(procs, weft::detail::body_ops_for<decltype(main)>, &main, &g_world);
  const sched::directed_world& w = g_world;
  if (b.error != nullptr) std::rethrow_exception(std::move(b.error));
  switch (w.end) {
    case ending::deadlock:
      throw failure(kind::deadlock, seed,
                    "deadlock: every task waits and no timer is left" + where(w) + b.tasks);
    case ending::tasks_left:
      throw failure(kind::tasks_left, seed,
                    "the test has returned and these tasks will never end" + where(w) + b.tasks);
    case ending::too_many_steps:
      throw failure(kind::too_many_steps, seed,
                    "more than " + std::to_string(o.max_steps) +
                        " steps (options::max_steps): a livelock?" + where(w) + b.tasks);
    case ending::none:
    case ending::finished:
      break;
  }
  result r;
  r.seed = seed;
  r.steps = w.steps.load(std::memory_order_relaxed);
  r.fingerprint = w.fingerprint;
  r.elapsed = std::chrono::nanoseconds(w.clock_ns - sched::directed_start_ns);
  r.schedule = std::move(g_world.schedule);
  return r;
}

}  // namespace detail

void wait() {
  if (!sched::in_directed_world())
    throw panic_error("weft::test::wait outside of a task of weft::test::run");
  if (!sched::wait_until_blocked())
    throw panic_error("weft::test::wait while another task waits so");
}

uint64_t seed() {
  if (!sched::in_directed_world())
    throw panic_error("weft::test::seed outside of a task of weft::test::run");
  return g_world.seed.load(std::memory_order_relaxed);
}

outside_work::outside_work() noexcept {
  sched::g_outside_work.fetch_add(1, std::memory_order_relaxed);
}
// [ord test.outside] release: what the outside did is seen by whoever finds the count at 0
outside_work::~outside_work() { sched::g_outside_work.fetch_sub(1, std::memory_order_release); }

uint64_t explore(const explore_options& o, const std::function<void()>& f) {
  std::optional<uint64_t> only = seed_from_environment();
  std::unordered_set<uint64_t> schedules;
  const uint64_t n = only ? 1 : o.seeds;
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t seed = only ? *only : o.first_seed + i;
    auto say = [&](const char* why) {
      std::fprintf(stderr, "weft::test: seed %llu failed: %s\nto replay: WEFT_TEST_SEED=%llu\n",
                   static_cast<unsigned long long>(seed), why,
                   static_cast<unsigned long long>(seed));
    };
    auto fail = [&](kind k, const std::string& why) {
      say(why.c_str());
      return failure(k, seed, why + " (WEFT_TEST_SEED=" + std::to_string(seed) + " replays it)");
    };
    try {
      options each;
      each.seed = seed;
      each.max_steps = o.max_steps;
      schedules.insert(run(each, f).fingerprint);
    } catch (const failure& e) {
      say(e.what());
      throw;
    } catch (const std::exception& e) {
      std::throw_with_nested(fail(kind::exception, std::string("exception: ") + e.what()));
    } catch (...) {
      std::throw_with_nested(fail(kind::exception, "an exception that is no std::exception"));
    }
    if (o.failed && o.failed()) throw fail(kind::rejected, "explore_options::failed said so");
  }
  return schedules.size();
}

}  // namespace weft::test
