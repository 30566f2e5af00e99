#pragma once
// Where a task that was woken goes on: usually on the processor of who has woken it.
namespace weft::sched {

// From now on wherever some thread finds it in the global queue. For tests of what must not depend
// on the thread.
void let_tasks_wander() noexcept;

}  // namespace weft::sched
