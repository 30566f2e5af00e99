// Capture: the stacks of all tasks, without stopping the world.
//
// A task that does not execute (runnable, waiting) is claimed: one bit in its state word keeps it
// from starting to execute while its saved registers and stack are read, a microsecond or so. A
// task that does execute is asked: its thread gets a signal and unwinds itself into a request slot.
// Between the look and the act a task may change sides, so each is tried by whichever means fits
// until one succeeds.
//
// So every task is seen at a moment of its own. With capture_options::instant it is the same moment
// for all: instant_captures.h.
//
// While a claim is held, nothing is allocated and no lock is taken: the claimed task may be what
// another thread is about to run. Copying into snapshots happens after the release.
//
// Rejected: stopping all processors (Go stalls everyone for 0.7 s at 100 000 tasks); signalling
// threads that are parked in the kernel for nothing; resuming each task to let it report (needs
// free workers).
#include "profiler/capture.h"

#include <sched.h>
#include <weft/blocking.h>
#include <weft/mutex.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/futex.h"
#include "profiler/instant_captures.h"
#include "profiler/raw_capture.h"
#include "profiler/stack_bounds.h"
#include "profiler/unwind.h"
#include "scheduler/park.h"
#include "scheduler/signals.h"
#include "scheduler/thread_signal.h"

namespace weft::prof {
namespace {

using sched::instant_note;
using sched::status_of;
using sched::task;
using sched::task_status;
using sched::thread;

constexpr int64_t signal_patience_ns = 100'000'000;
constexpr int max_attempts = 64;
constexpr int max_silences = 3;  // a thread that blocks the signal does not answer at all

// The one request slot. state: 0 free, 1 asked, 2 being filled, 3 filled.
struct request {
  std::mutex one_capture;
  std::atomic<uint32_t> state{0};
  std::atomic<thread*> target{nullptr};
  task* executing = nullptr;  // what the target was executing; null in the scheduler
  raw_capture* into = nullptr;
};
request& slot() noexcept {
  static auto* const r = new request;
  return *r;
}
std::atomic<request*> g_slot{nullptr};

bool is_executing(const task& t) noexcept {
  const task_status s = status_of(t.state.load(std::memory_order_relaxed));
  return s == task_status::running || s == task_status::blocking;
}

bool answer(void* ucontext) noexcept {
  request* r = g_slot.load(std::memory_order_acquire);
  thread* th = sched::self_or_null();
  uint32_t asked = 1;
  // [ord capture.slot] acquire: target and depth were written before state became 1
  if (r != nullptr && th != nullptr && r->target.load(std::memory_order_relaxed) == th &&
      r->state.compare_exchange_strong(asked, 2, std::memory_order_acq_rel)) {
    task* t = th->current.load(std::memory_order_relaxed);
    // A thread that is about to run a task names it already, and is still in the scheduler.
    if (t != nullptr && !t->foreign && !is_executing(*t)) t = nullptr;
    r->executing = t;
    const regs from = regs_from_ucontext(ucontext);
    if (t != nullptr) copy_executing(*r->into, *th, *t, &from);
    r->state.store(3, std::memory_order_release);
    base::futex_wake(r->state, 1);
    return true;
  }
  return false;
}

enum class answered : uint8_t { yes, moved, no };

// Asks the thread that executes `t`. moved: no thread does any more; no: it did not answer in time.
answered capture_running(task& t, raw_capture& out) {
  request& r = slot();
  struct search {
    task* wanted;
    request* r;
    bool sent;
  } s{&t, &r, false};
  r.into = &out;
  sched::for_each_thread(
      [](thread* th, void* arg) {
        auto* found = static_cast<search*>(arg);
        if (found->sent || th->current.load(std::memory_order_relaxed) != found->wanted) return;
        found->r->target.store(th, std::memory_order_relaxed);
        found->r->state.store(1, std::memory_order_release);
        // Under the registry's lock, so the thread cannot have ended.
        found->sent = sched::send_thread_signal(*th);
        if (!found->sent) found->r->state.store(0, std::memory_order_relaxed);
      },
      &s);
  if (!s.sent) return answered::moved;
  int64_t deadline = base::true_now_ns() + signal_patience_ns;
  for (;;) {
    uint32_t state = r.state.load(std::memory_order_acquire);
    if (state == 3) break;
    int64_t left = deadline - base::true_now_ns();
    if (left <= 0 && state == 1) {
      if (r.state.compare_exchange_strong(state, 0, std::memory_order_acq_rel)) return answered::no;
      continue;
    }
    base::futex_wait(r.state, state, left > 0 ? left : 1'000'000);
  }
  r.state.store(0, std::memory_order_relaxed);
  if (r.executing == nullptr) return answered::moved;
  if (r.executing == &t) return answered::yes;
  drop_captured_labels(out);
  return answered::moved;
}

}  // namespace

void install_capture_signal() {
  static const bool installed = [] {
    g_slot.store(&slot(), std::memory_order_release);
    sched::set_signal_visitor(answer);
    sched::install_thread_signal();
    return true;
  }();
  static_cast<void>(installed);
}

task_snapshot capture_self(size_t depth) {
  unwind_refresh();
  depth = std::min(depth, max_capture_depth);
  task_snapshot s;
  thread* th = sched::self_or_null();
  task* t = th != nullptr ? th->current.load(std::memory_order_relaxed) : nullptr;
  if (t != nullptr) {
    auto raw = std::make_unique<capture_buffer>();
    copy_executing(*raw, *th, *t, nullptr);
    fill_snapshot(s, *raw, 0);
    // Its own call and this one's.
    s.pcs.erase(s.pcs.begin(),
                s.pcs.begin() + static_cast<ptrdiff_t>(std::min<size_t>(2, s.pcs.size())));
    if (s.pcs.size() > depth) {
      s.pcs.resize(depth);
      s.truncated = true;
    }
  } else {
    s.pcs.resize(depth);
    const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    const unwind_result r =
        unwind_here(th != nullptr ? range_for(*th, t, here) : unknown_thread_range(), s.pcs);
    s.pcs.resize(r.depth);
    if (!s.pcs.empty()) s.pcs.erase(s.pcs.begin());
    s.truncated = r.end == unwind_end::truncated;
  }
  // Its processor may have been retaken while it was busy here; it executes all the same.
  s.status = "running";
  s.wait_ns = 0;
  return s;
}

namespace {

// Whether the record stands for a thread that waits in a primitive and whose stack is wanted. It is
// the thread's own, so it has to be asked.
bool is_waiting_thread(task& t) noexcept {
  uint32_t word;
  if (!sched::claim(t, word)) return false;
  const bool yes = status_of(word) == task_status::waiting && t.foreign &&
                   !t.own_thread->service.load(std::memory_order_relaxed);
  sched::unclaim(t);
  return yes;
}

// Under a claim. False: no claim, or somebody has captured the task for the instant.
bool capture_claimed(task& t, raw_capture& out, instant_note* note) noexcept {
  uint32_t word;
  if (!sched::claim(t, word)) return false;
  const bool mine = note == nullptr || note->capture.load(std::memory_order_acquire) == nullptr;
  if (mine) copy_claimed(out, t, word, note);
  if (mine && note != nullptr) note->capture.store(&out, std::memory_order_release);
  sched::unclaim(t);
  return mine;
}

// False when the record is free, or not wanted. `note`: of the open instant; then also false when
// it tells what there is to tell.
bool capture_one(task& t, const capture_options& options, raw_capture& raw,
                 instant_note* note = nullptr) {
  int silences = 0;
  for (int attempt = 0; attempt < max_attempts && silences < max_silences; ++attempt) {
    const auto known = [note] {
      return note != nullptr && note->capture.load(std::memory_order_acquire) != nullptr;
    };
    if (known()) return false;
    const task_status status = status_of(t.state.load(std::memory_order_acquire));
    if (status == task_status::free) return false;
    const bool ask = t.system && options.foreign_threads && is_waiting_thread(t);
    if (t.system && !options.system_tasks && !ask) return false;
    {
      // Nobody parks while holding it, so it is held for the capture of one task.
      std::lock_guard one(slot().one_capture);
      if (!ask && capture_claimed(t, raw, note)) return true;
      if (ask || is_executing(t)) {
        const answered a = capture_running(t, raw);
        if (a == answered::yes && !known()) return true;
        if (a == answered::yes) drop_captured_labels(raw);
        if (a == answered::no) ++silences;
      }
    }
    ::sched_yield();
  }
  // It exists, so it counts, if only without a stack.
  copy_identity(raw, t, t.state.load(std::memory_order_acquire));
  if (status_of(t.state.load(std::memory_order_acquire)) != task_status::free) return true;
  drop_captured_labels(raw);
  return false;
}

}  // namespace

namespace {

// Which task a page of a stack belongs to. Made when the first task that waits for a lock is met: a
// second pass over all tasks, for their stacks' bounds alone.
class stack_owners {
 public:
  uint64_t at(uintptr_t page) {
    if (stacks_.empty()) collect();
    const auto after = std::ranges::upper_bound(stacks_, page, {}, &entry::lo);
    if (after == stacks_.begin() || page >= after[-1].hi) return 0;
    return after[-1].id;
  }

 private:
  struct entry {
    uintptr_t lo, hi;
    uint64_t id;
  };
  void collect() {
    using weft::detail::lock_owner;
    const auto buffer = std::make_unique<capture_buffer>();
    raw_capture& scratch = *buffer;
    scratch.room = 1;
    const size_t records = sched::task_record_count();
    for (size_t i = 0; i < records; ++i) {
      if (!capture_one(sched::task_record(i), {.system_tasks = true}, scratch)) continue;
      drop_captured_labels(scratch);
      if (scratch.stack_hi == 0) continue;
      // As far as an owner's address tells: whole pages, and not their highest bits.
      stacks_.push_back({scratch.stack_lo & lock_owner::address_bits & ~(lock_owner::page_size - 1),
                         scratch.stack_hi & lock_owner::address_bits, scratch.id});
    }
    std::ranges::sort(stacks_, {}, &entry::lo);
    if (stacks_.empty()) stacks_.push_back({0, 0, 0});
  }
  std::vector<entry> stacks_;
};

}  // namespace

namespace {

// Hands captures over, and gives up the processor meanwhile if that is wanted.
class delivery {
 public:
  delivery(const capture_options& options, const std::function<void(const task_snapshot&)>& visit,
           task* me)
      : options_(options), visit_(visit), me_(me) {
    give_up();
  }

  // Asks after every `between_stops` records; true: nobody wants the rest.
  bool stopped_at(size_t record) {
    if (!options_.stop || record % options_.between_stops != options_.between_stops - 1)
      return false;
    without_processor_.reset();
    if (options_.stop()) return true;
    give_up();
    return false;
  }

  void self() {
    if (me_ == nullptr || (me_->system && !options_.system_tasks)) return;
    visit_(capture_self(options_.depth));
    ++visited_;
  }

  void hand_over(raw_capture& raw, int64_t now) {
    fill_snapshot(snapshot_, raw, now);
    if (!options_.owners) snapshot_.waits_on = nullptr;
    if (options_.owners && raw.owner_page != 0) {
      snapshot_.held_by = owners_.at(raw.owner_page);
      // A lock that its waiter was handed already, or a writer's that waits for readers.
      if (snapshot_.held_by == snapshot_.id) snapshot_.held_by = 0;
    }
    visit_(snapshot_);
    ++visited_;
  }

  size_t visited() const { return visited_; }

 private:
  void give_up() {
    if (options_.give_up_processor && me_ != nullptr && !me_->foreign) without_processor_.emplace();
  }

  const capture_options& options_;
  const std::function<void(const task_snapshot&)>& visit_;
  task* const me_;
  std::optional<weft::detail::blocking_scope> without_processor_;
  task_snapshot snapshot_;
  stack_owners owners_;
  size_t visited_ = 0;
};

void deliver_one_by_one(delivery& to, const task* me, const capture_options& options) {
  const auto raw = std::make_unique<capture_buffer>();
  raw->room = std::min(options.depth, max_capture_depth);
  const size_t records = sched::task_record_count();
  for (size_t i = 0; i < records; ++i) {
    task& t = sched::task_record(i);
    if (&t == me) continue;
    if (to.stopped_at(i)) return;
    if (capture_one(t, options, *raw)) to.hand_over(*raw, base::now_ns());
  }
}

// What is known of record `t` at the instant; null: it was no task's then, or of none that is
// wanted.
raw_capture* captured_at(instant_captures& instant, task& t, const capture_options& options) {
  instant_note* note = sched::instant_note_of(t);
  if (note == nullptr) return nullptr;
  raw_capture& mine = instant.next();
  if (capture_one(t, options, mine, note)) {
    instant.keep(mine);
    return &mine;
  }
  bool lost = false;
  raw_capture* theirs = instant_captures::found(*note, lost);
  if (!lost) return theirs;
  copy_identity(mine, t, t.state.load(std::memory_order_acquire));
  instant.keep(mine);
  return &mine;
}

// False: no instant was to be had. All is captured before anything is handed over, because whoever
// wakes up meanwhile has to be captured first.
bool deliver_one_instant(delivery& to, const task* me, const capture_options& options) {
  instant_captures instant(std::min(options.depth, max_capture_depth));
  if (!instant) return false;
  std::vector<raw_capture*> captures;
  const size_t records = sched::task_record_count();
  for (size_t i = 0; i < records; ++i) {
    task& t = sched::task_record(i);
    if (&t == me) continue;
    if (to.stopped_at(i)) return true;
    if (raw_capture* raw = captured_at(instant, t, options)) captures.push_back(raw);
  }
  instant.close();
  for (size_t i = 0; i < captures.size(); ++i) {
    if (to.stopped_at(i)) break;
    to.hand_over(*captures[i], instant.at_ns());
  }
  return true;
}

}  // namespace

size_t capture_tasks(const capture_options& options,
                     const std::function<void(const task_snapshot&)>& visit) {
  thread* th = sched::self_or_null();
  task* me = th != nullptr ? th->current.load(std::memory_order_relaxed) : nullptr;
  // Before anything else: the visitor may name the first frames it meets from the program's files.
  delivery to(options, visit, me);
  install_capture_signal();
  unwind_refresh();
  to.self();
  if (!options.instant || !deliver_one_instant(to, me, options))
    deliver_one_by_one(to, me, options);
  return to.visited();
}

bool capture_task(sched::task& t, uint64_t id, task_snapshot& out) {
  install_capture_signal();
  unwind_refresh();
  const auto raw = std::make_unique<capture_buffer>();
  raw->room = capture_options{}.depth;
  if (!capture_one(t, {.system_tasks = true}, *raw)) return false;
  fill_snapshot(out, *raw, base::now_ns());
  return out.id == id;
}

}  // namespace weft::prof
