// All tasks are asleep: the end of a program in which nothing can ever run again.
//
// When      The monitor looks whenever the last running processor has become idle. Nothing is added
//           to any path of a task or worker; a foreign thread that goes to sleep while all
//           processors are idle makes the monitor look again.
// Actors    What can still make a task runnable: a processor that is not idle; a task in a blocking
//           call; a timer; a registered descriptor; a starter; a foreign thread that does not sleep
//           inside a primitive; an OS thread that the runtime has never seen, because its first
//           call may be a send; and a worker that ends, whose thread-local destructors may call
//           anything: it counts as unknown. So the threads of the process are counted, and one more
//           than the runtime knows means that there is no deadlock. The runtime's own threads
//           (service_thread) are no actors.
// Invariant [D1] look_ahead() answers `asleep` only if at one instant t there was no actor. As
//           nobody but an actor makes an actor, there is none after t.
// Argument  g_sched.lock is held throughout, and every processor is found idle under it. Taking an
//           idle processor needs that lock, so until the end no task executes with a processor, no
//           timer fires, and a task that is runnable stays so. The steps, in this order:
//           1 No worker has a current task: a task in a blocking call would be one, and its thread
//             needs a processor before it clears `current` (reacquire() takes one under the lock,
//             or queues the task, which step 4 finds).
//           2 Every foreign thread sleeps and has not been woken (park_word is 0). t is the end of
//             this step.
//           3 The OS threads are as many as the known ones. A thread unknown at t that has exited
//             since did what it did before: steps 4 to 6 see it.
//           4 No timer, no descriptor. Both are made by actors only.
//           5 No record of a task is runnable, running or blocking. That finds tasks in flight: on
//             the list of a poll() that just returned, between a foreign thread's ready() and its
//             push. In flight or queued, they are runnable since before t.
//           6 Step 2 once more, and no foreign thread has woken up since before step 2: so each was
//             asleep all the time between its two looks, and all of them at t; and none was woken
//             by t, since a wake-up would still show in its park_word.
// Wake-ups  A foreign thread sets `asleep`, then reads running_procs; a processor leaves by
//           subtracting from running_procs, and the monitor reads that before it looks. Whichever
//           comes second: either the monitor sees `asleep`, or the thread sees 0 and calls it.
//           Between release() and the idle list a processor is neither running nor idle, and a
//           monitor that looks then says `open`: so whoever puts one on the list by itself looks at
//           running_procs afterwards and calls the monitor too. So does a foreign thread that ends,
//           and a thread that becomes the runtime's own.
// Unknown   threads may end without telling: a joined std::thread is counted by the kernel for a
//           while. So that verdict is looked at again after 10 ms, and then each time after twice
//           the pause, about log2 of the duration looks.
// Rejected  Checking on the worker that goes idle, as Go does: it puts the walk over the tasks on
//           the path of every idle transition. Counting runnable tasks: an atomic per wake-up.
#include "scheduler/deadlock.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <mutex>

#include "base/check.h"
#include "base/options.h"
#include "scheduler/park.h"
#include "scheduler/scheduler.h"

namespace weft::sched {
namespace {

constexpr int64_t first_pause_ns = 10'000'000;

std::atomic<bool> g_main_running{false};
std::atomic<int> g_service_threads{0};
std::atomic<uint64_t> g_foreign_wakes{0};
thread_local bool t_service = false;

// Threads of the process, or -1 where /proc does not tell.
int os_thread_count() noexcept {
  struct stat st {};
  if (::stat("/proc/self/task", &st) != 0 || st.st_nlink < 3) return -1;
  return static_cast<int>(st.st_nlink) - 2;
}

// Kernel threads that io_uring runs inside the process: listed like ours, and no actors.
int kernel_thread_count() noexcept {
  DIR* dir = ::opendir("/proc/self/task");
  if (dir == nullptr) return 0;
  int count = 0;
  while (const dirent* entry = ::readdir(dir)) {
    if (entry->d_name[0] == '.') continue;
    char path[64];
    std::snprintf(path, sizeof path, "%.32s/comm", entry->d_name);
    int fd = ::openat(::dirfd(dir), path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    char name[4] = {};
    if (::read(fd, name, sizeof name) == 4 && std::memcmp(name, "iou-", 4) == 0) ++count;
    ::close(fd);
  }
  ::closedir(dir);
  return count;
}

#if WEFT_TSAN
constexpr int tool_threads = 1;  // ThreadSanitizer's own, since the first pthread_create
#else
constexpr int tool_threads = 0;
#endif

struct thread_census {
  int known = 0;  // without service threads, and workers that end
  bool all_asleep = true;
};

thread_census count_threads() noexcept {
  thread_census c;
  for_each_thread(
      [](thread* th, void* arg) {
        auto* to = static_cast<thread_census*>(arg);
        if (th->service.load(std::memory_order_relaxed) ||
            th->ending.load(std::memory_order_relaxed))
          return;
        ++to->known;
        if (!th->foreign) {
          if (th->current.load(std::memory_order_acquire) != nullptr) to->all_asleep = false;
        } else if (!th->asleep.load(std::memory_order_seq_cst) ||
                   th->park_word.load(std::memory_order_acquire) != 0) {
          to->all_asleep = false;
        }
      },
      &c);
  return c;
}

bool any_timer() noexcept {
  for (const std::atomic<processor*>& slot : g_sched.processors) {
    const processor* p = slot.load(std::memory_order_acquire);
    if (p == nullptr) return false;
    if (p->timers.earliest() != never_ns) return true;
  }
  return false;
}

bool any_task_awake() noexcept {
  const size_t n = task_record_count();
  for (size_t i = 0; i < n; ++i) {
    const task& t = task_record(i);
    const task_status s = status_of(t.state.load(std::memory_order_acquire));
    // Foreign threads' records are judged by the census.
    if (s != task_status::free && s != task_status::waiting && !t.foreign) return true;
  }
  return false;
}

}  // namespace

service_thread::service_thread() noexcept : outermost_(!t_service) {
  if (!outermost_) return;
  t_service = true;
  if (thread* th = self_or_null()) th->service.store(true, std::memory_order_relaxed);
  g_service_threads.fetch_add(1, std::memory_order_seq_cst);
  // It may have been the one thread too many of the last look.
  if (g_sched.running_procs.load(std::memory_order_seq_cst) == 0) wake_monitor();
}

service_thread::~service_thread() {
  if (!outermost_) return;
  g_service_threads.fetch_sub(1, std::memory_order_seq_cst);
  if (thread* th = self_or_null()) th->service.store(false, std::memory_order_relaxed);
  t_service = false;
}

bool is_service_thread() noexcept { return t_service; }

void set_main_task_running(bool running) noexcept {
  g_main_running.store(running, std::memory_order_seq_cst);
}

foreign_sleep::foreign_sleep(thread* th) noexcept : th_(th) {
  th->asleep.store(true, std::memory_order_seq_cst);
  if (g_sched.running_procs.load(std::memory_order_seq_cst) == 0) wake_monitor();
}

foreign_sleep::~foreign_sleep() {
  g_foreign_wakes.fetch_add(1, std::memory_order_seq_cst);
  th_->asleep.store(false, std::memory_order_seq_cst);
}

outlook look_ahead() noexcept {
  std::lock_guard hold(g_sched.lock);
  if (g_sched.stop_requested.load(std::memory_order_relaxed) ||
      !g_main_running.load(std::memory_order_seq_cst))
    return outlook::open;
  const int procs = g_sched.max_procs.load(std::memory_order_relaxed);
  if (g_sched.idle_procs.load(std::memory_order_seq_cst) != procs) return outlook::open;

  const uint64_t wakes = g_foreign_wakes.load(std::memory_order_seq_cst);
  const thread_census first = count_threads();
  if (!first.all_asleep) return outlook::open;
  if (any_timer()) return outlook::open;
  const poller* io = g_sched.io.load(std::memory_order_acquire);
  if (io->has_waiters()) return outlook::open;

  int unknown = os_thread_count() - tool_threads - first.known -
                g_service_threads.load(std::memory_order_seq_cst);
  if (unknown > 0 && std::strcmp(io->name(), "uring") == 0) unknown -= kernel_thread_count();
  if (unknown != 0) return outlook::only_unknown;

  // Again, as those that were unknown a moment ago may have acted before they ended.
  if (any_timer() || io->has_waiters() || !g_sched.global.empty() || any_task_awake())
    return outlook::open;
  if (!count_threads().all_asleep || g_foreign_wakes.load(std::memory_order_seq_cst) != wakes)
    return outlook::open;
  return outlook::asleep;
}

int64_t check_deadlock(int64_t last_pause_ns) noexcept {
  static const bool wanted = base::debug_switch("deadlock") != "off";
  if (!wanted) return -1;
  switch (look_ahead()) {
    case outlook::open:
      return -1;
    case outlook::only_unknown:
      return last_pause_ns > 0 ? last_pause_ns * 2 : first_pause_ns;
    case outlook::asleep:
      break;
  }
  base::fatal("all tasks are asleep - deadlock!");
}

}  // namespace weft::sched
