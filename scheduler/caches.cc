#include "scheduler/caches.h"

#include <new>

namespace weft::sched {
namespace {

constexpr int task_cache_batch = 32;
constexpr int task_cache_max = 128;
constexpr int stack_cache_max = 64;
constexpr int body_cache_max = 64;
constexpr uint64_t id_batch = 16;

int cached(const processor* p, stack_class cls) noexcept {
  return p->free_stack_count[static_cast<int>(cls)].load(std::memory_order_relaxed);
}
void set_cached(processor* p, stack_class cls, int n) noexcept {
  p->free_stack_count[static_cast<int>(cls)].store(n, std::memory_order_relaxed);
}

void link_free_task(processor* p, task* t) noexcept {
  t->next = p->free_tasks;
  p->free_tasks = t;
  ++p->free_task_count;
}

uint64_t next_task_id(processor* p) noexcept {
  if (p->next_id == p->last_id) {
    p->next_id = g_sched.next_task_id.fetch_add(id_batch, std::memory_order_relaxed);
    p->last_id = p->next_id + id_batch;
  }
  return p->next_id++;
}

void add(std::atomic<int64_t>& owned, int64_t n) noexcept {
  owned.store(owned.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

}  // namespace

task* take_task(processor* p) noexcept {
  task* t;
  if (p != nullptr) {
    if (p->free_tasks == nullptr) {
      p->free_tasks = allocate_tasks(task_cache_batch, p->free_task_count);
      if (p->free_tasks == nullptr) return nullptr;
    }
    t = p->free_tasks;
    p->free_tasks = t->next;
    --p->free_task_count;
    t->id = next_task_id(p);
    add(p->created, 1);
  } else {
    int count = 0;
    t = allocate_tasks(1, count);
    if (t == nullptr) return nullptr;
    t->id = g_sched.next_task_id.fetch_add(1, std::memory_order_relaxed);
    g_sched.foreign_created.fetch_add(1, std::memory_order_relaxed);
  }
  t->next = nullptr;
  return t;
}

void take_back_task(processor* p, task* t) noexcept {
  if (p != nullptr) {
    add(p->created, -1);
    link_free_task(p, t);
  } else {
    g_sched.foreign_created.fetch_sub(1, std::memory_order_relaxed);
    t->next = nullptr;
    free_tasks(t);
  }
}

void put_task(processor* p, task* t) noexcept {
  add(p->finished, 1);
  link_free_task(p, t);
  if (p->free_task_count < task_cache_max) return;
  task* keep = p->free_tasks;
  for (int i = 1; i < task_cache_max / 2; ++i) keep = keep->next;
  p->free_task_count = task_cache_max / 2;
  free_tasks(std::exchange(keep->next, nullptr));
}

stack* take_stack(processor* p, stack_class cls) noexcept {
  auto c = static_cast<int>(cls);
  stack* s = p->free_stacks[c];
  if (s == nullptr) {
    int count = 0;
    s = acquire_stacks(cls, stack_cache_max / 2, count);
    set_cached(p, cls, count);
  }
  p->free_stacks[c] = s->next;
  set_cached(p, cls, cached(p, cls) - 1);
  return s;
}

void put_stack(processor* p, stack* s) noexcept {
  // The stacks at the bottom of a busy processor's cache would never be trimmed.
  if (uint32_t now = g_stack_epoch.load(std::memory_order_relaxed); now != p->stack_epoch) {
    p->stack_epoch = now;
    release_cached_stacks(p);
  }
  auto c = static_cast<int>(s->cls);
  int count = cached(p, s->cls);
  if (count >= stack_cache_max) {
    // The older half goes back at once.
    stack* keep = p->free_stacks[c];
    for (int i = 1; i < stack_cache_max / 2; ++i) keep = keep->next;
    release_stacks(std::exchange(keep->next, nullptr));
    count = stack_cache_max / 2;
  }
  s->next = p->free_stacks[c];
  p->free_stacks[c] = s;
  set_cached(p, s->cls, count + 1);
}

size_t cached_stacks(stack_class cls) noexcept {
  int n = 0;
  for (const std::atomic<processor*>& slot : g_sched.processors) {
    const processor* p = slot.load(std::memory_order_acquire);
    if (p == nullptr) break;
    n += cached(p, cls);
  }
  return static_cast<size_t>(n);
}

void release_cached_stacks(processor* p) noexcept {
  for (int c = 0; c < stack_classes; ++c) {
    release_stacks(std::exchange(p->free_stacks[c], nullptr));
    set_cached(p, static_cast<stack_class>(c), 0);
  }
}

void* take_body_block(processor* p, const detail::body_ops& ops) noexcept {
  if (!fits_in_room(ops))
    return ::operator new (ops.size, std::align_val_t{ops.align}, std::nothrow);
  if (p == nullptr || p->free_bodies == nullptr)
    return ::operator new(first_run_room, std::nothrow);
  --p->free_body_count;
  return std::exchange(p->free_bodies, p->free_bodies->next);
}

void put_body_block(processor* p, void* block) noexcept {
  if (p == nullptr || p->free_body_count == body_cache_max) {
    ::operator delete(block);
    return;
  }
  ++p->free_body_count;
  p->free_bodies = new (block) body_block{p->free_bodies};
}

}  // namespace weft::sched
