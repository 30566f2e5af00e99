// CPU sampling by per-thread CPU-time timers.
//
// Each thread of the runtime has a timer on its own CPU clock (CLOCK_THREAD_CPUTIME_ID) whose
// signal goes to that thread: an idle thread costs nothing, and N busy threads give N times the
// rate without bias between them. The handler unwinds the interrupted stack with the compact tables
// and appends {weight, labels, stack} to the thread's own ring; weight is 1 + the timer's overruns,
// so that rates above the kernel's tick stay unbiased. A collector thread drains the rings ten
// times a second and adds each sample to every consumer's set.
//
// The ring has one writer (the handler, on its thread) and one reader (the collector). A sample
// that does not fit is counted as lost, which appears in the profile as a sample "[lost samples]".
// A thread's ring outlives the thread until the collector has drained it.
#include "profiler/cpu_sampler.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "base/check.h"
#include "base/clock.h"
#include "base/events.h"
#include "profiler/stack_bounds.h"
#include "profiler/unwind.h"
#include "runtime/label_node.h"
#include "scheduler/deadlock.h"
#include "scheduler/signals.h"
#include "scheduler/thread.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace weft::prof {
namespace {

constexpr size_t ring_words = 1 << 15;  // 256 KiB, touched as far as it fills
constexpr size_t header_words = 3;      // depth | truncated << 32, weight, labels
constexpr size_t max_depth = 512;
constexpr auto drain_period = std::chrono::milliseconds(100);

class sample_ring {
 public:
  // Handler side.
  bool push(const uintptr_t* pcs, size_t depth, bool truncated, uint64_t weight,
            const void* labels) noexcept {
    size_t need = header_words + depth;
    size_t tail = tail_.load(std::memory_order_relaxed);
    // [ord ring.head] acquire: the reader is done with the words below head
    if (ring_words - (tail - head_.load(std::memory_order_acquire)) < need) {
      lost_.fetch_add(weight, std::memory_order_relaxed);
      return false;
    }
    put(tail++, depth | uint64_t{truncated} << 32);
    put(tail++, weight);
    put(tail++, reinterpret_cast<uintptr_t>(labels));
    for (size_t i = 0; i < depth; ++i) put(tail++, pcs[i]);
    tail_.store(tail, std::memory_order_release);  // [ord ring.tail] publishes the sample
    return true;
  }

  // Collector side: f(pcs, truncated, weight, labels) for each sample.
  template <class F>
  void drain(F f) {
    size_t head = head_.load(std::memory_order_relaxed);
    size_t tail = tail_.load(std::memory_order_acquire);  // [ord ring.tail]
    std::vector<uintptr_t> pcs;
    while (head != tail) {
      uint64_t first = get(head++);
      uint64_t weight = get(head++);
      auto* labels = reinterpret_cast<const weft::detail::label_node*>(get(head++));
      pcs.resize(first & 0xffffffff);
      for (uintptr_t& pc : pcs) pc = get(head++);
      f(pcs, (first >> 32) != 0, weight, labels);
    }
    head_.store(head, std::memory_order_release);  // [ord ring.head]
  }
  uint64_t take_lost() noexcept { return lost_.exchange(0, std::memory_order_relaxed); }

 private:
  void put(size_t at, uint64_t v) noexcept {
    words_[at % ring_words].store(v, std::memory_order_relaxed);
  }
  uint64_t get(size_t at) const noexcept {
    return words_[at % ring_words].load(std::memory_order_relaxed);
  }
  std::atomic<size_t> head_{0};
  std::atomic<size_t> tail_{0};
  std::atomic<uint64_t> lost_{0};
  std::atomic<uint64_t> words_[ring_words];
};

// One thread's part of the sampler.
struct thread_sampler {
  sample_ring ring;
  timer_t timer{};
  bool armed = false;
  bool retired = false;  // the thread has ended
};

void* map_sampler_memory() {
  void* p = ::mmap(nullptr, sizeof(thread_sampler), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

class sampler {
 public:
  static sampler& instance() {
    static auto* const s = new sampler;
    return *s;
  }

  void add(sample_set* set, int hz) {
    unwind_refresh();
    std::lock_guard control(control_);
    bool first;
    {
      std::lock_guard hold(lock_);
      first = consumers_.empty();
      if (first) hz_ = hz;
    }
    if (first) {
      install_handler();
    } else {
      drain();  // what came before is not this consumer's
    }
    {
      std::lock_guard hold(lock_);
      consumers_.push_back(set);
    }
    if (first) {
      running_.store(true, std::memory_order_seq_cst);
      sched::for_each_thread([](sched::thread* th, void*) { instance().arm(th); }, nullptr);
      collector_ = std::thread([this] { collect(); });
    }
  }

  // Returns the rate at which `set` was filled.
  int remove(sample_set* set) {
    std::lock_guard control(control_);
    drain();
    bool last;
    int hz;
    {
      std::lock_guard hold(lock_);
      consumers_.erase(std::find(consumers_.begin(), consumers_.end(), set));
      last = consumers_.empty();
      hz = hz_;
      if (last) stop_collector_ = true;
    }
    if (last) {
      running_.store(false, std::memory_order_seq_cst);
      wake_.notify_all();
      collector_.join();
      stop_collector_ = false;
      std::lock_guard hold(lock_);
      for (auto& [th, s] : samplers_) disarm(*s);
    }
    return hz;
  }

  int consumers() {
    std::lock_guard hold(lock_);
    return static_cast<int>(consumers_.size());
  }

  void thread_started(sched::thread* th) {
    if (running_.load(std::memory_order_seq_cst)) arm(th);
  }

  void thread_stopped(sched::thread* th) {
    auto* s = static_cast<thread_sampler*>(th->sampler.exchange(nullptr));
    if (s == nullptr) return;
    std::lock_guard hold(lock_);
    disarm(*s);
    s->retired = true;
  }

 private:
  // Any thread, for th: the timer counts th's CPU time and signals th, whoever makes it.
  void arm(sched::thread* th) {
    std::lock_guard hold(lock_);
    auto* s = static_cast<thread_sampler*>(th->sampler.load(std::memory_order_relaxed));
    if (s == nullptr) {
      void* memory = map_sampler_memory();
      if (memory == nullptr) return;
      s = new (memory) thread_sampler;
      samplers_.emplace_back(th, s);
      th->sampler.store(s, std::memory_order_release);
    }
    if (s->armed || hz_ <= 0) return;
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = sched::profile_signal();
    event.sigev_notify_thread_id = th->tid;
    // The kernel's encoding of "CPU clock of thread tid".
    auto clock = static_cast<clockid_t>((~static_cast<unsigned>(th->tid) << 3) | 6u);
    if (::timer_create(clock, &event, &s->timer) != 0) {
      base::log_line("no CPU timer for thread %d: %s (RLIMIT_SIGPENDING limits timers)", th->tid,
                     std::strerror(errno));
      return;
    }
    int64_t period = 1'000'000'000 / hz_;
    // The first tick falls anywhere in the period, or short-lived threads would never be seen.
    auto phase = static_cast<int64_t>(next_phase_ = next_phase_ * 6364136223846793005u + 1u) >> 33;
    itimerspec spec{};
    spec.it_interval = {period / 1'000'000'000, period % 1'000'000'000};
    int64_t initial = 1 + (phase < 0 ? -phase : phase) % period;
    spec.it_value = {initial / 1'000'000'000, initial % 1'000'000'000};
    ::timer_settime(s->timer, 0, &spec, nullptr);
    s->armed = true;
  }

  static void disarm(thread_sampler& s) {
    if (!s.armed) return;
    ::timer_delete(s.timer);
    s.armed = false;
  }

  void collect() {
    ::pthread_setname_np(::pthread_self(), "weft-profile");
    sched::service_thread not_an_actor;
    std::unique_lock hold(lock_);
    while (!stop_collector_) {
      wake_.wait_for(hold, drain_period);
      drain_locked();
    }
  }

  void drain() {
    std::lock_guard hold(lock_);
    drain_locked();
  }

  void drain_locked() {
    uint64_t lost = 0;
    for (auto& [th, s] : samplers_) {
      s->ring.drain([this](const std::vector<uintptr_t>& pcs, bool truncated, uint64_t weight,
                           const weft::detail::label_node* labels) {
        sample_key key{
            {pcs, true, truncated}, labels != nullptr ? &labels->pairs : nullptr, {}, {}};
        for (sample_set* set : consumers_) set->add(key, static_cast<int64_t>(weight));
        weft::detail::drop_labels(labels);
      });
      lost += s->ring.take_lost();
    }
    if (lost > 0) {
      sample_key key{{}, nullptr, {}, "[lost samples]"};
      for (sample_set* set : consumers_) set->add(key, static_cast<int64_t>(lost));
    }
    std::erase_if(samplers_, [](auto& entry) {
      if (!entry.second->retired) return false;
      ::munmap(entry.second, sizeof(thread_sampler));
      return true;
    });
  }

  static void install_handler() {
    static const bool installed = [] {
      sched::install_signal(sched::profile_signal(), on_tick);
      return true;
    }();
    static_cast<void>(installed);
  }

  static bool on_tick(siginfo_t* info, void* ucontext) noexcept {
    if (info->si_code != SI_TIMER) return false;
    sched::thread* th = sched::self_or_null();
    if (th == nullptr) return true;
    // The collector unmaps only samplers of threads that have ended.
    auto* s = static_cast<thread_sampler*>(th->sampler.load(std::memory_order_acquire));
    if (s == nullptr) return true;
    sched::task* t = th->current.load(std::memory_order_relaxed);
    regs from = regs_from_ucontext(ucontext);
    uintptr_t pcs[max_depth];
    unwind_result r = unwind(from, range_for(*th, t, from.rsp), pcs);
    const weft::detail::label_node* labels = nullptr;
    if (t != nullptr) {
      labels = weft::detail::retain_labels(
          static_cast<const weft::detail::label_node*>(t->labels.load(std::memory_order_acquire)));
    }
    auto weight = 1 + static_cast<uint64_t>(info->si_overrun > 0 ? info->si_overrun : 0);
    if (!s->ring.push(pcs, r.depth, r.end == unwind_end::truncated, weight, labels))
      weft::detail::drop_labels(labels);
    return true;
  }

  std::mutex control_;  // one add or remove at a time
  std::mutex lock_;
  std::condition_variable wake_;
  std::vector<sample_set*> consumers_;
  std::vector<std::pair<sched::thread*, thread_sampler*>> samplers_;
  std::atomic<bool> running_{false};
  bool stop_collector_ = false;
  int hz_ = default_cpu_hz;
  uint64_t next_phase_ = 88172645463325252u;
  std::thread collector_;
};

}  // namespace

struct cpu_consumer::state {
  sample_set set{1};
  int64_t start_wall = 0;
  int64_t start_mono = 0;
  bool stopped = false;
};

cpu_consumer::cpu_consumer(int hz) : state_(std::make_unique<state>()) {
  if (hz < 1 || hz > max_cpu_hz)
    throw std::invalid_argument("CPU profile rate must be 1 to 1000 Hz");
  state_->start_wall = std::chrono::duration_cast<std::chrono::nanoseconds>(
                           std::chrono::system_clock::now().time_since_epoch())
                           .count();
  state_->start_mono = base::now_ns();
  sampler::instance().add(&state_->set, hz);
}

cpu_consumer::~cpu_consumer() {
  if (!state_->stopped) sampler::instance().remove(&state_->set);
}

cpu_result cpu_consumer::stop() {
  cpu_result r;
  r.hz = sampler::instance().remove(&state_->set);
  state_->stopped = true;
  r.samples = state_->set.take();
  r.start_nanos = state_->start_wall;
  r.duration_nanos = base::now_ns() - state_->start_mono;
  for (const sample& s : r.samples) {
    if (s.pseudo_frame == "[lost samples]") r.lost += static_cast<uint64_t>(s.values[0]);
  }
  return r;
}

int cpu_consumers() { return sampler::instance().consumers(); }

void install_cpu_sampler() {
  using base::event_kind;
  uint32_t mask = 1u << static_cast<int>(event_kind::thread_start) |
                  1u << static_cast<int>(event_kind::thread_stop);
  base::add_sink(
      mask,
      [](const base::event& e, void*) noexcept {
        auto* th = reinterpret_cast<sched::thread*>(e.a);
        if (e.kind == event_kind::thread_start)
          sampler::instance().thread_started(th);
        else
          sampler::instance().thread_stopped(th);
      },
      nullptr);
}

}  // namespace weft::prof
