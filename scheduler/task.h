#pragma once
// The task record: everything the runtime knows of one green thread.
//
// Records live in chunks that are never given back, so a task pointer may be followed at any time;
// the state word says whether the record is in use. That is what lets a dump walk all tasks without
// a lock.
#include <weft/detail/spawn.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "base/clock.h"
#include "base/events.h"
#include "base/spinlock.h"
#include "scheduler/context.h"
#include "scheduler/stack.h"
#include "scheduler/task_state.h"
#include "scheduler/wait_watch.h"

namespace weft::sched {

struct thread;
struct task;

// What the runtime layer keeps for task_local, as far as the scheduler must know it.
struct task_locals {
  // Called on the task itself after its function has returned, outside critical sections: it may
  // wait. Frees the object and clears the task's pointer to it.
  void (*destroy_all)(task& t) noexcept = nullptr;
};

// A closure of up to this size and an alignment of 16 lies in the record until the first run. A
// larger one gets a block of memory, and returns it at the first run if it fits there: bodies of up
// to first_run_room bytes are then moved to the task's own stack. So a task that waits costs 128
// bytes besides its stack (docs/decisions/006).
inline constexpr size_t inline_body_size = 32;
inline constexpr size_t first_run_room = 64;

// Two cache lines, and switching, parking and readying touch the first only.
struct alignas(64) task {
  // status | wait_reason << 8 | claim bit. Written by change_state() and the claim functions only.
  std::atomic<uint32_t> state{0};
  stack_class cls = stack_class::standard;
  bool foreign = false;  // stands for an OS thread that is not a worker
  // The runtime's own; not counted as a user's task. Atomic, because a capture looks at it before
  // it has a claim, while the record may be changing hands.
  std::atomic<bool> system{false};
  bool locked_to_thread = false;
  task* next = nullptr;  // link of the queue that holds the task
  // When the last change of state was, by the coarse clock, or the true one where wait_watch.h asks
  // for it. Of a task that runs: when it became runnable.
  std::atomic<int64_t> since_ns{0};
  context ctx;
  stack* stk = nullptr;  // null until the first run
  uint64_t id = 0;

  // What only a task that has run can have shares its place with the closure of one that has not:
  // the first run moves the closure out and clears these (enter_body). Whoever else reads them must
  // know that the task has run: by `foreign`, `locked_to_thread`, or a claim on a waiting task.
  __extension__ union {
    __extension__ struct {
      const void* waits_on;  // address of the lock or channel, for dumps
      // Foreign tasks: the thread it stands for. Locked tasks: the thread it is locked to.
      thread* own_thread;
      task_locals* locals;  // touched by the task itself only
    };
    void* heap_body;  // a closure that is too large for here
    alignas(16) std::byte inline_body[inline_body_size] = {};
  };

  const detail::body_ops* body = nullptr;  // null once the closure has ended
  uint64_t parent_id = 0;
  uintptr_t created_by = 0;                  // return address of the spawn call
  char* name = nullptr;                      // owned; null when unnamed
  std::atomic<const void*> labels{nullptr};  // owned by the runtime layer (labels.h)
  void* run_context = nullptr;  // owned by the runtime layer (context_node.h); null: background
};
#if !WEFT_ASAN && !WEFT_TSAN
static_assert(sizeof(void*) != 8 || sizeof(task) == 128);
#endif

// t.stk while t executes: its own thread sets and clears it there. For who has no claim on t.
inline const stack* stack_while_executing(const task& t) noexcept {
  // [ord task.stk] acquire: the stack's header was written before
  return std::atomic_ref(const_cast<stack*&>(t.stk)).load(std::memory_order_acquire);
}

inline bool fits_in_record(const detail::body_ops& ops) noexcept {
  return ops.size <= inline_body_size && ops.align <= 16;
}

// Where the closure is; null while it is on its way to the stack, and once it has ended. For the
// task itself and for who holds a claim.
inline void* body_of(task& t) noexcept {
  if (t.body == nullptr) return nullptr;
  if (t.stk != nullptr) return t.stk->body;
  return fits_in_record(*t.body) ? t.inline_body : t.heap_body;
}

inline constexpr uint32_t claim_bit = 1u << 16;

inline task_status status_of(uint32_t word) noexcept {
  return static_cast<task_status>(word & 0xff);
}
inline wait_reason reason_of(uint32_t word) noexcept {
  return static_cast<wait_reason>((word >> 8) & 0xff);
}
inline constexpr uint32_t state_word(task_status s, wait_reason r) noexcept {
  return static_cast<uint32_t>(s) | static_cast<uint32_t>(r) << 8;
}

// The one door: the only function that changes a task's status.
//
// The caller owns the task by the rules of task_state.h, so from -> to cannot race with another
// change; only the claim bit is shared, with whoever inspects a task that is not executing:
//   - out of `running`, `blocking` and `free`, where no claim can be taken, a store is enough;
//   - waiting -> runnable keeps a claim, because the task does not execute yet: one fetch_add;
//   - into `running` out of a claimable state, the door waits until the claim is released
//   (microseconds).
void wait_for_claim(task& t, uint32_t from_word, uint32_t to_word) noexcept;

inline void change_state(task& t, task_status from, task_status to,
                         wait_reason reason = wait_reason::none) noexcept {
  WEFT_DCHECK(legal(from, to));
  const uint32_t to_word = state_word(to, reason);
  // [ord task.state] release: whoever acquires the word sees the saved context and the wait's
  // details.
  switch (from) {
    case task_status::free:
      WEFT_CHECK(status_of(t.state.load(std::memory_order_relaxed)) == from);
      t.since_ns.store(ready_stamp_ns(t, from, wait_reason::none), std::memory_order_relaxed);
      t.state.store(to_word, std::memory_order_release);
      break;
    case task_status::running:
    case task_status::blocking: {
      WEFT_CHECK(status_of(t.state.load(std::memory_order_relaxed)) == from);
      t.since_ns.store(base::coarse_ns(), std::memory_order_relaxed);
      t.state.store(to_word, std::memory_order_release);
      break;
    }
    case task_status::waiting: {
      uint32_t old = t.state.load(std::memory_order_relaxed) & ~claim_bit;
      WEFT_CHECK(status_of(old) == from);
      t.since_ns.store(ready_stamp_ns(t, from, reason_of(old)), std::memory_order_relaxed);
      if (to == task_status::running)
        wait_for_claim(t, old, to_word);
      else
        t.state.fetch_add(to_word - old, std::memory_order_acq_rel);
      break;
    }
    case task_status::runnable: {
      uint32_t expected = state_word(task_status::runnable, wait_reason::none);
      uint32_t want = expected;
      if (!t.state.compare_exchange_strong(want, to_word, std::memory_order_acq_rel,
                                           std::memory_order_relaxed)) [[unlikely]]
        wait_for_claim(t, expected, to_word);
      break;
    }
  }
  base::emit(base::event_kind::task_state, t.id,
             uint64_t{static_cast<uint8_t>(from)} << 16 | uint64_t{static_cast<uint8_t>(to)} << 8 |
                 static_cast<uint8_t>(reason));
}

// Tries to keep a task from starting to execute, so that its saved context may be read. Succeeds
// only for a task that is runnable or waiting; every success needs an unclaim. Hold it for
// microseconds.
bool claim(task& t, uint32_t& word_when_claimed) noexcept;
void unclaim(task& t) noexcept;

// Records. allocate returns a chain of up to `max`, linked by `next`, with status free; the caller
// fills and publishes them. Null, with count unchanged: no memory.
task* allocate_tasks(int max, int& count) noexcept;
void free_tasks(task* first) noexcept;

// Calls f(task&) for every record ever made, in creation order, free ones too. Lock-free.
size_t task_record_count() noexcept;
task& task_record(size_t index) noexcept;

// Where the records are, for debuggers.
struct task_table {
  const std::atomic<task*>* chunks;
  const std::atomic<size_t>* chunk_count;
  size_t chunk_records;
};
extern const task_table g_task_table;

}  // namespace weft::sched
