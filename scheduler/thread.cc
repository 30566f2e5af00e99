#include "scheduler/thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <mutex>

#include "base/check.h"
#include "base/clock.h"
#include "base/events.h"
#include "base/spinlock.h"
#include "scheduler/deadlock.h"
#include "scheduler/park.h"
#include "scheduler/scheduler.h"
#include "scheduler/world_stop.h"

#if WEFT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace weft::sched {

thread g_unattached("unattached", -1);

namespace {

[[gnu::tls_model("initial-exec")]] thread_local thread* t_self = nullptr;

base::spinlock g_registry_lock;
thread* g_threads = nullptr;
thread* g_spare_records = nullptr;
std::atomic<int> g_thread_count{0};
std::atomic<uint64_t> g_threads_created{0};

constexpr size_t alt_stack_size = size_t{64} << 10;

// Ends the attachment of a foreign thread when the OS thread ends.
struct foreign_guard {
  thread* th = nullptr;
  ~foreign_guard() {
    if (th == nullptr) return;
    task* t = th->own_task;
    if (t->run_context != nullptr && g_task_hooks.leaving != nullptr) g_task_hooks.leaving();
    // Name, labels and locals must not pass to the record's next user.
    if (t->locals != nullptr) t->locals->destroy_all(*t);
    enter();
    set_task_name(*t, nullptr);
    if (g_task_hooks.ended != nullptr) g_task_hooks.ended(*t);
    leave();
    change_state(*t, task_status::running, task_status::free);
    th->current.store(nullptr, std::memory_order_release);  // [ord world.stopped]
    unregister_thread(th);
    t->next = nullptr;
    free_tasks(t);
    recycle_thread_record(th);
    // Awake, it may have been what a look for a deadlock took hope from, and nobody else will ask
    // for the next look.
    if (g_sched.running_procs.load(std::memory_order_seq_cst) == 0) wake_monitor();
  }
};
thread_local foreign_guard t_foreign_guard;

void find_own_stack(thread* th) noexcept {
  pthread_attr_t attr;
  if (::pthread_getattr_np(::pthread_self(), &attr) != 0) return;
  void* lo = nullptr;
  size_t size = 0;
  ::pthread_attr_getstack(&attr, &lo, &size);
  ::pthread_attr_destroy(&attr);
  th->stack_lo = reinterpret_cast<uintptr_t>(lo);
  th->stack_hi = th->stack_lo + size;
#if WEFT_ASAN
  th->sched_ctx.asan_bottom = lo;
  th->sched_ctx.asan_size = size;
#endif
}

// Handlers must not run on task stacks: a signal frame with AVX-512 state is 3 KB of dirty stack.
void install_alt_stack(thread* th) noexcept {
  stack_t current{};
  if (::sigaltstack(nullptr, &current) == 0 && (current.ss_flags & SS_DISABLE) == 0) return;
  void* p = ::mmap(nullptr, alt_stack_size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (p == MAP_FAILED) base::fatal("cannot map a signal stack: out of memory or vm.max_map_count");
  stack_t alt{};
  alt.ss_sp = p;
  alt.ss_size = alt_stack_size;
  ::sigaltstack(&alt, nullptr);
  th->alt_stack = p;
}

void remove_alt_stack(thread* th) noexcept {
  if (th->alt_stack == nullptr) return;
  stack_t off{};
  off.ss_flags = SS_DISABLE;
  ::sigaltstack(&off, nullptr);
  ::munmap(th->alt_stack, alt_stack_size);
  th->alt_stack = nullptr;
}

}  // namespace

WEFT_OPAQUE thread* self() noexcept {
  asm volatile("");
  thread* t = t_self;
  return t != nullptr ? t : &g_unattached;
}

WEFT_OPAQUE thread* self_or_null() noexcept {
  asm volatile("");
  return t_self;
}

thread* make_thread_record() noexcept {
  thread* th = nullptr;
  {
    std::lock_guard hold(g_registry_lock);
    th = g_spare_records;
    if (th != nullptr) g_spare_records = th->idle_next;
  }
  if (th == nullptr) return new thread;
  th->crit.store(0, std::memory_order_relaxed);
  th->steal.store(0, std::memory_order_relaxed);
  th->current.store(nullptr, std::memory_order_relaxed);
  th->spinning = false;
  th->declared_blocking.store(false, std::memory_order_relaxed);
  th->blocked_cpu_ns.store(-1, std::memory_order_relaxed);
  th->rests.store(false, std::memory_order_relaxed);
  th->stop_pending.store(false, std::memory_order_relaxed);
  th->asleep.store(false, std::memory_order_relaxed);
  th->ending.store(false, std::memory_order_relaxed);
  th->service.store(false, std::memory_order_relaxed);
  th->locked_task = nullptr;
  th->lock_depth = 0;
  th->picked = nullptr;
  th->last_p = nullptr;
  th->own_task = nullptr;
  th->park_word.store(0, std::memory_order_relaxed);
  th->foreign = false;
  th->role = "worker";
  return th;
}

void recycle_thread_record(thread* th) noexcept {
  std::lock_guard hold(g_registry_lock);
  th->idle_next = g_spare_records;
  g_spare_records = th;
}

void register_thread(thread* th) noexcept {
  th->tid = ::gettid();
  th->globals = current_thread_globals();
  find_own_stack(th);
  install_alt_stack(th);
  th->rng = static_cast<uint32_t>(th->tid) * 2654435761u | 1u;
#if WEFT_TSAN
  th->sched_ctx.tsan_fiber = __tsan_get_current_fiber();
#endif
  t_self = th;
  {
    std::lock_guard hold(g_registry_lock);
    th->all_next = g_threads;
    g_threads = th;
  }
  g_thread_count.fetch_add(1, std::memory_order_relaxed);
  g_threads_created.fetch_add(1, std::memory_order_relaxed);
  base::emit(base::event_kind::thread_start, reinterpret_cast<uintptr_t>(th),
             static_cast<uint64_t>(th->tid));
}

void unregister_thread(thread* th) noexcept {
  base::emit(base::event_kind::thread_stop, reinterpret_cast<uintptr_t>(th),
             static_cast<uint64_t>(th->tid));
  {
    std::lock_guard hold(g_registry_lock);
    for (thread** link = &g_threads; *link != nullptr; link = &(*link)->all_next) {
      if (*link == th) {
        *link = th->all_next;
        break;
      }
    }
  }
  g_thread_count.fetch_sub(1, std::memory_order_relaxed);
  t_self = nullptr;
  remove_alt_stack(th);
}

void attach_foreign(const char* role) noexcept {
  if (t_self != nullptr) return;
  thread* th = make_thread_record();
  th->foreign = true;
  th->role = role;
  th->asleep.store(false, std::memory_order_relaxed);
  th->service.store(is_service_thread(), std::memory_order_relaxed);
  int count = 0;
  task* t = allocate_tasks(1, count);
  if (t == nullptr) base::fatal("out of memory for task records");
  t->foreign = true;
  t->system.store(true, std::memory_order_relaxed);
  t->own_thread = th;
  t->locked_to_thread = false;
  t->waits_on = nullptr;
  t->id = g_sched.next_task_id.fetch_add(1, std::memory_order_relaxed);
  t->parent_id = 0;
  t->created_by = 0;
  t->stk = nullptr;
  t->body = nullptr;
  change_state(*t, task_status::free, task_status::running);
  th->own_task = t;
  th->current.store(t, std::memory_order_relaxed);
  register_thread(th);
  t_foreign_guard.th = th;
  if ((g_gate.load(std::memory_order_seq_cst) & gate_stop) != 0) stop_here(th);
}

void for_each_thread(void (*f)(thread*, void*), void* arg) noexcept {
  std::lock_guard hold(g_registry_lock);
  for (thread* th = g_threads; th != nullptr; th = th->all_next) f(th, arg);
}

thread* const* const g_thread_list = &g_threads;

int thread_count() noexcept { return g_thread_count.load(std::memory_order_relaxed); }
uint64_t threads_created() noexcept { return g_threads_created.load(std::memory_order_relaxed); }

}  // namespace weft::sched
