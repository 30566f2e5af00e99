// CPU sampling by per-thread CPU-time timers.
//
// Each thread of the process has a timer on its own CPU clock (CLOCK_THREAD_CPUTIME_ID) whose
// signal goes to that thread: an idle thread costs nothing, and N busy threads give N times the
// rate without bias between them. The handler unwinds the interrupted stack with the compact tables
// and appends {weight, labels, stack} to the thread's own ring; weight is 1 + the timer's overruns,
// so that rates above the kernel's tick stay unbiased. A collector thread drains the rings ten
// times a second, and when a handler has met code that is newer than the unwinder's tables, and
// adds each sample to every consumer's set. Which threads: cpu_threads.cc.
//
// The ring has one writer (the handler, on its thread) and one reader (the collector). A sample
// that does not fit is counted as lost, which appears in the profile as a sample "[lost samples]".
// A thread's ring outlives the thread until the collector has drained it.
//
// Where to   The code that a task executes belongs to the task's stack, which ends in the task's
//            function. What runs outside of tasks gets a named root: "[scheduler]" (looking for
//            work, polling, switching), "[monitor]", "[collector]", and the names of other threads.
#include "profiler/cpu_sampler.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_set>

#include "base/clock.h"
#include "base/events.h"
#include "base/futex.h"
#include "profiler/cpu_threads.h"
#include "profiler/stack_bounds.h"
#include "profiler/unwind.h"
#include "runtime/label_node.h"
#include "scheduler/deadlock.h"
#include "scheduler/signals.h"
#include "scheduler/thread.h"

namespace weft::prof {

// A consumer as the sampler sees it.
struct cpu_consumer::state {
  explicit state(const cpu_options& o) : options(o) {}

  void add(sample_key key, uint64_t task, int64_t ticks, int64_t ns) {
    numeric_label number;
    if (options.by_task && task != 0 && (tasks.contains(task) || tasks.size() < max_cpu_tasks)) {
      tasks.insert(task);
      number = {"task", static_cast<int64_t>(task), ""};
      key.numbers = std::span(&number, 1);
    }
    const int64_t values[] = {ticks, ns};
    set.add(key, values);
  }

  const cpu_options options;
  sample_set set{2};
  std::unordered_set<uint64_t> tasks;
  uint64_t lost = 0;
  int64_t start_wall = 0;
  int64_t start_mono = 0;
  bool stopped = false;
};

namespace {

constexpr int64_t drain_period_ns = 100'000'000;

// Counts the reasons for which the collector should look before its period is over.
constinit std::atomic<uint32_t> g_calls{0};
void call_collector() noexcept {
  g_calls.fetch_add(1, std::memory_order_release);  // [ord sampler.calls]
  base::futex_wake(g_calls, 1);
}
constexpr uintptr_t page_size = 4096;

class sampler {
 public:
  using consumer = cpu_consumer::state;

  static sampler& instance() {
    static auto* const s = new sampler;
    return *s;
  }

  void add(consumer* c) {
    unwind_refresh();
    install_handler();
    install_cpu_sampler();
    std::lock_guard control(control_);
    bool first;
    {
      std::lock_guard hold(lock_);
      first = consumers_.empty();
      threads_.settle();
      drain_locked();  // what came before is not this consumer's
      consumers_.push_back(c);
      if (first) threads_.set_rate(c->options.hz);
    }
    if (!first) {
      adjust_rate();
      return;
    }
    running_.store(true, std::memory_order_seq_cst);
    sched::for_each_thread([](sched::thread* th, void*) { instance().begin(th); }, nullptr);
    {
      std::lock_guard hold(lock_);
      threads_.scan();
    }
    collector_ = std::thread([this] { collect(); });
  }

  void remove(consumer* c) {
    std::lock_guard control(control_);
    bool last;
    {
      std::lock_guard hold(lock_);
      threads_.settle();
      drain_locked();
      consumers_.erase(std::find(consumers_.begin(), consumers_.end(), c));
      last = consumers_.empty();
      if (last) stop_collector_ = true;
    }
    if (!last) {
      adjust_rate();
      return;
    }
    running_.store(false, std::memory_order_seq_cst);
    call_collector();
    collector_.join();
    stop_collector_ = false;
    std::lock_guard hold(lock_);
    threads_.set_rate(0);
  }

  int consumers() {
    std::lock_guard hold(lock_);
    return static_cast<int>(consumers_.size());
  }

  void thread_started(sched::thread* th) {
    if (running_.load(std::memory_order_seq_cst)) begin(th);
  }

  void thread_stopped(sched::thread* th) {
    if (th->sampler.load(std::memory_order_relaxed) == nullptr) return;
    std::lock_guard hold(lock_);
    threads_.end(*th);
  }

 private:
  void begin(sched::thread* th) {
    std::lock_guard hold(lock_);
    threads_.begin(*th);
  }

  void adjust_rate() {
    std::lock_guard hold(lock_);
    int hz = 0;
    for (const consumer* c : consumers_) hz = std::max(hz, c->options.hz);
    threads_.set_rate(hz);
  }

  void collect() {
    ::pthread_setname_np(::pthread_self(), "weft-profile");
    sched::service_thread not_an_actor;
    std::unique_lock hold(lock_);
    while (!stop_collector_) {
      // [ord sampler.calls] acquire; read under the lock, so that a call to stop is not missed
      const uint32_t seen = g_calls.load(std::memory_order_acquire);
      hold.unlock();
      base::futex_wait(g_calls, seen, drain_period_ns);
      hold.lock();
      if (stop_collector_) break;
      drain_locked();
      threads_.scan();
      // Modules that were loaded meanwhile. Without the lock: it waits for the dynamic linker's.
      hold.unlock();
      unwind_refresh();
      hold.lock();
    }
  }

  void add(const cpu_tick& tick, const std::vector<uintptr_t>& pcs, uint64_t ticks) {
    if (ticks == 0) return;
    const auto* labels = static_cast<const weft::detail::label_node*>(tick.labels);
    sample_key key{{pcs, true, tick.truncated},
                   labels != nullptr ? &labels->pairs : nullptr,
                   {},
                   tick.root != nullptr ? tick.root : std::string_view()};
    const auto count = static_cast<int64_t>(ticks);
    for (consumer* c : consumers_) c->add(key, tick.task, count, count * (1'000'000'000 / tick.hz));
  }

  void drain_locked() {
    uint64_t lost = 0;
    uint64_t lost_ns = 0;
    for (thread_sampler* s : threads_.all()) {
      s->ring.drain([this, s](const cpu_tick& tick, const std::vector<uintptr_t>& pcs) {
        const uint64_t early = std::min<uint64_t>(s->ahead, tick.weight);
        s->ahead -= early;
        add(tick, pcs, tick.weight - early);
        weft::detail::drop_labels(static_cast<const weft::detail::label_node*>(s->last.labels));
        s->last = tick;
        s->last_pcs = pcs;
      });
      if (s->owed > 0) {
        cpu_tick tick = s->last;
        tick.hz = s->owed_hz;
        if (s->last_pcs.empty()) tick.root = "[too short to be sampled]";
        add(tick, s->last_pcs, s->owed);
        s->owed = 0;
      }
      if (s->retired) {
        weft::detail::drop_labels(static_cast<const weft::detail::label_node*>(s->last.labels));
        s->last.labels = nullptr;
      }
      const cpu_ring::loss l = s->ring.take_lost();
      lost += l.ticks;
      lost_ns += l.ns;
    }
    if (lost > 0) {
      sample_key key{{}, nullptr, {}, "[lost samples]"};
      for (consumer* c : consumers_) {
        c->add(key, 0, static_cast<int64_t>(lost), static_cast<int64_t>(lost_ns));
        c->lost += lost;
      }
    }
    threads_.reclaim();
  }

  static void install_handler() {
    static const bool installed = [] {
      sched::install_signal(sched::profile_signal(), on_tick);
      return true;
    }();
    static_cast<void>(installed);
  }

  // A thread that the runtime does not know: cpu_threads.cc says how its stack's bounds are found.
  static stack_range range_of_unknown(thread_sampler& s, uintptr_t rsp) noexcept {
    const uintptr_t hi = s.stack_hi.load(std::memory_order_acquire);  // [ord sampler.stack]
    const uintptr_t lo = s.stack_lo.load(std::memory_order_relaxed);
    if (rsp >= lo && rsp < hi) return {rsp, hi};
    if (hi == 0) s.seen_rsp.store(rsp, std::memory_order_relaxed);
    return {rsp, (rsp | (page_size - 1)) + 1};
  }

  static bool on_tick(siginfo_t* info, void* ucontext) noexcept {
    if (info->si_code != SI_TIMER) return false;
    thread_sampler* s = sampler_of(*info);
    if (s == nullptr) return false;
    const regs from = regs_from_ucontext(ucontext);
    stack_range range{};
    cpu_tick tick;
    sched::thread* th = sched::self_or_null();
    sched::task* t = nullptr;
    // A tick of the past, whose slot is another thread's by now.
    const int own = th != nullptr ? th->tid : static_cast<int>(::syscall(SYS_gettid));
    if (s->tid.load(std::memory_order_acquire) != own) return true;  // [ord sampler.tid]
    if (th != nullptr) {
      t = th->current.load(std::memory_order_relaxed);
      range = range_for(*th, t, from.rsp);
    } else {
      range = range_of_unknown(*s, from.rsp);
    }
    uintptr_t pcs[max_cpu_depth];
    const unwind_result r = unwind(from, range, pcs);
    tick.truncated = r.end != unwind_end::outermost;
    // A library that was loaded since the collector has looked: from the next sample on its frames
    // lead on to their callers.
    if (r.end == unwind_end::no_table && r.depth > 0 &&
        unwind_is_behind(r.depth == 1 ? pcs[0] : pcs[r.depth - 1] - 1))
      call_collector();
    if (t == nullptr || t->system.load(std::memory_order_relaxed)) tick.root = s->root;
    if (t != nullptr) {
      tick.task = t->id;
      tick.labels = weft::detail::retain_labels(
          static_cast<const weft::detail::label_node*>(t->labels.load(std::memory_order_acquire)));
    }
    tick.weight = 1 + static_cast<uint32_t>(std::max(info->si_overrun, 0));
    tick.hz = s->hz.load(std::memory_order_relaxed);
    s->told.fetch_add(tick.weight, std::memory_order_relaxed);
    if (!s->ring.push(tick, pcs, r.depth))
      weft::detail::drop_labels(static_cast<const weft::detail::label_node*>(tick.labels));
    return true;
  }

  std::mutex control_;  // one add or remove at a time
  std::mutex lock_;
  std::vector<consumer*> consumers_;
  cpu_threads threads_;
  std::atomic<bool> running_{false};
  bool stop_collector_ = false;
  std::thread collector_;
};

}  // namespace

cpu_consumer::cpu_consumer(const cpu_options& options) {
  if (options.hz < 1 || options.hz > max_cpu_hz) {
    throw std::invalid_argument("CPU profile rate " + std::to_string(options.hz) +
                                " Hz is outside 1 to " + std::to_string(max_cpu_hz));
  }
  state_ = std::make_unique<state>(options);
  state_->start_wall = std::chrono::duration_cast<std::chrono::nanoseconds>(
                           std::chrono::system_clock::now().time_since_epoch())
                           .count();
  state_->start_mono = base::now_ns();
  sampler::instance().add(state_.get());
}

cpu_consumer::~cpu_consumer() {
  if (!state_->stopped) sampler::instance().remove(state_.get());
}

cpu_result cpu_consumer::stop() {
  sampler::instance().remove(state_.get());
  state_->stopped = true;
  cpu_result r;
  r.hz = state_->options.hz;
  r.samples = state_->set.take();
  r.start_nanos = state_->start_wall;
  r.duration_nanos = base::now_ns() - state_->start_mono;
  r.lost = state_->lost;
  return r;
}

int cpu_consumers() { return sampler::instance().consumers(); }

void install_cpu_sampler() {
  using base::event_kind;
  static const bool installed = [] {
    base::add_sink(
        1u << static_cast<int>(event_kind::thread_start) |
            1u << static_cast<int>(event_kind::thread_stop),
        [](const base::event& e, void*) noexcept {
          auto* th = reinterpret_cast<sched::thread*>(e.a);
          if (e.kind == event_kind::thread_start)
            sampler::instance().thread_started(th);
          else
            sampler::instance().thread_stopped(th);
        },
        nullptr);
    return true;
  }();
  static_cast<void>(installed);
}

}  // namespace weft::prof
