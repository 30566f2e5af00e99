// From the call that spawns a task to the end of its closure.
//
// A closure waits for the first run in the task's record, or in a block of memory when it is large
// (task.h), and is then moved to the task's own stack. Spawning takes all memory before it changes
// anything: either there is a task, or the caller gets std::bad_alloc and nothing has happened.
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "base/check.h"
#include "scheduler/caches.h"
#include "scheduler/park.h"
#include "scheduler/queues.h"
#include "scheduler/scheduler.h"
#include "scheduler/spawning.h"
#include "scheduler/wait_watch.h"

namespace weft::sched {

task_hooks g_task_hooks;

namespace {

// The task's record is complete: from here on others may see it.
void publish(task* t) noexcept {
  change_state(*t, task_status::free, task_status::runnable);
  base::emit(base::event_kind::task_create, t->id, t->created_by);
}

// For who could not make use of it: the closure was not moved in.
void free_body_memory(processor* p, const detail::body_ops& ops, void* block) noexcept {
  if (block == nullptr) return;
  if (fits_in_room(ops))
    put_body_block(p, block);
  else
    ::operator delete (block, std::align_val_t{ops.align});
}

// The closure that the calling thread moves into a block of memory, inside the critical section of
// a spawn, where nothing switches: nobody knows yet that the block is a task's.
WEFT_OPAQUE memory_range& being_made() noexcept {
  static constinit thread_local memory_range here{nullptr, nullptr};
  return here;
}

void move_in(const detail::body_ops& ops, void* callable, void* storage) noexcept {
  if (fits_in_record(ops)) {
    ops.move_to(callable, storage);
    return;
  }
  being_made() = {storage, static_cast<std::byte*>(storage) + ops.size};
  ops.move_to(callable, storage);
  being_made() = {nullptr, nullptr};
}

// Null: no memory, and nothing has changed.
task* new_task(processor* p, const detail::body_ops& ops, void* callable,
               const detail::spawn_params& params, uintptr_t created_by) noexcept {
  task* t = take_task(p);
  if (t == nullptr) return nullptr;
  void* storage = fits_in_record(ops) ? t->inline_body : take_body_block(p, ops);
  char* name = params.name != nullptr ? ::strdup(params.name) : nullptr;
  if (storage == nullptr || (params.name != nullptr && name == nullptr)) [[unlikely]] {
    if (storage != t->inline_body) free_body_memory(p, ops, storage);
    std::free(name);
    take_back_task(p, t);
    return nullptr;
  }
  t->cls = static_cast<stack_class>(params.stack_class);
  t->foreign = false;
  t->system.store(params.system, std::memory_order_relaxed);
  t->locked_to_thread = false;
  t->created_by = created_by;
  t->body = &ops;
  if (!fits_in_record(ops)) t->heap_body = storage;
  move_in(ops, callable, storage);
  t->name = name;
  if (params.system) g_sched.system_tasks.fetch_add(1, std::memory_order_relaxed);
  return t;
}

// Moves the closure to `room` on the task's own stack if it fits there, and completes the record.
// Returns where the closure is. Its move, or the destructor of what is left behind, may have
// entered the runtime, so the processor is not the caller's any more.
void* enter_body(task* me, std::byte* room) noexcept {
  const detail::body_ops& ops = *me->body;
  void* at = room;
  if (fits_in_record(ops)) {
    ops.move_to(me->inline_body, room);
    ops.destroy(me->inline_body);  // what cannot be moved was copied
  } else if (fits_in_room(ops)) {
    void* block = me->heap_body;
    ops.move_to(block, room);
    ops.destroy(block);
    put_body_block(enter()->p.load(std::memory_order_relaxed), block);
  } else {
    at = me->heap_body;
  }
  me->waits_on = nullptr;
  me->own_thread = nullptr;
  me->locals = nullptr;
  me->stk->body = at;
  return at;
}

void release_body(task* t, void* room) noexcept {
  void* at = std::exchange(t->stk->body, nullptr);
  if (at != room) ::operator delete (at, std::align_val_t{t->body->align});
  t->body = nullptr;
  if (t->name != nullptr) {
    std::free(t->name);
    t->name = nullptr;
  }
}

task* make_starter(void (*start)(void*), void* arg, const detail::spawn_params& params,
                   uintptr_t created_by) noexcept {
  struct starter {
    void (*start)(void*);
    void* arg;
    void operator()() const { start(arg); }
  } body{start, arg};
  task* t = new_task(self()->p.load(std::memory_order_relaxed), detail::body_ops_for<starter>,
                     &body, params, created_by);
  if (t == nullptr) base::fatal("out of memory for task records");
  t->parent_id = 0;
  publish(t);
  return t;
}

void queue_started(task* t) noexcept {
  processor* p = self()->p.load(std::memory_order_relaxed);
  if (p != nullptr)
    local_push(p, t, false);
  else
    global_push(t);
  if (p == nullptr || !p->ring.empty()) wake_one();
}

}  // namespace

memory_range closure_being_made() noexcept { return being_made(); }

task* make_starter_task(void (*start)(void*), void* arg, uintptr_t created_by) noexcept {
  return make_starter(start, arg, {}, created_by);
}

void start_task(void (*start)(void*), void* arg, uintptr_t created_by) noexcept {
  queue_started(make_starter(start, arg, {}, created_by));
}

void start_system_task(void (*start)(void*), void* arg, const char* name) noexcept {
  detail::spawn_params params;
  params.system = true;
  params.name = name;
  queue_started(make_starter(start, arg, params, 0));
}

}  // namespace weft::sched

// The first frame of every task.
extern "C" void weft_task_main() {
  using namespace weft::sched;
  alignas(16) std::byte room[first_run_room];
  {
    thread* th = self();
    task* me = th->current.load(std::memory_order_relaxed);
    context_started(th, me->ctx);
    finish_switch(th);
    back_from_first_queue(*me);
    void* body = enter_body(me, room);
    leave();
    me->body->invoke(body);
    // In this order: the values of a dying context may make task-locals.
    if (me->run_context != nullptr && g_task_hooks.leaving != nullptr) g_task_hooks.leaving();
    if (me->locals != nullptr) me->locals->destroy_all(*me);
  }
  thread* th = enter();
  task* me = th->current.load(std::memory_order_relaxed);
  release_body(me, room);
  if (g_task_hooks.ended != nullptr) g_task_hooks.ended(*me);
  leave_for_ever(th, me);
}

namespace weft::detail {

[[gnu::noinline]] void spawn_task(const body_ops& ops, void* callable, const spawn_params& params) {
  using namespace weft::sched;
  auto created_by = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  thread* th = enter();
  processor* p = th->p.load(std::memory_order_relaxed);
  task* parent = th->current.load(std::memory_order_relaxed);
  task* t = new_task(p, ops, callable, params, created_by);
  if (t == nullptr) [[unlikely]] {
    leave(th);
    throw std::bad_alloc();
  }
  if (params.main && g_sched.main_id_free.exchange(false, std::memory_order_relaxed)) t->id = 1;
  t->parent_id = th->foreign || params.main ? 0 : parent->id;
  if (params.main) t->created_by = 0;
  if (g_task_hooks.created != nullptr) g_task_hooks.created(*parent, *t);
  if (p == nullptr) base::now_refresh();  // nobody may have looked at the clock for hours
  publish(t);
  if (p != nullptr) {
    local_push(p, t, true);
    if (!p->ring.empty() && !alone()) wake_one();
  } else {
    global_push(t);
    wake_one();
  }
  leave(th);
}

}  // namespace weft::detail
