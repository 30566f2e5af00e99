#pragma once
// What is known of a task at the moment of its capture, copied by whoever keeps it from running: a
// thread with a claim on it, or the thread that executes it, in a signal handler.
#include <cstddef>
#include <cstdint>

#include "profiler/stack_bounds.h"
#include "profiler/task_snapshot.h"
#include "profiler/unwind.h"
#include "scheduler/instant.h"
#include "scheduler/task.h"

namespace weft::prof {

inline constexpr size_t max_capture_depth = 1024;
inline constexpr size_t max_captured_name = 128;  // with its end

// `name` and `pcs` point to memory of whoever made the record: max_captured_name and `room` long.
struct raw_capture {
  uint64_t id;
  uint64_t parent_id;
  uintptr_t created_by;
  sched::task_status status;
  sched::wait_reason reason;
  bool locked_to_thread;
  bool foreign;
  bool truncated;
  bool leaf_is_exact;
  int64_t since_ns;
  const void* labels;  // retained; null once dropped
  task_stack stack;
  const void* waits_on;
  uintptr_t owner_page;          // of the lock it waits for (lock_owner.h), 0: of none
  uintptr_t stack_lo, stack_hi;  // of what it runs on; 0 before the first run
  char* name;
  uintptr_t* pcs;
  size_t room;
  size_t depth = 0;

  raw_capture(char* name_, uintptr_t* pcs_, size_t room_) noexcept
      : name(name_), pcs(pcs_), room(room_) {}
};

// With memory of its own.
struct capture_buffer : raw_capture {
  capture_buffer() noexcept : raw_capture(name_, pcs_, max_capture_depth) {}
  capture_buffer(const capture_buffer&) = delete;

 private:
  char name_[max_captured_name];
  uintptr_t pcs_[max_capture_depth];
};

// None of these allocates, locks or blocks; they are for signal handlers too.

// The part that needs no stack; `out` has none afterwards.
void copy_identity(raw_capture& out, const sched::task& t, uint32_t state_word) noexcept;
// Everything, of a task that does not execute: the caller has a claim on it, made when its state
// was `state_word`. `note`: of the open instant, or null.
void copy_claimed(raw_capture& out, sched::task& t, uint32_t state_word,
                  const sched::instant_note* note) noexcept;
// Everything, of the calling thread's task, seen from the interrupted `from` on, or from the
// caller's frame.
void copy_executing(raw_capture& out, const sched::thread& th, const sched::task& t,
                    const regs* from) noexcept;

void drop_captured_labels(raw_capture& raw) noexcept;

// Normal threads only. Takes over the labels. `now`: to which time a wait has lasted.
void fill_snapshot(task_snapshot& s, raw_capture& raw, int64_t now);

}  // namespace weft::prof
