#pragma once
// What each processor keeps at hand: task records, stacks, blocks for closures. Whoever takes or
// puts one holds the processor and is inside a critical section. Where a null processor is allowed
// it stands for a thread without one: what is asked for comes from, and goes to, what all share.
#include <cstddef>
#include <utility>

#include "scheduler/scheduler.h"
#include "scheduler/stack.h"
#include "scheduler/task.h"

namespace weft::sched {

// A record with an id, counted as created. Null: no memory. `p` may be null.
task* take_task(processor* p) noexcept;
// A record that was taken and not used after all: as if it had not been taken, but for the id. `p`
// may be null.
void take_back_task(processor* p, task* t) noexcept;
// The record of a task that ended; its state is `free`.
void put_task(processor* p, task* t) noexcept;

stack* take_stack(processor* p, stack_class cls) noexcept;
void put_stack(processor* p, stack* s) noexcept;

// Memory for a closure that does not fit in the record. Processors keep some blocks of the common
// size; the rest goes back at once, because a block is needed only until the first run, and there
// may be a million tasks that wait for theirs. Null: no memory. `p` may be null.
void* take_body_block(processor* p, const detail::body_ops& ops) noexcept;
// Only for blocks of closures that fit in a task's first_run_room.
void put_body_block(processor* p, void* block) noexcept;

inline bool fits_in_room(const detail::body_ops& ops) noexcept {
  return ops.size <= first_run_room && ops.align <= 16;
}

// Free stacks that processors keep; and sending those of idle processors back to the pool.
size_t cached_stacks(stack_class cls) noexcept;
void release_cached_stacks(processor* p) noexcept;  // p's owner, or p is idle and the lock held

}  // namespace weft::sched
