// weft_bench_obs ROW [--workers=N] [--n=N] [--debug=0|1|2] [--profile=cpu|...] [--slice-ms=N]: what
// looking at a process costs it. Read beside bench/peers/go/obs.go.
//
//   goroutine      n parked tasks; how long the goroutine profile takes, and the longest time that
//                  a task which looks at the clock all the while did not run
//   http_profiled  a server for bench_load that switches a profile on and off in turn; prints the
//                  CPU time per request of both, and of each group of windows, at SIGTERM
//   spawn_profiled, handoff_profiled
//                  the same for starting a task and waiting for its end, and for a hand-over
//                  between two tasks: n of them in windows with the profile off and on in turn
//   gc_inuse       the heap profile's bytes in use of a set of n MiB, and how far they are off
//   cpu_sample     nanoseconds of CPU time that one CPU sample costs, its signal included

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <weft/http/server.h>
#include <weft/net/tcp.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ostream>
#include <streambuf>
#include <string>
#include <string_view>
#include <thread>

#include "bench/common/args.h"
#include "bench/common/core_wait.h"
#include "bench/common/process.h"
#include "bench/heap_truth.h"
#include "bench/obs_paired.h"
#include "bench/obs_switches.h"
#include "profiler/cpu_threads.h"

namespace bench {
namespace {

using std::chrono::milliseconds;

struct config {
  std::string row;
  long workers = 1;
  long n = 0;
  long debug = 0;
  long port = 0;
  long slice_ms = 0;
  const profile_switch* profile = nullptr;
};

// Counts what a profile writes.
class counting_buffer : public std::streambuf {
 public:
  long bytes = 0;

 private:
  int_type overflow(int_type c) override {
    ++bytes;
    return c;
  }
  std::streamsize xsputn(const char*, std::streamsize size) override {
    bytes += size;
    return size;
  }
};

// ---- goroutine --------------------------------------------------------------------------------

// Some depth, so that there are stacks to walk.
[[gnu::noinline]] void park_deep(int depth, long kind, weft::chan<bool>& gate,
                                 weft::chan<bool>& never) {
  if (depth > 0) {
    park_deep(depth - 1, kind, gate, never);
  } else if (kind % 2 == 0) {
    gate.recv();
  } else {
    weft::select(weft::on_recv(gate, [](auto&&) {}), weft::on_recv(never, [](auto&&) {}));
  }
  asm volatile("" ::: "memory");  // no tail call
}

// The longest time between two looks at the clock while `f` runs, less what the thread waited for
// a core; in ns.
template <class F>
std::uint64_t longest_stall(F f) {
  std::atomic<int> stage{0};
  stall longest;
  auto ticking = weft::spawn([&] {
    stage = 1;
    longest = longest_stall_of_caller([&] { return stage.load(std::memory_order_relaxed) == 1; },
                                      [] { weft::this_task::yield(); });
  });
  while (stage.load() == 0) weft::this_task::yield();
  f();
  stage = 2;
  ticking.join();
  return longest.own;
}

int run_goroutine(const config& c) {
  weft::chan<bool> gate(0);
  weft::chan<bool> never(0);
  weft::wait_group done;
  std::atomic<long> arrived{0};
  done.add(c.n);
  weft::spawn_options options;
  options.stack = weft::stack_class::compact;
  for (long i = 0; i < c.n; ++i) {
    weft::go(options, [&, i] {
      arrived.fetch_add(1);
      park_deep(6, i, gate, never);
      done.done();
    });
  }
  while (arrived.load() != c.n) weft::this_task::sleep_for(milliseconds(1));
  weft::this_task::sleep_for(milliseconds(200));
  weft::pprof::profile* profile = weft::pprof::lookup("goroutine");
  {
    // Names are read from the program's files once in its life.
    counting_buffer sink;
    std::ostream out(&sink);
    weft::pprof::lookup("threadcreate")->write_to(out, 1);
  }
  std::uint64_t wall = 0;
  std::uint64_t took = 0;  // less what the thread waited for a core
  counting_buffer sink;
  std::ostream out(&sink);
  const std::uint64_t stall = longest_stall([&] {
    const core_wait wait;
    const std::uint64_t start = monotonic_ns();
    profile->write_to(out, static_cast<int>(c.debug));
    wall = monotonic_ns() - start;
    took = wall - std::min(wall, wait.since());
  });
  const std::uint64_t quiet = longest_stall([&] {
    weft::blocking([&] {
      timespec t{static_cast<time_t>(took / 1'000'000'000),
                 static_cast<long>(took % 1'000'000'000)};
      nanosleep(&t, nullptr);
    });
  });
  std::printf(
      "row=%s workers=%ld n=%ld ms=%.3f wall_ms=%.3f stall_ms=%.3f "
      "quiet_stall_ms=%.3f bytes=%ld\n",
      c.row.c_str(), c.workers, c.n, static_cast<double>(took) / 1e6,
      static_cast<double>(wall) / 1e6, static_cast<double>(stall) / 1e6,
      static_cast<double>(quiet) / 1e6, sink.bytes);
  std::fflush(stdout);
  std::_Exit(0);  // ending a million tasks is not what is measured
}

// ---- cpu_sample -------------------------------------------------------------------------------

[[gnu::noinline]] std::uint64_t raise_deep(int depth, long n) {
  if (depth > 0) {
    const std::uint64_t r = raise_deep(depth - 1, n);
    asm volatile("" ::: "memory");
    return r;
  }
  // What the kernel sends for a timer, n times.
  siginfo_t info{};
  info.si_signo = SIGPROF;
  info.si_code = SI_TIMER;
  info.si_value.sival_ptr = weft::prof::own_tick_value();
  const std::uint64_t start = process_cpu_ns(0);
  for (long i = 0; i < n; ++i)
    ::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), ::syscall(SYS_gettid), SIGPROF, &info);
  return process_cpu_ns(0) - start;
}

int run_cpu_sample(const config& c) {
  counting_buffer sink;
  std::ostream out(&sink);
  weft::pprof::start_cpu_profile(out);
  raise_deep(20, 100);
  std::uint64_t spent = 0;
  // In portions, as a thread's buffer takes some hundred samples between two looks of the
  // collector.
  const long portion = 200;
  const std::uint64_t start = process_cpu_ns(0);
  for (long sent = 0; sent < c.n; sent += portion) {
    raise_deep(20, portion);
    std::this_thread::sleep_for(milliseconds(110));
  }
  spent = process_cpu_ns(0) - start;
  const double ns = static_cast<double>(spent) / static_cast<double>(c.n);
  std::printf("row=%s workers=%ld n=%ld ns_per_sample=%.1f percent_at_100hz=%.4f\n", c.row.c_str(),
              c.workers, c.n, ns, ns * 100 / 1e9 * 100);
  weft::pprof::stop_cpu_profile();
  return 0;
}

// ---- spawn_profiled, handoff_profiled ----------------------------------------------------------

// Between a switch and the window after it: a profile's own thread begins and ends in that time.
constexpr milliseconds settling(5);

template <class F>
int off_and_on(const config& c, F work) {
  constexpr long rounds = 20;
  const long portion = std::max(c.n / rounds / 2, 1L);
  work(portion);
  paired_windows windows;
  while (windows.groups() < rounds / 2) {
    const bool on = windows.next_is_on();
    if (on) c.profile->start();
    weft::this_task::sleep_for(settling);
    const std::uint64_t start = process_cpu_ns(0);
    work(portion);
    windows.add(process_cpu_ns(0) - start, static_cast<std::uint64_t>(portion));
    if (on) c.profile->stop();
  }
  windows.print(c.row.c_str(), c.workers);
  return 0;
}

int run_spawn_profiled(const config& c) {
  return off_and_on(c, [](long n) {
    for (long i = 0; i < n; ++i) weft::spawn([] {}).join();
  });
}

int run_handoff_profiled(const config& c) {
  weft::chan<long> there(0);
  weft::chan<long> back(0);
  auto other = weft::spawn([&] {
    while (auto v = there.recv()) back.send(*v);
  });
  const int result = off_and_on(c, [&](long n) {
    for (long i = 0; i < n; i += 2) {
      there.send(i);
      back.recv();
    }
  });
  there.close();
  other.join();
  return result;
}

// Ten thousand tasks that wake a hundred times a second: every wait is as long as the default rate
// of the wait profile, so without its cap each would be recorded.
int run_nap_profiled(const config& c) {
  constexpr long tasks = 10'000;
  return off_and_on(c, [](long n) {
    weft::wait_group done;
    done.add(tasks);
    for (long i = 0; i < tasks; ++i) {
      weft::go([&done, naps = std::max(n / tasks, 1L)] {
        for (long nap = 0; nap < naps; ++nap) weft::this_task::sleep_for(milliseconds(10));
        done.done();
      });
    }
    done.wait();
  });
}

// ---- http_profiled ----------------------------------------------------------------------------

std::atomic<std::uint64_t> g_requests{0};

// Off and on in turn until SIGTERM.
void switch_and_report(const config& c) {
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, nullptr);  // inherited by every thread started from here on
  std::thread([c, term] {
    const timespec slice{c.slice_ms / 1000, c.slice_ms % 1000 * 1'000'000};
    paired_windows windows;
    for (bool ended = false; !ended;) {
      const bool on = windows.next_is_on();
      if (on) c.profile->start();
      std::this_thread::sleep_for(settling);
      const std::uint64_t cpu_start = process_cpu_ns(0);
      const std::uint64_t requests_start = g_requests.load(std::memory_order_relaxed);
      ended = sigtimedwait(&term, nullptr, &slice) == SIGTERM;
      const std::uint64_t cpu = process_cpu_ns(0) - cpu_start;
      const std::uint64_t requests = g_requests.load(std::memory_order_relaxed) - requests_start;
      if (on) c.profile->stop();
      if (ended) break;
      // What comes before and after the load costs no requests.
      if (requests < 100) {
        windows.restart_group();
      } else {
        windows.add(cpu, requests);
      }
    }
    windows.print(c.row.c_str(), c.workers);
    std::fflush(stdout);
    std::_Exit(0);
  }).detach();
}

int run_http_profiled(const config& c) {
  weft::http::mux mux;
  mux.handle("GET /", [](weft::http::response_writer& response, weft::http::request&) {
    g_requests.fetch_add(1, std::memory_order_relaxed);
    static_cast<void>(response.respond(200, "text/plain; charset=utf-8", "Hello, world!"));
  });
  weft::http::server server(mux);
  auto listener = weft::net::listen("tcp", "127.0.0.1:" + std::to_string(c.port));
  std::printf("ready port=%d\n", static_cast<int>(listener.local_address().port()));
  std::fflush(stdout);
  server.serve(std::move(listener));
  return 0;
}

struct row {
  std::string_view name;
  long n;
  int (*run)(const config&);
};
constexpr row rows[] = {
    {"goroutine", 100'000, run_goroutine},
    {"cpu_sample", 4'000, run_cpu_sample},
    {"http_profiled", 0, run_http_profiled},
    {"spawn_profiled", 1'000'000, run_spawn_profiled},
    {"handoff_profiled", 2'000'000, run_handoff_profiled},
    {"nap_profiled", 2'000'000, run_nap_profiled},
    {"gc_inuse", 100,
     [](const config& c) { return measure_heap_truth(c.row.c_str(), c.workers, c.n); }},
};

int main_of(int argc, char** argv) {
  const row* chosen = nullptr;
  for (const row& r : rows) {
    if (argc > 1 && r.name == argv[1]) chosen = &r;
  }
  if (chosen == nullptr) {
    std::fprintf(stderr,
                 "usage: %s ROW [--workers=N] [--n=N] [--debug=0|1|2] [--port=P] [--profile=NAME] "
                 "[--slice-ms=N]\nrows:",
                 argv[0]);
    for (const row& r : rows) std::fprintf(stderr, " %s", r.name.data());
    std::fprintf(stderr, "\n");
    return 2;
  }
  args flags(argc, argv, 2);
  config c;
  c.row = chosen->name;
  c.workers = flags.num("workers", 1, 1, 1024);
  c.n = flags.num("n", chosen->n, 0, 1'000'000'000);
  c.debug = flags.num("debug", 0, 0, 2);
  c.port = flags.num("port", 0, 0, 65535);
  c.slice_ms = flags.num("slice-ms", 25, 1, 60'000);
  const std::string profile = flags.str("profile", "none");
  flags.finish();
  c.profile = find_switch(profile);
  if (c.profile == nullptr) {
    flags.fail("--profile=" + profile + " is none of: " + switch_names());
  }
  if (c.row.ends_with("_profiled")) switch_all_off();
  if (c.row == "http_profiled") switch_and_report(c);
  return weft::run(weft::options{.max_procs = static_cast<int>(c.workers)},
                   [&] { return chosen->run(c); });
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::main_of(argc, argv); }
