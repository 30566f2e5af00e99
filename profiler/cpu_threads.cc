// Which threads are sampled.
//
// Known      Threads of the runtime report in (thread_start) on the thread itself, before they run
//            any task: they are sampled from their first instruction on.
// Others     Threads that the program or a library makes and that use no primitive of weft's, the
//            main thread, weft's own service threads. The collector finds them in /proc/self/task.
//            A timer may be made for any thread of the process; its signal carries the slot.
// Stacks     of such a thread: nobody but the thread itself could ask glibc for its bounds, and not
//            in a signal handler. The first tick notes its stack pointer and walks no further than
//            that page; the collector then looks the mapping up that the page lies in.
// Slots      The value that comes with a signal is a number drawn at start-up and a slot's index:
//            a timer of the program's own with the same signal is told apart, and nothing is
//            dereferenced that the sampler has not made. Slots are not unmapped, because a signal
//            may be pending when its timer is deleted.
// Lag        The kernel looks at CPU timers in its own ticks, and on a busy machine a thread that
//            runs for shorter than those may hear of its timer 20 ms of CPU time late (overruns
//            tell how many it has missed). What is outstanding when an interval or a thread ends is
//            known from its CPU clock: it is credited to the last stack that was seen, and taken
//            off what the thread hears of later (settle).
// Roots      Samples outside of tasks are attributed to what their thread is for, "[monitor]". The
//            names of other threads are taken from the kernel, so many at most: a program may name
//            each of its threads anew.
#include "profiler/cpu_threads.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "base/check.h"
#include "base/leak_roots.h"
#include "profiler/stack_bounds.h"
#include "scheduler/signals.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace weft::prof {
namespace {

constexpr size_t max_slots = 1 << 16;
constexpr size_t max_roots = 64;
constexpr int calm_scans_at_most = 10;
constexpr const char* task_directory = "/proc/self/task";

std::array<std::atomic<thread_sampler*>, max_slots> g_slots;
std::atomic<uint32_t> g_slot_count{0};

uint64_t draw_cookie() noexcept {
  uint32_t number = 0;
  if (::getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number)
    number = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(&number) >> 12);
  return uint64_t{number | 1u} << 32;
}
// Read by handlers of timers that were made after it was drawn.
std::atomic<uint64_t> g_cookie{0};

// The kernel's encoding of "CPU clock of thread tid".
clockid_t cpu_clock_of(int tid) noexcept {
  return static_cast<clockid_t>((~static_cast<unsigned>(tid) << 3) | 6u);
}

// -1: the thread has ended.
int64_t cpu_time_of(int tid) noexcept {
  timespec t{};
  if (::clock_gettime(cpu_clock_of(tid), &t) != 0) return -1;
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

void* tick_value(const thread_sampler& s) noexcept {
  return reinterpret_cast<void*>(g_cookie.load(std::memory_order_relaxed) | s.slot);
}

std::string thread_name(int tid) {
  char path[64];
  std::snprintf(path, sizeof path, "%s/%d/comm", task_directory, tid);
  char name[32] = {};
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  const ssize_t n = ::read(fd, name, sizeof name - 1);
  ::close(fd);
  return {name, n > 1 ? static_cast<size_t>(n) - 1 : 0};  // less the newline
}

}  // namespace

thread_sampler* sampler_of(const siginfo_t& info) noexcept {
  const auto value = reinterpret_cast<uintptr_t>(info.si_value.sival_ptr);
  if ((value & ~uintptr_t{0xffffffff}) != g_cookie.load(std::memory_order_relaxed)) return nullptr;
  const auto slot = static_cast<uint32_t>(value);
  // [ord sampler.slot] acquire: the slot's contents
  if (slot >= g_slot_count.load(std::memory_order_acquire)) return nullptr;
  return g_slots[slot].load(std::memory_order_relaxed);
}

void* own_tick_value() noexcept {
  const sched::thread* th = sched::self_or_null();
  if (th == nullptr) return nullptr;
  const auto* s = static_cast<thread_sampler*>(th->sampler.load(std::memory_order_relaxed));
  return s != nullptr ? tick_value(*s) : nullptr;
}

thread_sampler* cpu_threads::take_slot(int tid) {
  if (g_cookie.load(std::memory_order_relaxed) == 0)
    g_cookie.store(draw_cookie(), std::memory_order_relaxed);
  thread_sampler* s = nullptr;
  if (!spare_.empty()) {
    s = spare_.back();
    spare_.pop_back();
  } else {
    const uint32_t slot = g_slot_count.load(std::memory_order_relaxed);
    if (slot == max_slots) return nullptr;
    void* memory = ::mmap(nullptr, sizeof(thread_sampler), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    base::keeps_pointers(memory, sizeof(thread_sampler));
    s = new (memory) thread_sampler;
    s->slot = slot;
    g_slots[slot].store(s, std::memory_order_relaxed);
    g_slot_count.store(slot + 1, std::memory_order_release);  // [ord sampler.slot]
  }
  s->tid.store(tid, std::memory_order_release);  // [ord sampler.tid]
  used_.push_back(s);
  return s;
}

void cpu_threads::begin(sched::thread& th) {
  auto* s = static_cast<thread_sampler*>(th.sampler.load(std::memory_order_relaxed));
  if (s == nullptr) {
    // A thread that was found before it came to use a primitive.
    const auto found = std::ranges::find_if(used_, [&](const thread_sampler* each) {
      return each->tid == th.tid && each->record == nullptr && !each->retired;
    });
    s = found != used_.end() ? *found : take_slot(th.tid);
    if (s == nullptr) return;
    s->record = &th;
    const std::string_view role = th.role;
    s->root = root_named(th.foreign ? thread_name(th.tid) : role == "worker" ? "scheduler" : role);
    th.sampler.store(s, std::memory_order_release);
  }
  arm(*s);
}

void cpu_threads::end(sched::thread& th) {
  auto* s = static_cast<thread_sampler*>(th.sampler.exchange(nullptr));
  if (s == nullptr) return;
  disarm(*s);
  s->retired = true;
}

void cpu_threads::set_rate(int hz) {
  if (hz == hz_) return;
  if (hz_ == 0) {
    complained_ = false;
    links_ = 0;
  }
  hz_ = hz;
  for (thread_sampler* s : used_) {
    disarm(*s);
    if (!s->retired) arm(*s);
  }
}

void cpu_threads::arm(thread_sampler& s) {
  if (s.armed || hz_ <= 0) return;
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = sched::profile_signal();
  event.sigev_notify_thread_id = s.tid;
  event.sigev_value.sival_ptr = tick_value(s);
  if (::timer_create(cpu_clock_of(s.tid), &event, &s.timer) != 0) {
    // EINVAL: an unknown thread has ended meanwhile.
    if (!std::exchange(complained_, errno != EINVAL) && errno != EINVAL) {
      base::log_line(
          "no CPU timer for thread %d: %s (RLIMIT_SIGPENDING limits timers); it and maybe others "
          "are missing from CPU profiles",
          s.tid.load(std::memory_order_relaxed), std::strerror(errno));
    }
    return;
  }
  s.hz.store(static_cast<uint32_t>(hz_), std::memory_order_relaxed);
  const int64_t period = 1'000'000'000 / hz_;
  // The first tick falls anywhere in the period, or short-lived threads would never be seen.
  next_phase_ = next_phase_ * 6364136223846793005u + 1442695040888963407u;
  const int64_t first = 1 + static_cast<int64_t>(next_phase_ >> 33) % period;
  itimerspec spec{};
  spec.it_interval = {period / 1'000'000'000, period % 1'000'000'000};
  spec.it_value = {first / 1'000'000'000, first % 1'000'000'000};
  s.told.store(0, std::memory_order_relaxed);
  s.ahead = 0;
  s.first_ns = first;
  s.set_at_ns = cpu_time_of(s.tid);
  ::timer_settime(s.timer, 0, &spec, nullptr);
  s.armed = true;
}

void cpu_threads::settle(thread_sampler& s) {
  if (!s.armed) return;
  const int64_t now = cpu_time_of(s.tid);
  if (now < 0 || s.set_at_ns < 0) return;
  const int64_t since_first = now - s.set_at_ns - s.first_ns;
  if (since_first < 0) return;
  const uint32_t hz = s.hz.load(std::memory_order_relaxed);
  const auto due = static_cast<uint64_t>(1 + since_first / (1'000'000'000 / hz));
  const uint64_t known = s.told.load(std::memory_order_relaxed) + s.ahead;
  if (due <= known) return;
  s.ahead += due - known;
  s.owed += due - known;
  s.owed_hz = hz;
}

void cpu_threads::settle() {
  for (thread_sampler* s : used_) settle(*s);
}

void cpu_threads::disarm(thread_sampler& s) {
  if (!s.armed) return;
  settle(s);
  ::timer_delete(s.timer);
  s.armed = false;
}

const char* cpu_threads::root_named(std::string_view name) {
  std::string root = "[" + std::string(name.empty() ? "thread" : name) + "]";
  const auto known = std::ranges::find_if(roots_, [&](const char* each) { return root == each; });
  if (known != roots_.end()) return *known;
  if (roots_.size() == max_roots) return "[other threads]";
  // Rings point to it.
  roots_.push_back(::strdup(root.c_str()));
  return roots_.back();
}

void cpu_threads::add_unknown(int tid) {
  thread_sampler* s = take_slot(tid);
  if (s == nullptr) return;
  s->record = nullptr;
  s->root = root_named(thread_name(tid));
  arm(*s);
}

void cpu_threads::scan() {
  look_up_stacks();
  struct stat directory {};
  if (::stat(task_directory, &directory) != 0) return;
  if (directory.st_nlink == links_ && ++calm_scans_ < calm_scans_at_most) return;
  links_ = directory.st_nlink;
  calm_scans_ = 0;
  DIR* tasks = ::opendir(task_directory);
  if (tasks == nullptr) return;
  std::vector<int> present;
  while (const dirent* entry = ::readdir(tasks)) {
    if (entry->d_name[0] != '.') present.push_back(std::atoi(entry->d_name));
  }
  ::closedir(tasks);
  std::ranges::sort(present);
  std::vector<int> sampled;
  for (thread_sampler* s : used_) {
    if (s->retired) continue;
    sampled.push_back(s->tid);
    if (s->record == nullptr &&
        !std::ranges::binary_search(present, s->tid.load(std::memory_order_relaxed))) {
      disarm(*s);
      s->retired = true;
    }
  }
  std::ranges::sort(sampled);
  for (int tid : present) {
    if (!std::ranges::binary_search(sampled, tid)) add_unknown(tid);
  }
}

void cpu_threads::look_up_stacks() {
  const auto waits = [](const thread_sampler* s) {
    return s->seen_rsp.load(std::memory_order_relaxed) != 0 &&
           s->stack_hi.load(std::memory_order_relaxed) == 0;
  };
  if (std::ranges::none_of(used_, waits)) return;
  std::FILE* maps = std::fopen("/proc/self/maps", "re");
  if (maps == nullptr) return;
  char line[512];
  while (std::fgets(line, sizeof line, maps) != nullptr) {
    uintptr_t lo = 0;
    uintptr_t hi = 0;
    char readable = 0;
    if (std::sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %c", &lo, &hi, &readable) != 3) continue;
    if (readable != 'r') continue;
    for (thread_sampler* s : used_) {
      const uintptr_t at = s->seen_rsp.load(std::memory_order_relaxed);
      if (!waits(s) || at < lo || at >= hi) continue;
      s->stack_lo.store(lo, std::memory_order_relaxed);
      s->stack_hi.store(hi, std::memory_order_release);  // [ord sampler.stack]
    }
  }
  std::fclose(maps);
}

void cpu_threads::reclaim() {
  std::erase_if(used_, [this](thread_sampler* s) {
    if (!s->retired) return false;
    const uint32_t slot = s->slot;
    s->~thread_sampler();
    // What its ring has touched goes back to the system.
    ::madvise(s, sizeof *s, MADV_DONTNEED);
    new (s) thread_sampler;
    s->slot = slot;
    spare_.push_back(s);
    return true;
  });
}

}  // namespace weft::prof
