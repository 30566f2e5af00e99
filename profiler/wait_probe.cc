// Probes of waiting.
//
// Sources    A task that is back from a time in which it did not run tells so by itself
//            (scheduler/wait_watch.h): here its stack is taken and the time goes to the table of
//            the block profile, the wait profile, or both. A lock that was waited for tells on the
//            task that unlocked it (runtime/contention.h): to the table of the mutex profile.
//            The runtime's own locks have theirs (runtime_locks.cc).
// Sampling   Go's rule: a time of at least the rate counts as it is; a shorter one of d counts as
//            one of the rate, with probability d / rate. So every sum over many is right, and
//            looking costs at most one record per task and rate.
//            The wait profile is on by default and uses the grid: chance is then where a wait lies
//            between two points of the coarse clock. Rates below finest_grid_ns, which that clock
//            cannot tell apart, use the true clock and random numbers.
// Cap        Recording a wait takes its own time. When that was more than cap_share of what the
//            processors had, in a window, the period of the wait profile doubles; it comes back as
//            that falls. Weights are those of the period at the end of each wait, so sums stay
//            right. Rate 1 is without a cap: whoever asks for everything gets it.
#include "profiler/wait_probe.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <mutex>

#include "base/options.h"
#include "profiler/runtime_locks.h"
#include "profiler/stack_here.h"
#include "profiler/unwind.h"
#include "runtime/contention.h"
#include "scheduler/park.h"
#include "scheduler/runtime_control.h"
#include "scheduler/wait_watch.h"

namespace weft::prof {
namespace {

using sched::time_away;
using sched::wait_reason;

constexpr int64_t default_wait_rate_ns = 10'000'000;
constexpr int64_t finest_grid_ns = int64_t{1} << 20;
constexpr int64_t longest_period_ns = int64_t{1} << 33;
constexpr int64_t cap_share = 200;  // one part in this many
constexpr int64_t cap_window_ns = 100'000'000;

// What Go's block profile counts, and its kin here: channels, locks, and waits for other tasks.
constexpr uint64_t bits(std::initializer_list<wait_reason> reasons) {
  uint64_t all = 0;
  for (wait_reason r : reasons) all |= uint64_t{1} << static_cast<int>(r);
  return all;
}
constexpr uint64_t block_reasons =
    bits({wait_reason::chan_receive, wait_reason::chan_send, wait_reason::select,
          wait_reason::mutex_lock, wait_reason::rwmutex_rlock, wait_reason::rwmutex_lock,
          wait_reason::cond_wait, wait_reason::wait_group_wait, wait_reason::semacquire,
          wait_reason::join, wait_reason::latch_wait, wait_reason::barrier_wait,
          wait_reason::once_wait});

constinit bucket_table g_block(2);
constinit bucket_table g_mutex(2);
constinit bucket_table g_wait(2);

std::atomic<int64_t> g_block_rate{0};
std::atomic<int64_t> g_mutex_fraction{0};
std::atomic<int64_t> g_wait_rate{0};    // as it was set
std::atomic<int64_t> g_wait_period{0};  // in effect; a power of two where the grid is used
base::spinlock g_settings;              // held while these and the gates are changed

bool by_grid(int64_t rate) noexcept { return rate >= finest_grid_ns; }
int64_t finest_period(int64_t rate) noexcept {
  return by_grid(rate) ? static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(rate))) : rate;
}

uint64_t random_below(int64_t limit) noexcept {
  const uint64_t r = uint64_t{sched::next_random_number()} << 32 | sched::next_random_number();
  return r % static_cast<uint64_t>(limit);
}

// The calling stack, taken when it is needed first.
class own_stack_once {
 public:
  [[gnu::always_inline]] void take() noexcept {
    if (taken_) return;
    taken_ = true;
    here_ = stack_here(pcs_);
  }
  void be(uintptr_t only) noexcept {
    taken_ = true;
    pcs_[0] = only;
    here_ = {1, false};
  }
  std::span<const uintptr_t> pcs() const noexcept { return {pcs_.data(), here_.depth}; }
  bool truncated() const noexcept { return here_.truncated; }

 private:
  bool taken_ = false;
  captured_stack here_{};
  std::array<uintptr_t, probe_depth> pcs_;
};

void add(bucket_table& table, const own_stack_once& stack, const sched::task& me, uint64_t tag,
         int64_t events, int64_t delay) noexcept {
  const auto* labels =
      static_cast<const weft::detail::label_node*>(me.labels.load(std::memory_order_relaxed));
  bucket* b = table.acquire({stack.pcs(), stack.truncated(), labels, tag});
  b->add(counted::events, events);
  b->add(counted::delay_ns, delay);
  table.release(b);
}

// -- block

void record_block(sched::task& me, const time_away& t, own_stack_once& stack) noexcept {
  const int64_t rate = g_block_rate.load(std::memory_order_relaxed);
  const int64_t d = t.ready_ns - t.left_ns;
  if (rate <= 0) return;
  int64_t events = counted::event_unit;
  int64_t delay = d;
  if (d < rate) {
    if (static_cast<int64_t>(random_below(rate)) >= d) return;
    events = static_cast<int64_t>(static_cast<double>(events) * static_cast<double>(rate) /
                                  static_cast<double>(d));
    delay = rate;
  }
  stack.take();
  add(g_block, stack, me, 0, events, delay);
}

// -- wait

// What recording has taken, in windows.
std::atomic<int64_t> g_window_began{0};
std::atomic<int64_t> g_window_spent{0};

void apply_settings() noexcept;  // g_settings held

void set_period(int64_t from, int64_t to) noexcept {
  if (!g_settings.try_lock()) return;  // somebody else is at it
  const int64_t rate = g_wait_rate.load(std::memory_order_relaxed);
  if (rate > 1 && g_wait_period.load(std::memory_order_relaxed) == from) {
    g_wait_period.store(std::clamp(to, finest_period(rate), longest_period_ns),
                        std::memory_order_relaxed);
    apply_settings();
  }
  g_settings.unlock();
}

void account(int64_t began, int64_t ended, const wait_sampling& s) noexcept {
  if (s.period_ns <= 1) return;
  const int64_t spent =
      g_window_spent.fetch_add(ended - began, std::memory_order_relaxed) + ended - began;
  const int64_t procs = std::max(1, sched::current_max_procs());
  const int64_t allowed = cap_window_ns / cap_share * procs;
  int64_t window = g_window_began.load(std::memory_order_relaxed);
  if (spent > allowed) {
    // Not at the end of the window: many may be waking just now.
    g_window_began.store(ended, std::memory_order_relaxed);
    g_window_spent.store(0, std::memory_order_relaxed);
    if (ended - window < cap_window_ns) set_period(s.period_ns, s.period_ns * 2);
    return;
  }
  if (ended - window < cap_window_ns ||
      !g_window_began.compare_exchange_strong(window, ended, std::memory_order_relaxed))
    return;
  g_window_spent.store(0, std::memory_order_relaxed);
  if (spent > allowed / 4) return;
  const int64_t windows = std::min<int64_t>((ended - window) / cap_window_ns, 32);
  if (s.period_ns > finest_period(g_wait_rate.load(std::memory_order_relaxed)))
    set_period(s.period_ns, s.period_ns >> windows);
}

// What a time that is over counts. `share` of it, in parts of its length, was waiting.
int64_t weight_of(const wait_sampling& s, int64_t from, int64_t to, int64_t waited) noexcept {
  const int64_t length = to - from;
  if (waited <= 0 || length <= 0) return 0;
  if (length >= s.period_ns) return waited;
  const bool hit = s.grid ? ((from ^ to) & ~(s.period_ns - 1)) != 0
                          : static_cast<int64_t>(random_below(s.period_ns)) < length;
  if (!hit) return 0;
  return waited == length
             ? s.period_ns
             : static_cast<int64_t>(static_cast<double>(s.period_ns) * static_cast<double>(waited) /
                                    static_cast<double>(length));
}

void record_wait(sched::task& me, const time_away& t, own_stack_once& stack) noexcept {
  const wait_sampling s = current_wait_sampling();
  if (!s.on || s.grid == t.exact) return;
  const int64_t began = base::true_now_ns();
  const int64_t waited = weight_of(s, t.left_ns, t.ready_ns, t.ready_ns - t.left_ns - t.cpu_ns);
  const int64_t queued = weight_of(s, t.ready_ns, t.back_ns, t.back_ns - t.ready_ns);
  if (waited == 0 && queued == 0) return;
  if (t.why == time_away::cause::first_run)
    stack.be(reinterpret_cast<uintptr_t>(me.body->invoke) + 1);
  else
    stack.take();
  const uint64_t tag = t.why == time_away::cause::blocking_call ? blocking_tag : tag_of(t.reason);
  if (waited != 0) add(g_wait, stack, me, tag, 1, waited);
  if (queued != 0) add(g_wait, stack, me, runnable_tag, 1, queued);
  account(began, base::true_now_ns(), s);
}

void apply_settings() noexcept {
  watch_runtime_locks(g_block_rate.load(std::memory_order_relaxed),
                      g_mutex_fraction.load(std::memory_order_relaxed));
  uint64_t exact = g_block_rate.load(std::memory_order_relaxed) > 0 ? block_reasons : 0;
  const wait_sampling s = current_wait_sampling();
  if (s.on && !s.grid) exact = ~uint64_t{0};
  const int64_t grid = s.on && s.grid ? s.period_ns : 0;
  sched::watch_waits(exact != 0 || grid != 0 ? note_back : nullptr, exact, grid);
}

}  // namespace

void note_back(sched::task& me, const time_away& t) noexcept {
  // The runtime's own tasks and threads wait most of the time, and nobody asks what for.
  if (me.foreign ? me.own_thread->service.load(std::memory_order_relaxed)
                 : me.system.load(std::memory_order_relaxed))
    return;
  own_stack_once stack;
  if (t.exact && t.why == time_away::cause::parked &&
      (block_reasons & sched::reason_bit(t.reason)) != 0)
    record_block(me, t, stack);
  record_wait(me, t, stack);
}

void note_contention(int64_t delay_ns, int64_t count) noexcept {
  const int64_t n = g_mutex_fraction.load(std::memory_order_relaxed);
  // A deterministic test's clock may have come or gone meanwhile.
  if (n <= 0 || delay_ns < 0 || base::g_fake_ns.load(std::memory_order_relaxed) != 0) return;
  if (n > 1 && random_below(n) != 0) return;
  own_stack_once stack;
  stack.take();
  add(g_mutex, stack, *sched::current_task(), 0, count * n, delay_ns * n);
}

bucket_table& block_table() noexcept { return g_block; }
bucket_table& mutex_table() noexcept { return g_mutex; }
bucket_table& wait_table() noexcept { return g_wait; }

uint64_t tag_of(wait_reason r) noexcept { return static_cast<uint64_t>(r); }

const char* tag_name(uint64_t tag) noexcept {
  if (tag == runnable_tag) return "runnable";
  if (tag == blocking_tag) return "blocking call";
  return sched::reason_name(static_cast<wait_reason>(tag));
}

wait_sampling current_wait_sampling() noexcept {
  const int64_t rate = g_wait_rate.load(std::memory_order_relaxed);
  return {rate > 0, by_grid(rate), g_wait_period.load(std::memory_order_relaxed)};
}

int64_t weight_so_far(const wait_sampling& s, int64_t from, int64_t to) noexcept {
  const int64_t length = to - from;
  if (!s.on || length <= 0) return 0;
  if (length >= s.period_ns) return length;
  return s.grid && ((from ^ to) & ~(s.period_ns - 1)) != 0 ? s.period_ns : 0;
}

void set_block_rate(int64_t ns) noexcept {
  if (ns > 0) unwind_refresh();
  std::lock_guard hold(g_settings);
  g_block_rate.store(std::max<int64_t>(ns, 0), std::memory_order_relaxed);
  apply_settings();
}

int64_t block_rate() noexcept { return g_block_rate.load(std::memory_order_relaxed); }

int set_mutex_fraction(int n) noexcept {
  if (n < 0) return static_cast<int>(g_mutex_fraction.load(std::memory_order_relaxed));
  if (n > 0) unwind_refresh();
  std::lock_guard hold(g_settings);
  const int64_t before = g_mutex_fraction.exchange(n, std::memory_order_relaxed);
  weft::detail::g_contention_sink.store(n > 0 ? note_contention : nullptr,
                                        std::memory_order_release);  // [ord contention.sink]
  apply_settings();
  return static_cast<int>(before);
}

void set_wait_rate(int64_t ns) noexcept {
  if (ns > 0) unwind_refresh();
  ns = std::clamp<int64_t>(ns, 0, longest_period_ns);
  std::lock_guard hold(g_settings);
  g_wait_rate.store(ns, std::memory_order_relaxed);
  g_wait_period.store(finest_period(ns), std::memory_order_relaxed);
  apply_settings();
}

int64_t wait_rate() noexcept { return g_wait_rate.load(std::memory_order_relaxed); }

void install_wait_probes() {
  // Once: what the program sets later stays.
  static std::atomic_flag done;
  if (done.test_and_set()) return;
  set_wait_rate(base::debug_number("waitprofilerate", 0, default_wait_rate_ns));
  if (const int64_t rate = base::debug_number("blockprofilerate", 0, 0); rate > 0)
    set_block_rate(rate);
  if (const int64_t n = base::debug_number("mutexprofilefraction", 0, 0); n > 0)
    set_mutex_fraction(static_cast<int>(std::min<int64_t>(n, std::numeric_limits<int>::max())));
}

}  // namespace weft::prof
