// The instant of a snapshot.
//
// Opening    All code is stopped (world_stop.h): for as long as it takes until each thread that
//            executes a task has shown that task to the port, by itself. Then everybody goes on.
// Door       A task that did not execute keeps its stack until it runs, and it cannot run without
//            passing the gate: there it is shown to the port before its first instruction. So what
//            is captured late is what was there at the instant, and nobody waits for a capture but
//            the one task that it is of.
// State      The stack is kept, but not the state word: waking a task overwrites the reason and the
//            time of its wait. While an instant is open, the state door writes them into the
//            record's note first (instant_transition), and marks the records of tasks that are
//            born.
// [N1]       For each task that lives at the instant exactly one of these comes first: the opener
//            captures it under a claim, or the gate does, before it executes again. The claim keeps
//            the two apart, and instant_note::capture tells who was first.
// [N2]       A record that has no note yet when the world stands still is younger than the instant.
//            A task that reuses a record has settled the note before the record stops being free;
//            the record's last task passed the gate, or executed at the instant, so it is captured.
// [N3]       Threads in the scheduler are not stopped. What they do to a task at that moment,
//            waking it or starting one for a descriptor, is before or after the instant, whichever
//            they see; the task itself is captured either way.
// [N4]       Who uses a note has entered (`g_inside`) and looked at the gate afterwards; closing
//            opens the gate and then waits until nobody is inside.
// Rests      A thread that rests (a declared blocking call) is not stopped. What its task's stack
//            holds above the call does not change; inside the call it may go on.
// Rejected   A word in the task's record for the epoch: the record is two cache lines, full, and a
//            million tasks would pay for what is open some milliseconds a day.
#include "scheduler/instant.h"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "base/check.h"
#include "base/clock.h"
#include "scheduler/scheduler.h"
#include "scheduler/wait_watch.h"
#include "scheduler/world_stop.h"

namespace weft::sched {
namespace {

// Records come in chunks that are never given back. Sorted by address.
struct noted_chunk {
  const task* first;
  instant_note* notes;
};

// Chunks that may be added while the program is being stopped.
constexpr size_t spare_chunks = 256;

class note_table {
 public:
  bool prepare() noexcept {
    capacity_ = g_task_table.chunk_count->load(std::memory_order_acquire) + spare_chunks;
    bytes_ = capacity_ * (sizeof(noted_chunk) + g_task_table.chunk_records * sizeof(instant_note));
    void* p = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return false;
    chunks_ = static_cast<noted_chunk*>(p);
    notes_ = reinterpret_cast<instant_note*>(chunks_ + capacity_);
    count_ = 0;
    return cover();
  }

  // Takes in chunks that have come since. False: there are too many.
  bool cover() noexcept {
    const size_t n = g_task_table.chunk_count->load(std::memory_order_acquire);
    if (n > capacity_) return false;
    for (; count_ < n; ++count_) {
      const task* first = g_task_table.chunks[count_].load(std::memory_order_relaxed);
      noted_chunk* at = std::upper_bound(
          chunks_, chunks_ + count_, first,
          [](const task* p, const noted_chunk& c) noexcept { return p < c.first; });
      std::copy_backward(at, chunks_ + count_, chunks_ + count_ + 1);
      *at = {first, notes_ + count_ * g_task_table.chunk_records};
    }
    return true;
  }

  void drop() noexcept {
    if (chunks_ != nullptr) ::munmap(chunks_, bytes_);
    chunks_ = nullptr;
    count_ = 0;
  }

  instant_note* find(const task& t) const noexcept {
    const noted_chunk* after =
        std::upper_bound(chunks_, chunks_ + count_, &t,
                         [](const task* p, const noted_chunk& c) noexcept { return p < c.first; });
    if (after == chunks_) return nullptr;
    const auto index = static_cast<size_t>(&t - after[-1].first);
    return index < g_task_table.chunk_records ? after[-1].notes + index : nullptr;
  }

 private:
  noted_chunk* chunks_ = nullptr;
  instant_note* notes_ = nullptr;  // zero pages: a note costs memory when it is written
  size_t count_ = 0, capacity_ = 0, bytes_ = 0;
};

note_table g_notes;
instant_port g_port;
std::atomic<int> g_inside{0};
std::atomic<bool> g_open{false};  // not while the threads are still being stopped

// [N4]
class visit {
 public:
  visit() noexcept {
    g_inside.fetch_add(1, std::memory_order_seq_cst);
    open_ = (g_gate.load(std::memory_order_seq_cst) & gate_instant) != 0;
  }
  ~visit() { g_inside.fetch_sub(1, std::memory_order_release); }
  visit(const visit&) = delete;
  explicit operator bool() const noexcept { return open_; }

 private:
  bool open_;
};

// Null: there is nothing to show.
instant_note* wanted(const task& t) noexcept {
  if (t.foreign || t.system.load(std::memory_order_relaxed)) return nullptr;
  instant_note* n = g_notes.find(t);
  return n != nullptr && n->capture.load(std::memory_order_acquire) == nullptr ? n : nullptr;
}

void show_executing(thread& th, void* ucontext) noexcept {
  task* t = th.current.load(std::memory_order_relaxed);
  const visit inside;
  if (!inside || t == nullptr) return;
  if (instant_note* n = wanted(*t)) g_port.executing(th, *t, ucontext, *n);
}

bool stop_and_open(const task* me, int64_t patience_ns, int64_t& at_ns) noexcept {
  if (!stop_all_code(patience_ns, gate_instant)) return false;
  const bool covered = g_notes.cover();
  if (covered && me != nullptr)
    g_notes.find(*me)->capture.store(instant_settled, std::memory_order_relaxed);
  at_ns = base::now_ns();
  g_open.store(covered, std::memory_order_relaxed);
  resume_all_code(0, covered ? 0u : gate_instant);
  return covered;
}

}  // namespace

bool open_instant(const instant_port& port, int64_t patience_ns, int64_t& at_ns) noexcept {
  WEFT_CHECK((g_gate.load(std::memory_order_relaxed) & gate_instant) == 0);
  prepare_to_stop();
  g_port = port;
  if (!g_notes.prepare()) return false;
  watch_every_wake(true);
  thread* th = self_or_null();
  const task* me = th == nullptr ? nullptr : th->current.load(std::memory_order_relaxed);
  bool open;
  if (me == nullptr || th->rests.load(std::memory_order_relaxed)) {
    open = stop_and_open(me, patience_ns, at_ns);
  } else {
    // Who waits for all others to stop cannot stop itself.
    const resting rest(th);
    open = stop_and_open(me, patience_ns, at_ns);
  }
  if (!open) close_instant();
  return open;
}

void close_instant() noexcept {
  g_open.store(false, std::memory_order_relaxed);
  g_gate.fetch_and(~uint32_t{gate_instant}, std::memory_order_seq_cst);
  watch_every_wake(false);
  while (g_inside.load(std::memory_order_seq_cst) != 0) ::sched_yield();
  g_notes.drop();
}

instant_note* instant_note_of(const task& t) noexcept { return g_notes.find(t); }

void instant_stopped(thread& th, void* ucontext) noexcept { show_executing(th, ucontext); }

void instant_before_return(thread& th) noexcept { show_executing(th, nullptr); }

void instant_before_run(thread& th, task& t) noexcept {
  const visit inside;
  if (!inside) return;
  if (instant_note* n = wanted(t)) g_port.parked(th, t, *n);
}

void instant_transition(task& t, task_status from, wait_reason waited_for) noexcept {
  const visit inside;
  if (!inside || !g_open.load(std::memory_order_relaxed)) return;
  instant_note* n = g_notes.find(t);
  if (n == nullptr || n->capture.load(std::memory_order_relaxed) != nullptr) return;
  if (from == task_status::free) {
    n->capture.store(instant_settled, std::memory_order_relaxed);  // [N2]
    return;
  }
  n->since_ns.store(t.since_ns.load(std::memory_order_relaxed), std::memory_order_relaxed);
  n->waited_for.store(waited_for, std::memory_order_relaxed);
}

}  // namespace weft::sched
