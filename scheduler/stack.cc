#include "scheduler/stack.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <mutex>
#include <new>

#include "base/check.h"
#include "base/spinlock.h"

#if WEFT_ASAN
#include <sanitizer/asan_interface.h>
#endif
#if WEFT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

namespace weft::sched {
namespace {

constexpr size_t page = 4096;

// Sanitizers shadow the whole address space and fatten every frame: one size that fits both.
constexpr bool sanitized = WEFT_ASAN || WEFT_TSAN;

struct class_traits {
  size_t reserve;
  size_t guard;
  size_t first_slab;  // stacks in the first slab; each further slab doubles up to max_slab
  size_t max_slab;
};

constexpr class_traits traits[stack_classes] = {
    // A 64 KiB guard is one that frames below 64 KiB cannot jump over even without stack probes.
    {sanitized ? size_t{1} << 20 : size_t{64} << 20, size_t{64} << 10, 64, 16384},
    {sanitized ? size_t{256} << 10 : size_t{64} << 10, page, 256, 65536},
};

struct stack_pool {
  base::spinlock lock;
  stack* free = nullptr;
  size_t free_count = 0;
  char* carve = nullptr;  // next never-used stack of the newest slab
  size_t carve_left = 0;
  size_t next_slab = 0;
  size_t reserved = 0;
  size_t created = 0;
};

stack_pool g_pools[stack_classes];
std::atomic<size_t> g_mprotect_guards{0};

bool probe_guard_install() noexcept {
  void* p = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return false;
  bool ok = ::madvise(p, page, MADV_GUARD_INSTALL) == 0;
  ::munmap(p, page);
  return ok;
}

bool have_guard_install() noexcept {
  static const bool have = probe_guard_install();
  return have;
}

// Half of the mappings that the process may have; each mprotect guard costs two.
size_t mprotect_budget() noexcept {
  static const size_t budget = [] {
    size_t maps = 65530;
    if (FILE* f = std::fopen("/proc/sys/vm/max_map_count", "re")) {
      if (std::fscanf(f, "%zu", &maps) != 1) maps = 65530;
      std::fclose(f);
    }
    return maps / 4;
  }();
  return budget;
}

void install_guard(char* at, size_t size) noexcept {
  if (have_guard_install() && ::madvise(at, size, MADV_GUARD_INSTALL) == 0) return;
  if (g_mprotect_guards.fetch_add(1, std::memory_order_relaxed) < mprotect_budget() &&
      ::mprotect(at, size, PROT_NONE) == 0)
    return;
  static std::once_flag once;
  std::call_once(once, [] {
    base::log_line(
        "stacks beyond the first %zu have no guard page: this kernel lacks MADV_GUARD_INSTALL "
        "(6.13) and vm.max_map_count limits mprotect guards",
        mprotect_budget());
  });
}

// Called with the pool locked; mapping is rare enough for that.
bool new_slab(stack_pool& pool, const class_traits& t) noexcept {
  size_t count = pool.next_slab != 0 ? pool.next_slab : t.first_slab;
  for (;; count /= 2) {
    // 1 MiB of slack: the first stack starts half a page-table page off, so that a guard and the
    // top page of the stack below it, which are neighbours, share one page-table page.
    constexpr size_t skew = size_t{1} << 20;
    size_t size = count * t.reserve + 2 * skew;
    void* p = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (p == MAP_FAILED) {
      if (count > 1) continue;
      return false;
    }
    // A huge page under a stack would cost 2 MiB per task; an empty slab must not fatten a core
    // file.
    ::madvise(p, size, MADV_NOHUGEPAGE);
    ::madvise(p, size, MADV_DONTDUMP);
    auto base = reinterpret_cast<uintptr_t>(p);
    uintptr_t aligned = (base + 2 * skew - 1) & ~(2 * skew - 1);
    uintptr_t start = aligned - skew >= base ? aligned - skew : aligned + skew;
    pool.carve = reinterpret_cast<char*>(start);
    pool.carve_left = count;
    pool.reserved += size;
    pool.next_slab = count * 2 < t.max_slab ? count * 2 : t.max_slab;
    return true;
  }
}

stack* carve_stack(stack_pool& pool, stack_class cls) noexcept {
  const class_traits& t = traits[static_cast<int>(cls)];
  if (pool.carve_left == 0 && !new_slab(pool, t)) {
    base::fatalf(
        "cannot reserve %zu KiB for a task stack (errno %d, %zu stacks exist): check RLIMIT_AS "
        "(ulimit -v), vm.overcommit_memory and vm.max_map_count",
        t.reserve / 1024, errno, pool.created);
  }
  char* lo = pool.carve;
  pool.carve += t.reserve;
  --pool.carve_left;
  ++pool.created;
  install_guard(lo, t.guard);
  char* top = lo + t.reserve;
  char* header = top - ((sizeof(stack) + 63) & ~size_t{63});
  stack* s = new (header) stack{};
  s->lo = lo + t.guard;
  s->hi = header;
  s->cls = cls;
#if WEFT_TSAN
  s->tsan_fiber = __tsan_create_fiber(0);
#endif
  return s;
}

}  // namespace

stack* acquire_stack(stack_class cls) noexcept {
  stack_pool& pool = g_pools[static_cast<int>(cls)];
  std::lock_guard hold(pool.lock);
  if (stack* s = pool.free) {
    pool.free = s->next;
    --pool.free_count;
    return s;
  }
  return carve_stack(pool, cls);
}

void release_stack(stack* s) noexcept {
  stack_pool& pool = g_pools[static_cast<int>(s->cls)];
  std::lock_guard hold(pool.lock);
  s->next = pool.free;
  pool.free = s;
  ++pool.free_count;
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

stack* acquire_free_stacks(stack_class cls, int max, int& count) noexcept {
  stack_pool& pool = g_pools[static_cast<int>(cls)];
  std::lock_guard hold(pool.lock);
  stack* first = pool.free;
  stack** end = &pool.free;
  count = 0;
  while (count < max && *end != nullptr) {
    end = &(*end)->next;
    ++count;
  }
  stack* rest = *end;
  *end = nullptr;
  pool.free = rest;
  pool.free_count -= static_cast<size_t>(count);
  return count > 0 ? first : nullptr;
}

void release_stacks(stack* first) noexcept {
  while (first != nullptr) {
    stack* next = first->next;
    release_stack(first);
    first = next;
  }
}

size_t stack_reserve(stack_class cls) noexcept { return traits[static_cast<int>(cls)].reserve; }

stack_stats stack_statistics() noexcept {
  stack_stats s{0, 0, 0, have_guard_install()};
  for (stack_pool& pool : g_pools) {
    std::lock_guard hold(pool.lock);
    s.in_use += pool.created - pool.free_count;
    s.free += pool.free_count;
    s.reserved_bytes += pool.reserved;
  }
  return s;
}

}  // namespace weft::sched
