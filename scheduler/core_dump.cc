// Core files that show every task.
//
// Stacks are excluded from core files from birth (MADV_DONTDUMP on the slab): the kernel walks
// every page of a mapping that it dumps, 43 ms per GiB whether touched or not, so 100 000
// reservations of 64 MiB would take minutes. The fatal path puts back what is alive, in this order:
//   1. Tasks that execute: in place, MADV_DODUMP. Their stack pointers are in registers that only
//      the kernel sees, so everything that is resident below the top counts.
//   2. Parked tasks: in place from the saved stack pointer up, for the first few thousand. Each
//      splits its slab's mapping in two more, and a process may have 65 530 (vm.max_map_count).
//   3. Parked tasks beyond that: the live bytes are copied, end to end, into one dumpable mapping.
//      A copy is relocated: a word that points into the bytes that were copied points into the
//      copy. So an unwinder that starts at the copy's own address follows frame pointers and finds
//      every register without knowing that the stack has moved. An index says whose copy is where.
//
// Parked tasks are claimed, and the claim is kept: from here to the end of the process they cannot
// run, so that the core's task records and the stacks agree.
//
// Memory may be in any state when this runs. What is reached through a pointer from a task record
// is read by process_vm_readv, which fails where a load would fault.
//
// Rejected: a mapping split per task for all (two of 65 530 for each; the measurements are in
// docs/decisions/008-core-dumps.md); an ELF file with program headers for the copies written beside
// the core (the handler would have to find out where the core goes); copying without relocation
// (the debugger cannot be told to read one address at another in a core file).
#include "scheduler/core_dump.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "base/clock.h"
#include "scheduler/debug_layout.h"
#include "scheduler/fault.h"
#include "scheduler/signals.h"
#include "scheduler/stack.h"
#include "scheduler/task.h"
#include "scheduler/thread.h"

namespace weft::sched {

core_dump_limits g_core_dump_limits;
core_dump_index g_core_dump;

namespace {

constexpr uintptr_t page = 4096;
// A program may live on its handled SIGSEGVs, and each inclusion splits mappings for good.
constexpr int most_inclusions = 16;
constexpr size_t max_stack = size_t{1} << 30;  // the largest that an option can ask for

constexpr uintptr_t page_floor(uintptr_t a) { return a & ~(page - 1); }
constexpr uintptr_t page_ceil(uintptr_t a) { return (a + page - 1) & ~(page - 1); }

bool read_memory(void* to, const void* from, size_t size) noexcept {
  iovec local{to, size};
  iovec remote{const_cast<void*>(from), size};
  long n = ::syscall(SYS_process_vm_readv, ::getpid(), &local, 1, &remote, 1, 0);
  if (n >= 0) return static_cast<size_t>(n) == size;
  if (errno != ENOSYS && errno != EPERM) return false;
  std::memcpy(to, from, size);  // a sandbox that forbids it
  return true;
}

// The first number in a file of /proc; `otherwise` when there is none.
size_t read_number(const char* path, size_t otherwise) noexcept {
  int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return otherwise;
  char text[32];
  ssize_t n = ::read(fd, text, sizeof text);
  ::close(fd);
  size_t value = 0;
  ssize_t i = 0;
  for (; i < n && text[i] >= '0' && text[i] <= '9'; ++i)
    value = value * 10 + static_cast<size_t>(text[i] - '0');
  return i > 0 ? value : otherwise;
}

size_t count_mappings() noexcept {
  int fd = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[4096];
  size_t lines = 0;
  for (ssize_t n; (n = ::read(fd, text, sizeof text)) > 0;)
    for (ssize_t i = 0; i < n; ++i) lines += text[i] == '\n';
  ::close(fd);
  return lines;
}

bool core_will_be_written() noexcept {
  if (::prctl(PR_GET_DUMPABLE) == 0) return false;
  rlimit limit{};
  if (::getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_cur != 0) return true;
  // A program that cores are piped to gets them whatever the limit says.
  char first = 0;
  int fd = ::open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return true;
  ssize_t n = ::read(fd, &first, 1);
  ::close(fd);
  return n == 1 && first == '|';
}

struct bounds {
  uintptr_t lo, hi;
};

bool stack_bounds(const task& t, bounds& out) noexcept {
  stack header;
  const stack* s = t.stk;
  if (s == nullptr || !read_memory(&header, s, sizeof header)) return false;
  out = {reinterpret_cast<uintptr_t>(header.lo), reinterpret_cast<uintptr_t>(header.hi)};
  return out.lo < out.hi && out.hi - out.lo <= max_stack;
}

bool make_dumpable(uintptr_t from, uintptr_t to) noexcept {
  uintptr_t start = page_floor(from);
  return ::madvise(reinterpret_cast<void*>(start), page_ceil(to) - start, MADV_DODUMP) == 0;
}

// The lowest page that may hold frames: downwards from the top until a whole step is not resident.
// Frames touch every page that they cross (-fstack-clash-protection), or nearly.
uintptr_t resident_floor(const bounds& b) noexcept {
  constexpr uintptr_t step = 256 * page;
  unsigned char present[step / page];
  uintptr_t low = page_floor(b.hi - 1);
  for (uintptr_t end = page_ceil(b.hi); end > b.lo;) {
    uintptr_t start = end - b.lo > step ? end - step : page_ceil(b.lo);
    if (start >= end || ::mincore(reinterpret_cast<void*>(start), end - start, present) != 0) break;
    bool any = false;
    for (uintptr_t i = 0; i < (end - start) / page && !any; ++i) {
      any = (present[i] & 1) != 0;
      if (any && start + i * page < low) low = start + i * page;
    }
    if (!any) break;
    end = start;
  }
  return low;
}

bool executes(task_status s) noexcept {
  return s == task_status::running || s == task_status::blocking;
}

// Threads that crash at the same time come here together.
void count_in_place() noexcept {
  std::atomic_ref(g_core_dump.in_place).fetch_add(1, std::memory_order_relaxed);
}

void include_executing(const task& t) noexcept {
  bounds b;
  if (!t.foreign && stack_bounds(t, b) && make_dumpable(resident_floor(b), b.hi)) count_in_place();
}

void for_each_executing(void (*f)(const task&)) noexcept {
  const size_t records = task_record_count();
  for (size_t i = 0; i < records; ++i) {
    const task& t = task_record(i);
    if (executes(status_of(t.state.load(std::memory_order_acquire)))) f(t);
  }
}

// Room for copies: one mapping for the bytes, one for the index.
class copy_area {
 public:
  explicit copy_area(size_t tasks) noexcept
      : index_bytes_(page_ceil(tasks * sizeof(stack_copy))),
        data_bytes_(page_ceil(g_core_dump_limits.max_copied_bytes)),
        index_(map(index_bytes_)),
        data_(map(data_bytes_)) {
    g_core_dump.copies = reinterpret_cast<stack_copy*>(index_);
  }

  void add(const task& t, uintptr_t sp, uintptr_t hi) noexcept {
    size_t size = hi - sp < g_core_dump_limits.max_copy ? hi - sp : g_core_dump_limits.max_copy;
    if (index_ == nullptr || data_ == nullptr ||
        (g_core_dump.copy_count + 1) * sizeof(stack_copy) > index_bytes_ ||
        data_bytes_ - used_ < size ||
        !read_memory(data_ + used_, reinterpret_cast<const void*>(sp), size)) {
      ++g_core_dump.missing;
      return;
    }
    char* to = data_ + used_;
    used_ = (used_ + size + 15) & ~size_t{15};
    g_core_dump.copies[g_core_dump.copy_count++] = {&t, sp, reinterpret_cast<uintptr_t>(to), size};
    relocate(to, sp, size);
  }

  // The kernel walks untouched pages too.
  void trim() noexcept {
    size_t kept = page_ceil(used_);
    if (data_ != nullptr && kept < data_bytes_) ::munmap(data_ + kept, data_bytes_ - kept);
  }

 private:
  static char* map(size_t size) noexcept {
    if (size == 0) return nullptr;
    void* p = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? nullptr : static_cast<char*>(p);
  }

  static void relocate(char* copy, uintptr_t sp, size_t size) noexcept {
    auto* words = reinterpret_cast<uintptr_t*>(copy);
    const uintptr_t delta = reinterpret_cast<uintptr_t>(copy) - sp;
    for (size_t i = 0; i < size / sizeof(uintptr_t); ++i)
      if (words[i] - sp < size) words[i] += delta;
  }

  const size_t index_bytes_;
  const size_t data_bytes_;
  char* const index_;
  char* const data_;
  size_t used_ = 0;  // a multiple of 16, so that copies are aligned as stacks are
};

// A quarter of what the process may still map, so that a report after this has room too.
size_t range_budget() noexcept {
  size_t limit = read_number("/proc/sys/vm/max_map_count", 65530);
  size_t used = count_mappings();
  size_t by_limit = limit > used ? (limit - used) / 4 : 0;
  return by_limit < g_core_dump_limits.max_ranges ? by_limit : g_core_dump_limits.max_ranges;
}

void include_parked_stacks() noexcept {
  const size_t budget = range_budget();
  const size_t records = task_record_count();
  copy_area copies(records);
  size_t ranges = 0;
  for (size_t i = 0; i < records; ++i) {
    task& t = task_record(i);
    task_status status = status_of(t.state.load(std::memory_order_acquire));
    if (status == task_status::free || executes(status) || t.foreign || t.stk == nullptr) continue;
    uint32_t word;
    if (!claim(t, word)) {
      // It started to execute since, or somebody else looks at it: either way it has a stack.
      include_executing(t);
      continue;
    }
    bounds b;
    auto sp = reinterpret_cast<uintptr_t>(t.ctx.sp);
    if (t.stk == nullptr) {
      // Ended since, and spawned anew.
    } else if (!stack_bounds(t, b) || sp < b.lo || sp >= b.hi || sp % sizeof(uintptr_t) != 0) {
      ++g_core_dump.missing;
    } else if (ranges < budget && make_dumpable(sp, b.hi)) {
      ++ranges;
      count_in_place();
    } else {
      copies.add(t, sp, b.hi);
    }
  }
  copies.trim();
}

// Only one thread prepares. Another that crashes meanwhile waits for it, because its signal would
// end the process; but not for ever, because the first may be stuck in what it was called from.
enum class turn : uint8_t { mine, done };
std::atomic<int> g_preparing_tid{0};
std::atomic<bool> g_prepared{false};

turn take_turn() noexcept {
  int nobody = 0;
  const int me = ::gettid();
  if (g_preparing_tid.compare_exchange_strong(nobody, me)) return turn::mine;
  for (int i = 0; nobody != me && i < 1000 && !g_prepared.load(std::memory_order_acquire); ++i) {
    timespec ten_ms{0, 10'000'000};
    ::nanosleep(&ten_ms, nullptr);
  }
  return turn::done;
}

struct sigaction g_before[NSIG];

constexpr int core_signals[] = {SIGABRT, SIGBUS, SIGFPE,  SIGILL,  SIGQUIT,
                                SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU, SIGXFSZ};

// Blocked while its handler runs, the signal arrives when the handler returns: the core then shows
// the interrupted code, with the registers and the siginfo of the fault, and no handler.
void raise_again(int signal, siginfo_t* info) noexcept {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  ::sigaction(signal, &action, nullptr);
  if (::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), ::gettid(), signal, info) != 0)
    ::syscall(SYS_tgkill, ::getpid(), ::gettid(), signal);
}

void on_core_signal(int signal, siginfo_t* info, void* ucontext) noexcept {
  const int saved = errno;
  struct sigaction& before = g_before[signal];
  // The program's handler may end the process in its own way, or repair what was wrong and go on.
  // fault.cc knows better what will happen.
  if (before.sa_handler != SIG_DFL && !is_fault_handler(before)) include_executing_stacks_in_core();
  errno = saved;
  if (call_previous(before, signal, info, ucontext)) return;
  prepare_core_dump();
  raise_again(signal, info);
  errno = saved;
}

}  // namespace

void prepare_core_dump() noexcept {
  if (take_turn() == turn::done) return;
  if (core_will_be_written()) {
    std::atomic_ref(g_core_dump.in_place).store(0, std::memory_order_relaxed);
    g_core_dump.prepared_ns = static_cast<uint64_t>(base::now_ns());
    for_each_executing(include_executing);
    include_parked_stacks();
  }
  g_prepared.store(true, std::memory_order_release);
}

void include_executing_stacks_in_core() noexcept {
  static std::atomic<int> times{0};
  if (times.load(std::memory_order_relaxed) >= most_inclusions ||
      times.fetch_add(1, std::memory_order_relaxed) >= most_inclusions)
    return;
  if (core_will_be_written()) for_each_executing(include_executing);
}

void install_core_dump_handlers() noexcept {
  keep_linked(weft_debug_layout);
  for (int signal : core_signals) {
    struct sigaction action {};
    if (::sigaction(signal, nullptr, &g_before[signal]) != 0) continue;
    if (g_before[signal].sa_handler == SIG_IGN) continue;
    // SIGQUIT is not always a crash: a program's own handler for it has nothing to do with cores.
    if (signal == SIGQUIT && g_before[signal].sa_handler != SIG_DFL) continue;
    action.sa_sigaction = on_core_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | (g_before[signal].sa_flags & SA_RESTART);
    action.sa_mask = g_before[signal].sa_mask;
    ::sigaction(signal, &action, nullptr);
  }
}

}  // namespace weft::sched
