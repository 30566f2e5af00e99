#include "scheduler/stack.h"

#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <new>

#include "base/check.h"
#include "base/spinlock.h"
#include "scheduler/caches.h"
#include "scheduler/stack_memory.h"

#if WEFT_ASAN
#include <sanitizer/asan_interface.h>
#endif
#if WEFT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace weft::sched {
namespace {

// Slots without a stack. They cannot be linked through their own memory, which is gone.
class cold_slots {
 public:
  bool push(const stack_slot& s) noexcept {
    if (top_ == nullptr || top_->count == chunk_slots) {
      void* p = ::mmap(nullptr, sizeof(chunk), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);
      if (p == MAP_FAILED) return false;
      chunk* c = static_cast<chunk*>(p);
      c->below = top_;
      top_ = c;
    }
    top_->slots[top_->count++] = s;
    ++size_;
    return true;
  }
  stack_slot pop() noexcept {
    stack_slot s = top_->slots[--top_->count];
    --size_;
    if (top_->count == 0) {
      chunk* below = top_->below;
      ::munmap(top_, sizeof(chunk));
      top_ = below;
    }
    return s;
  }
  size_t size() const noexcept { return size_; }

 private:
  static constexpr size_t chunk_slots = 2700;  // a little less than 64 KiB
  struct chunk {
    chunk* below;
    size_t count;
    stack_slot slots[chunk_slots];
  };
  chunk* top_ = nullptr;
  size_t size_ = 0;
};

constexpr size_t page = 4096;
constexpr size_t most_made_at_once = 16;

// Free stacks, newest first; the trimmer takes them from the other end.
struct stack_pool {
  base::spinlock lock;
  stack* head = nullptr;
  stack* tail = nullptr;
  size_t free = 0;
  size_t least_free = 0;  // since the trimmer's last look: so many at the tail were not used
  size_t unused = 0;      // of which so many are still to be made cold
  size_t cooling = 0;     // between the list and `cold`
  cold_slots cold;
  slot_source fresh;
  size_t created = 0;  // slots that have, or had, a stack
  size_t created_bytes = 0;
  size_t free_bytes = 0;  // address space of free, cooling and cold ones

  void push(stack* s) noexcept {
    s->prev = nullptr;
    push_chain(s, s, 1, size_of(s));
  }
  void push_chain(stack* first, stack* last, size_t count, size_t bytes) noexcept {
    last->next = head;
    (head != nullptr ? head->prev : tail) = last;
    head = first;
    free += count;
    free_bytes += bytes;
  }
  stack* pop_chain(int max, int& count) noexcept {
    stack* first = head;
    stack* last = nullptr;
    for (count = 0; count < max && head != nullptr; ++count) last = pop();
    if (last != nullptr) last->next = nullptr;
    return first;
  }
  stack* pop() noexcept {
    stack* s = head;
    head = s->next;
    (head != nullptr ? head->prev : tail) = nullptr;
    took(s);
    if (free < least_free) least_free = free;
    if (free < unused) unused = free;
    return s;
  }
  stack* pop_oldest() noexcept {
    stack* s = tail;
    tail = s->prev;
    (tail != nullptr ? tail->next : head) = nullptr;
    took(s);
    return s;
  }
  static size_t size_of(const stack* s) noexcept {
    return static_cast<size_t>(s->hi - s->base) + header_size;
  }
  static constexpr size_t header_size = (sizeof(stack) + 63) & ~size_t{63};

 private:
  void took(const stack* s) noexcept {
    --free;
    free_bytes -= size_of(s);
  }
};

stack_pool g_pools[stack_classes];
std::atomic<size_t> g_trimmed_bytes{0};

stack_pool& pool_of(stack_class cls) noexcept { return g_pools[static_cast<int>(cls)]; }

stack* construct(const stack_slot& slot, stack_class cls) noexcept {
  char* header = slot.base + slot.size - stack_pool::header_size;
  stack* s = new (header) stack{};
  s->base = slot.base;
  s->lo = slot.base + guard_size(cls);
  s->hi = header;
  s->magic = stack_magic;
  s->cls = cls;
  s->guard = slot.guard;
#if WEFT_TSAN
  s->tsan_fiber = __tsan_create_fiber(0);
#endif
  return s;
}

// Up to `max` slots without a stack: cold ones, or new ones. At least one, or the process ends.
// Called with the pool locked; mapping is rare enough for that. A guard costs a system call, and
// the first touch a page fault: both are the caller's, without the lock.
size_t take_slots(stack_pool& pool, stack_class cls, stack_slot* out, size_t max) noexcept {
  size_t n = 0;
  while (n < max && pool.cold.size() > 0) {
    out[n] = pool.cold.pop();
    pool.free_bytes -= out[n++].size;
  }
  while (n < max) {
    if (!take_fresh_slot(pool.fresh, cls, out[n])) break;
    ++pool.created;
    pool.created_bytes += out[n++].size;
  }
  if (n == 0) {
    base::fatalf(
        "cannot reserve %zu KiB for a task stack (errno %d, %zu of class %s exist): check "
        "RLIMIT_AS (ulimit -v), RLIMIT_DATA, RLIMIT_MEMLOCK (with mlockall), "
        "vm.overcommit_memory and vm.max_map_count",
        pool.fresh.slot_size / 1024, errno, pool.created, stack_class_name(cls));
  }
  return n;
}

// How many stacks to make at once: few in a program that has few, because each has memory.
size_t batch_to_make(const stack_pool& pool) noexcept {
  return std::min(pool.created / 64 + 1, most_made_at_once);
}

// A chain of stacks in the given slots.
stack* make_stacks(stack_slot* slots, size_t n, stack_class cls) noexcept {
  page_range tops[most_made_at_once];
  for (size_t i = 0; i < n; ++i) {
    guard_slot(slots[i], cls);
    char* end = slots[i].base + slots[i].size;
    tops[i] = {end - page, end};
  }
  if (n > 1) touch_pages(tops, n);
  stack* first = nullptr;
  for (size_t i = n; i-- > 0;) {
    stack* s = construct(slots[i], cls);
    s->next = first;
    first = s;
  }
  return first;
}

}  // namespace

const char* stack_class_name(stack_class cls) noexcept {
  static constexpr const char* names[stack_classes] = {"standard", "compact", "256 KiB", "1 MiB",
                                                       "8 MiB",    "256 MiB", "1 GiB"};
  return names[static_cast<int>(cls)];
}

stack* acquire_stack(stack_class cls) noexcept {
  int count = 0;
  return acquire_stacks(cls, 1, count);
}

stack* acquire_stacks(stack_class cls, int max, int& count) noexcept {
  stack_pool& pool = pool_of(cls);
  stack_slot slots[most_made_at_once];
  size_t n = 0;
  {
    std::lock_guard hold(pool.lock);
    if (pool.head != nullptr) return pool.pop_chain(max, count);
    n = take_slots(pool, cls, slots, std::min(static_cast<size_t>(max), batch_to_make(pool)));
  }
  count = static_cast<int>(n);
  return make_stacks(slots, n, cls);
}

void release_stack(stack* s) noexcept {
  stack_pool& pool = pool_of(s->cls);
  std::lock_guard hold(pool.lock);
  pool.push(s);
}

void note_task_ended([[maybe_unused]] stack* s, [[maybe_unused]] const void* sp) noexcept {
#if WEFT_ASAN
  // The next task's frames would meet the red zones of this one's.
  __asan_unpoison_memory_region(sp, static_cast<size_t>(s->hi - static_cast<const char*>(sp)));
#endif
#if WEFT_TSAN
  // Its record of the calls under way grows by a few entries per task and has room for 65536.
  if (++s->tsan_runs < 1000) return;
  s->tsan_runs = 0;
  __tsan_destroy_fiber(s->tsan_fiber);
  s->tsan_fiber = __tsan_create_fiber(0);
#endif
}

void release_stacks(stack* first) noexcept {
  if (first == nullptr) return;
  // The links are made before the lock is taken: every header is a page of its own.
  size_t count = 0;
  size_t bytes = 0;
  stack* last = nullptr;
  for (stack* s = first; s != nullptr; s = s->next) {
    s->prev = last;
    last = s;
    ++count;
    bytes += stack_pool::size_of(s);
  }
  stack_pool& pool = pool_of(first->cls);
  std::lock_guard hold(pool.lock);
  pool.push_chain(first, last, count, bytes);
}

void begin_cooling(stack_class cls) noexcept {
  stack_pool& pool = pool_of(cls);
  std::lock_guard hold(pool.lock);
  pool.unused = pool.least_free;
  pool.least_free = pool.free;
}

size_t cool_free_stacks(stack_class cls, size_t max, bool& more) noexcept {
  constexpr size_t batch = 64;
  stack_pool& pool = pool_of(cls);
  stack_slot slots[batch];
  size_t n = 0;
  stack* taken[batch];
  {
    std::lock_guard hold(pool.lock);
    while (n < batch && n < max && pool.unused > 0) {
      taken[n] = pool.pop_oldest();
      --pool.unused;
      if (pool.least_free > 0) --pool.least_free;
      ++n;
    }
    pool.cooling += n;
    more = pool.unused > 0;
  }
  if (n == 0) return 0;
  size_t bytes = 0;
  for (size_t i = 0; i < n; ++i) {
    stack* s = taken[i];
    size_t size = stack_pool::size_of(s);
    slots[i] = {s->base, size, s->guard};
    bytes += resident_below(s->lo, s->base + size);
#if WEFT_TSAN
    __tsan_destroy_fiber(s->tsan_fiber);
#endif
  }
  const bool dropped = drop_slots(slots, n);
  if (dropped) count_trimmed(bytes);
  std::lock_guard hold(pool.lock);
  pool.cooling -= n;
  for (size_t i = 0; i < n; ++i) {
    if (dropped && pool.cold.push(slots[i])) {
      pool.free_bytes += slots[i].size;
    } else {
      // Only a dropped slot has lost its guard, and its place in the count of guards.
      if (dropped) guard_slot(slots[i], cls);
      pool.push(construct(slots[i], cls));
    }
  }
  return n;
}

void check_unguarded(const stack* s, const void* sp) noexcept {
  if (s == nullptr || s->guard != guard_kind::none) return;
  const char* at = static_cast<const char*>(sp);
  if (at >= s->lo && at < s->hi && s->magic == stack_magic) return;
  base::fatalf("stack overflow: a task of stack class %s (%zu bytes, no guard page) %s",
               stack_class_name(s->cls), static_cast<size_t>(s->hi - s->lo),
               s->magic == stack_magic ? "has left its stack"
                                       : "was overwritten by the one whose stack lies above");
}

void count_trimmed(size_t bytes) noexcept {
  g_trimmed_bytes.fetch_add(bytes, std::memory_order_relaxed);
}

stack_stats stack_statistics() noexcept {
  stack_stats s{};
  for (int c = 0; c < stack_classes; ++c) {
    stack_pool& pool = g_pools[c];
    std::lock_guard hold(pool.lock);
    size_t cached = cached_stacks(static_cast<stack_class>(c));
    size_t unused = pool.free + pool.cooling + cached;
    s.in_use += pool.created - pool.cold.size() - unused;
    s.free += unused;
    s.cold += pool.cold.size();
    s.reserved_bytes += pool.fresh.mapped;
    size_t slot = pool.fresh.slot_size;
    s.in_use_bytes += pool.created_bytes - pool.free_bytes - (pool.cooling + cached) * slot;
  }
  s.trimmed_bytes = g_trimmed_bytes.load(std::memory_order_relaxed);
  s.fallbacks = stack_fallbacks();
  count_guards(s);
  return s;
}

}  // namespace weft::sched
