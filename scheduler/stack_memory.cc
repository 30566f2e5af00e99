// Address space for stacks.
//
// A slab is mapped NORESERVE, without huge pages (one under a stack would cost 2 MiB per task) and
// outside core files (the kernel walks every page of a dumpable mapping, 43 ms per GiB). Its first
// slot starts half a page-table page off a 2 MiB boundary, so that a guard and the top page of the
// stack below it, which are neighbours, share one page-table page.
//
// What is probed, and what is done without it:
//   MADV_GUARD_INSTALL (Linux 6.13)   mprotect guards within a quarter of vm.max_map_count (each
//                                     costs two mappings, and the program needs some too); past
//                                     that no guard, and every switch checks the stack pointer
//   memory that is not locked         mlockall(MCL_FUTURE) makes guards of the first kind EINVAL
//   and
//                                     would fill every slab at once: slabs are mapped without
//                                     access, set to lock on fault and opened then; mprotect guards
//   vm.overcommit_memory 0 or 1       2 charges what is writable, touched or not: slabs are mapped
//                                     without access and opened in segments as stacks are needed; a
//                                     standard stack is 8 MiB, as a thread's
//   address space                     slabs are halved until they fit; where RLIMIT_AS is set, no
//                                     slab takes more than a sixteenth of it, and standard stacks
//                                     shrink to 1/4096 of it, at least 256 KiB
//   process_madvise on oneself (6.13) madvise for each range
// WEFT_DEBUG=stackguard=mprotect|none and stackcommit=strict take the second way without need.
#include "scheduler/stack_memory.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdio>

#include "base/check.h"
#include "base/options.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

namespace weft::sched {

std::atomic<uint32_t> g_stack_fallbacks{0};
namespace {

constexpr size_t page = 4096;
constexpr size_t kib = 1024;
constexpr size_t mib = kib * kib;
constexpr size_t skew = mib;

// Sanitizers shadow the whole address space and fatten every frame: small stacks get more, the
// standard ones less.
constexpr bool sanitized = WEFT_ASAN || WEFT_TSAN;

struct class_traits {
  size_t reserve;
  size_t first_slab;  // slots of the first slab; each further one doubles up to max_slab
  size_t max_slab;
};
constexpr class_traits traits[stack_classes] = {
    {sanitized ? mib : 64 * mib, 64, 16384},
    {sanitized ? 256 * kib : 64 * kib, 256, 65536},
    {sanitized ? 512 * kib : 256 * kib, 64, 65536},
    {mib, 64, 65536},
    {8 * mib, 32, 16384},
    {256 * mib, 4, 4096},
    {1024 * mib, 4, 1024},
};
constexpr size_t least_reserve = 256 * kib;  // of a class that has to shrink
constexpr size_t strict_reserve = 8 * mib;   // of a standard stack where all of it is charged
constexpr size_t segment = 2 * mib;          // committed at once, at least

constexpr size_t max_slabs = 8192;
stack_slab g_slabs[max_slabs];
std::atomic<size_t> g_slab_count{0};
std::atomic<bool> g_adding_slab{false};  // pools of several classes share the table

std::atomic<size_t> g_guards[3];

bool note_fallback(stack_fallback f) noexcept {
  return (g_stack_fallbacks.fetch_or(f, std::memory_order_relaxed) & f) == 0;
}

size_t read_number(const char* file, size_t otherwise) noexcept {
  FILE* f = std::fopen(file, "re");
  if (f == nullptr) return otherwise;
  size_t value = otherwise;
  if (std::fscanf(f, "%zu", &value) != 1) value = otherwise;
  std::fclose(f);
  return value;
}

struct environment {
  bool guard_install = false;
  bool locked = false;
  bool strict = false;
  size_t mprotect_guards = 0;
  size_t space_limit = RLIM_INFINITY;
  int pidfd = -1;  // for process_madvise; -1: not there
};

bool probe_process_madvise(int pidfd, char* scratch) noexcept {
  iovec range{scratch, page};
  return ::syscall(SYS_process_madvise, pidfd, &range, 1, MADV_DONTNEED, 0) ==
         static_cast<long>(page);
}

environment probe() noexcept {
  environment e;
  void* p = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) base::fatal("cannot map a page: out of memory or vm.max_map_count");
  e.guard_install = ::madvise(p, page, MADV_GUARD_INSTALL) == 0;
  if (!e.guard_install && errno == EINVAL) {
    // EINVAL means an old kernel or a locked page; discarding tells them apart on any kernel.
    e.locked = ::madvise(p, page, MADV_DONTNEED) != 0;
  }
  int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0));
  if (pidfd >= 0 && probe_process_madvise(pidfd, static_cast<char*>(p)))
    e.pidfd = pidfd;
  else if (pidfd >= 0)
    ::close(pidfd);
  ::munmap(p, page);

  e.mprotect_guards = read_number("/proc/sys/vm/max_map_count", 65530) / 4;
  e.strict = read_number("/proc/sys/vm/overcommit_memory", 0) == 2;
  if (rlimit limit{}; ::getrlimit(RLIMIT_AS, &limit) == 0) e.space_limit = limit.rlim_cur;

  std::string_view guards = base::debug_switch("stackguard");
  if (!guards.empty()) e.guard_install = false;
  if (guards == "none") e.mprotect_guards = 0;
  if (base::debug_switch("stackcommit") == "strict") e.strict = true;

  if (!e.guard_install) note_fallback(stacks_no_guard_install);
  if (e.pidfd < 0) note_fallback(stacks_no_batch_advice);
  if (e.locked && note_fallback(stacks_locked_memory)) {
    base::log_line(
        "memory is locked (mlockall): task stacks are locked as they are touched, guarded by "
        "mprotect (%zu at most) and never trimmed",
        e.mprotect_guards);
  }
  if (e.strict && note_fallback(stacks_strict_commit)) {
    base::log_line(
        "vm.overcommit_memory=2 charges reserved stacks in full: a standard stack is limited to "
        "%zu MiB; spawn_options::stack_size asks for more",
        strict_reserve / mib);
  }
  return e;
}

const environment& env() noexcept {
  static const environment e = probe();
  return e;
}

void note_limited_space(size_t reserve) noexcept {
  if (!note_fallback(stacks_limited_space)) return;
  base::log_line(
      "address space is limited (RLIMIT_AS, ulimit -v, or vm.overcommit_memory): stacks are "
      "reserved in small portions, standard ones with %zu KiB",
      reserve / kib);
}

size_t first_reserve(stack_class cls) noexcept {
  size_t reserve = traits[static_cast<int>(cls)].reserve;
  if (cls != stack_class::standard) return reserve;
  if (env().strict) reserve = std::min(reserve, strict_reserve);
  if (env().space_limit != RLIM_INFINITY) {
    size_t share = std::max(std::bit_floor(env().space_limit / 4096), least_reserve);
    if (share < reserve) {
      reserve = share;
      note_limited_space(reserve);
    }
  }
  return reserve;
}

// A mapping whose pages can be touched, or with `commit_later` none yet. Null: errno says why.
char* map_slab(size_t size, bool commit_later) noexcept {
  const bool closed = commit_later || env().locked;
  void* p = ::mmap(nullptr, size, closed ? PROT_NONE : PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  if (env().locked && ::syscall(SYS_mlock2, p, size, MLOCK_ONFAULT) != 0) ::munlock(p, size);
  if (closed && !commit_later && ::mprotect(p, size, PROT_READ | PROT_WRITE) != 0) {
    int why = errno;
    ::munmap(p, size);
    errno = why;
    return nullptr;
  }
  ::madvise(p, size, MADV_NOHUGEPAGE);
  ::madvise(p, size, MADV_DONTDUMP);
  return static_cast<char*>(p);
}

void add_slab(const stack_slab& slab) noexcept {
  while (g_adding_slab.exchange(true, std::memory_order_acquire)) {
  }
  size_t n = g_slab_count.load(std::memory_order_relaxed);
  if (n == max_slabs)
    base::fatalf("more than %zu stack slabs: RLIMIT_AS (ulimit -v) leaves too little room", n);
  g_slabs[n] = slab;
  // [ord stack.slabs] publishes the row to find_slab()
  g_slab_count.store(n + 1, std::memory_order_release);
  g_adding_slab.store(false, std::memory_order_release);
}

bool new_slab(slot_source& source, stack_class cls) noexcept {
  const class_traits& t = traits[static_cast<int>(cls)];
  if (source.slot_size == 0) {
    source.slot_size = first_reserve(cls);
    source.next_slots = t.first_slab;
  }
  size_t slots = source.next_slots;
  if (env().space_limit != RLIM_INFINITY) {
    size_t most = std::max(env().space_limit / 16 / source.slot_size, size_t{1});
    if (slots > most) slots = most;
  }
  for (;;) {
    // With one slot's worth of slack the first slot can start at the odd MiB; small slots need no
    // more than their own alignment.
    size_t slack = source.slot_size >= 2 * skew ? 2 * skew : source.slot_size;
    size_t size = slots * source.slot_size + slack;
    if (char* p = map_slab(size, env().strict)) {
      auto base = reinterpret_cast<uintptr_t>(p);
      uintptr_t start = (base + slack - 1) & ~(slack - 1);
      if (source.slot_size >= 2 * skew) start = start - skew >= base ? start - skew : start + skew;
      source.next = reinterpret_cast<char*>(start);
      source.committed = source.next;
      source.left = slots;
      source.guard = guard_size(cls);
      source.mapped += size;
      source.next_slots = std::min(slots * 2, t.max_slab);
      add_slab({source.next, source.slot_size, slots, source.guard});
      return true;
    }
    if (slots > 1) {
      slots /= 2;
    } else if (cls == stack_class::standard && source.slot_size > least_reserve) {
      source.slot_size /= 2;
    } else {
      return false;
    }
    note_limited_space(cls == stack_class::standard ? source.slot_size
                                                    : first_reserve(stack_class::standard));
  }
}

// Opens the next segment of a slab that was mapped without access.
bool commit(slot_source& source) noexcept {
  char* need = source.next + source.slot_size;
  if (!env().strict || need <= source.committed) return true;
  size_t rest = source.left * source.slot_size;
  size_t wanted = std::min(std::max(source.slot_size, segment), rest);
  for (size_t size = wanted;; size = source.slot_size) {
    if (::mprotect(source.next, size, PROT_READ | PROT_WRITE) == 0) {
      source.committed = source.next + size;
      return true;
    }
    if (size == source.slot_size) return false;
  }
}

void count_guard(guard_kind kind, bool more) noexcept {
  auto& n = g_guards[static_cast<int>(kind)];
  if (more)
    n.fetch_add(1, std::memory_order_relaxed);
  else
    n.fetch_sub(1, std::memory_order_relaxed);
}

bool guard_by_mprotect(char* at, size_t size) noexcept {
  auto& n = g_guards[static_cast<int>(guard_kind::mprotect)];
  if (n.fetch_add(1, std::memory_order_relaxed) < env().mprotect_guards &&
      ::mprotect(at, size, PROT_NONE) == 0)
    return true;
  n.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

bool advise(const page_range* ranges, size_t count, int advice) noexcept {
  for (size_t i = 0; i < count; ++i) {
    if (::madvise(ranges[i].lo, static_cast<size_t>(ranges[i].hi - ranges[i].lo), advice) != 0)
      return false;
  }
  return true;
}

}  // namespace

size_t guard_size(stack_class cls) noexcept {
  // 64 KiB is a guard that frames below 64 KiB cannot jump over even without stack probes.
  return cls == stack_class::compact ? page : 64 * kib;
}

size_t stack_reserve(stack_class cls) noexcept { return first_reserve(cls); }

void guard_slot(stack_slot& slot, stack_class cls) noexcept {
  if (slot.guard == guard_kind::mprotect) return;
  size_t size = guard_size(cls);
  if (env().guard_install && ::madvise(slot.base, size, MADV_GUARD_INSTALL) == 0) {
    slot.guard = guard_kind::install;
    count_guard(slot.guard, true);
    return;
  }
  if (guard_by_mprotect(slot.base, size)) {
    slot.guard = guard_kind::mprotect;
    return;
  }
  slot.guard = guard_kind::none;
  count_guard(slot.guard, true);
  if (note_fallback(stacks_unguarded)) {
    base::log_line(
        "task stacks beyond the first %zu have no guard page (this kernel lacks "
        "MADV_GUARD_INSTALL, and vm.max_map_count limits the other kind); their overflow is looked "
        "for at task switches only",
        g_guards[static_cast<int>(guard_kind::mprotect)].load());
  }
}

bool take_fresh_slot(slot_source& source, stack_class cls, stack_slot& out) noexcept {
  if (source.left == 0 && !new_slab(source, cls)) return false;
  if (!commit(source)) return false;
  out = {source.next, source.slot_size, guard_kind::none};
  source.next += source.slot_size;
  --source.left;
  return true;
}

bool drop_slots(stack_slot* slots, size_t count) noexcept {
  if (env().locked) return false;
  std::sort(slots, slots + count,
            [](const stack_slot& a, const stack_slot& b) { return a.base < b.base; });
  for (size_t i = 0; i < count;) {
    size_t j = i + 1;
    while (j < count && slots[j].base == slots[j - 1].base + slots[j - 1].size &&
           slots[j].guard == slots[i].guard)
      ++j;
    page_range all{slots[i].base, slots[j - 1].base + slots[j - 1].size};
    // A guard keeps its page-table page, which costs as much as the stack's top page did. Without
    // it the kernel frees the page tables too; the next user installs it again.
    if (slots[i].guard == guard_kind::install && advise(&all, 1, MADV_GUARD_REMOVE)) {
      for (size_t k = i; k < j; ++k) {
        slots[k].guard = guard_kind::none;
        count_guard(guard_kind::install, false);
      }
    } else if (slots[i].guard == guard_kind::none) {
      for (size_t k = i; k < j; ++k) count_guard(guard_kind::none, false);
    }
    advise(&all, 1, MADV_DONTNEED);
    i = j;
  }
  return true;
}

size_t drop_pages(const page_range* ranges, size_t count) noexcept {
  if (env().locked || count == 0) return 0;
  size_t bytes = 0;
  for (size_t i = 0; i < count; ++i) bytes += static_cast<size_t>(ranges[i].hi - ranges[i].lo);
  if (env().pidfd >= 0) {
    iovec io[64];
    size_t n = std::min(count, size_t{64});
    for (size_t i = 0; i < n; ++i)
      io[i] = {ranges[i].lo, static_cast<size_t>(ranges[i].hi - ranges[i].lo)};
    if (::syscall(SYS_process_madvise, env().pidfd, io, n, MADV_DONTNEED, 0) ==
        static_cast<long>(bytes))
      return bytes;
  }
  size_t done = 0;
  for (size_t i = 0; i < count; ++i) {
    if (advise(&ranges[i], 1, MADV_DONTNEED))
      done += static_cast<size_t>(ranges[i].hi - ranges[i].lo);
  }
  return done;
}

void touch_pages(const page_range* ranges, size_t count) noexcept {
  static std::atomic<bool> refused{false};
  if (env().pidfd < 0 || refused.load(std::memory_order_relaxed)) return;
  iovec io[64];
  count = std::min(count, size_t{64});
  for (size_t i = 0; i < count; ++i)
    io[i] = {ranges[i].lo, static_cast<size_t>(ranges[i].hi - ranges[i].lo)};
  if (::syscall(SYS_process_madvise, env().pidfd, io, count, MADV_POPULATE_WRITE, 0) < 0)
    refused.store(true, std::memory_order_relaxed);
}

size_t resident_below(char* lo, char* hi) noexcept {
  constexpr size_t window = 16 * page;
  size_t resident = 0;
  while (hi > lo) {
    char* from = hi - lo > static_cast<ptrdiff_t>(window) ? hi - window : lo;
    unsigned char present[16];
    if (::mincore(from, static_cast<size_t>(hi - from), present) != 0) return resident;
    size_t here = 0;
    for (ptrdiff_t i = 0; i < (hi - from) / static_cast<ptrdiff_t>(page); ++i)
      here += present[i] & 1u;
    if (here == 0) return resident;
    resident += here * page;
    hi = from;
  }
  return resident;
}

const stack_slab* find_slab(uintptr_t address) noexcept {
  size_t n = g_slab_count.load(std::memory_order_acquire);  // [ord stack.slabs]
  for (size_t i = 0; i < n; ++i) {
    const stack_slab& s = g_slabs[i];
    auto base = reinterpret_cast<uintptr_t>(s.base);
    if (address >= base && address - base < s.slots * s.slot_size) return &s;
  }
  return nullptr;
}

void count_guards(stack_stats& stats) noexcept {
  stats.guards = env().guard_install        ? guard_kind::install
                 : unguarded_stacks_exist() ? guard_kind::none
                                            : guard_kind::mprotect;
  stats.unguarded = g_guards[0].load(std::memory_order_relaxed);
  stats.guarded_install = g_guards[1].load(std::memory_order_relaxed);
  stats.guarded_mprotect = g_guards[2].load(std::memory_order_relaxed);
}

}  // namespace weft::sched
