// A program with tasks in every state, for the debugger tests.
//   crowd MODE [PARKED] [standard|compact] [RANGES [BYTES]]
// MODE ready: calls crowd_is_ready() once every task is where it shall be, then ends. abort, segv,
// spin: as ready, and then dies, or executes for ever, in a task. PARKED adds that many receivers.
// RANGES and BYTES limit what a core file has of parked tasks (core_dump.h).
#include <sys/resource.h>
#include <weft/weft.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <mutex>
#include <string>
#include <vector>

#include "scheduler/core_dump.h"
#include "scheduler/park.h"

extern "C" [[gnu::noinline]] void crowd_is_ready() { asm volatile(""); }

namespace {

weft::mutex g_lock;
weft::mutex* volatile g_lock_address = &g_lock;  // as a lock inside an object would be reached
weft::chan<int> g_never(0);
std::atomic<bool> g_spinning{false};
volatile int* volatile g_nowhere = nullptr;

int parked_tasks() {
  int n = 0;
  weft::sched::for_each_task(
      [](weft::sched::task& t, void* arg) {
        if (!t.foreign && !t.system &&
            weft::sched::status_of(t.state.load()) == weft::sched::task_status::waiting)
          ++*static_cast<int*>(arg);
      },
      &n);
  return n;
}

// Inlined on purpose: a backtrace must show it all the same.
[[gnu::always_inline]] inline int inlined_receive(weft::chan<int>& c) {
  return c.recv().value_or(0);
}

[[gnu::noinline]] int deep_receive(weft::chan<int>& c, int depth) {
  volatile char frame[64] = {};
  int result = depth == 0 ? inlined_receive(c) : deep_receive(c, depth - 1);
  return result + frame[depth % 64];
}

[[gnu::noinline]] void hold_the_lock(weft::mutex& m, weft::chan<int>& c) {
  std::lock_guard hold(m);
  inlined_receive(c);
}

[[gnu::noinline]] void want_the_lock() {
  std::lock_guard hold(g_lock);
  asm volatile("");
}

[[gnu::noinline]] void die_in_a_task(const std::string& how) {
  if (how == "abort") std::abort();
  if (how == "segv") *g_nowhere = 1;
  asm volatile("");
}

[[gnu::noinline]] void spin_in_a_task() {
  for (;;) g_spinning.store(true, std::memory_order_relaxed);
}

[[gnu::noinline]] void burn_deep(std::clock_t until, int depth) {
  if (depth > 0) {
    burn_deep(until, depth - 1);
    asm volatile("");  // no tail call
  }
  while (depth == 0 && std::clock() < until)
    for (int i = 0; i < 10000; ++i) asm volatile("");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "ready";
  const int parked = argc > 2 ? std::atoi(argv[2]) : 0;
  const bool compact = argc > 3 && std::strcmp(argv[3], "compact") == 0;
  if (argc > 4) weft::sched::g_core_dump_limits.max_ranges = std::strtoul(argv[4], nullptr, 10);
  if (argc > 5)
    weft::sched::g_core_dump_limits.max_copied_bytes = std::strtoul(argv[5], nullptr, 10);
  if (mode == "abort" || mode == "segv") {
    rlimit unlimited{};
    ::getrlimit(RLIMIT_CORE, &unlimited);
    unlimited.rlim_cur = unlimited.rlim_max;
    ::setrlimit(RLIMIT_CORE, &unlimited);
  }
  weft::options o;
  o.max_procs = 2;
  return weft::run(o, [&] {
    weft::chan<int> full(1), unheld(0);
    full.send(1);
    std::vector<weft::join_handle<void>> all;
    auto start = [&](const char* name, auto f) {
      all.push_back(weft::spawn(weft::spawn_options{.name = name}, f));
    };
    start("receiver", [&] { deep_receive(g_never, 3); });
    start("sender", [&] { full.send(2); });
    start("chooser", [&] {
      weft::select(weft::on_recv(g_never, [](auto) {}), weft::on_send(full, 3, [] {}));
    });
    start("holder", [&] { hold_the_lock(*g_lock_address, unheld); });
    while (parked_tasks() < 4) weft::this_task::yield();
    start("wanter", [&] { want_the_lock(); });
    start("joiner", [&] { all[0].join(); });
    start("sleeper", [&] { weft::this_task::sleep_for(std::chrono::hours(1)); });
    auto cls = compact ? weft::stack_class::compact : weft::stack_class::standard;
    for (int i = 0; i < parked; ++i)
      weft::go(weft::spawn_options{.name = "", .stack = cls},
               [i] { deep_receive(g_never, i % 3); });
    while (parked_tasks() < 7 + parked) weft::this_task::yield();

    if (mode == "spin") {
      start("spinner", spin_in_a_task);
      while (!g_spinning.load()) weft::this_task::yield();
    }
    crowd_is_ready();
    if (mode == "burn")
      weft::spawn([] { burn_deep(std::clock() + 3 * CLOCKS_PER_SEC / 10, 20); }).join();
    if (mode == "abort" || mode == "segv")
      weft::spawn(weft::spawn_options{.name = "dying"}, [&] { die_in_a_task(mode); }).join();
    std::_Exit(0);  // the others wait for ever
    return 0;
  });
}
