#pragma once
// Private to the scheduler layer: processors and the process-wide scheduler. scheduler.cc has the
// design.
#include <atomic>
#include <cstdint>

#include "base/spinlock.h"
#include "scheduler/ports.h"
#include "scheduler/run_queue.h"
#include "scheduler/thread.h"
#include "scheduler/timers.h"

namespace weft::sched {

enum class processor_status : uint8_t { idle, running, stopped };

// A free block for a closure.
struct body_block {
  body_block* next;
};

struct alignas(128) processor {
  int id = 0;
  std::atomic<processor_status> status{processor_status::stopped};
  std::atomic<thread*> owner{nullptr};  // while running
  processor* idle_next = nullptr;       // scheduler lock

  std::atomic<task*> next{nullptr};  // runs before the ring
  run_queue ring;
  std::atomic<uint32_t> tick{0};  // task switches; the monitor compares it
  uint32_t next_streak = 0;       // how often `next` went before a waiting ring
  timer_heap timers;

  // Owner only.
  task* free_tasks = nullptr;
  int free_task_count = 0;
  body_block* free_bodies = nullptr;
  int free_body_count = 0;
  stack* free_stacks[stack_classes] = {};
  std::atomic<int> free_stack_count[stack_classes] = {};  // read by others for their sums
  uint32_t stack_epoch = 0;  // when the cached stacks last went back to the pool
  uint64_t next_id = 0, last_id = 0;

  // Written by the owner, summed by readers.
  std::atomic<int64_t> created{0};
  std::atomic<int64_t> finished{0};
  std::atomic<uint64_t> steals{0};

  // Monitor's notes.
  uint32_t seen_tick = 0;
  int64_t seen_at_ns = 0;

  // The trimmer's.
  uint32_t trimmer_seen_tick = 0;
  bool trimmer_saw_no_switch = false;
};

inline constexpr int max_processors = 1024;

struct scheduler {
  base::spinlock lock;  // guards the lists below; a leaf but for no other lock
  task_list global;
  std::atomic<int64_t> global_size{0};
  processor* idle_processors = nullptr;
  thread* idle_threads = nullptr;
  int idle_thread_count = 0;

  // What every thread reads often stands apart from what some thread writes often.
  // Changed only while the world is stopped; threads without a processor read it all the same.
  alignas(64) std::atomic<processor*> processors[max_processors] = {};
  std::atomic<int> max_procs{0};
  std::atomic<bool> stop_requested{false};
  std::atomic<poller*> io{nullptr};

  alignas(64) std::atomic<int> idle_procs{0};
  std::atomic<int> spinning{0};

  // When the last poll ended; 0 while a thread waits in the poller. wait_until is that thread's
  // limit.
  alignas(64) std::atomic<int64_t> last_poll_ns{1};
  std::atomic<int64_t> poll_until_ns{never_ns};

  alignas(64) std::atomic<int> running_procs{0};  // neither idle nor stopped
  std::atomic<int> worker_threads{0};             // workers.cc
  std::atomic<int64_t> slice_ns{10'000'000};      // how long a processor is held while others wait
  std::atomic<uint64_t> retakes{0};
  std::atomic<uint32_t> monitor_word{0};  // 1: asleep because everything is idle

  std::atomic<int64_t> foreign_created{0};  // tasks made by threads without a P
  std::atomic<int64_t> system_tasks{0};
  std::atomic<uint64_t> next_task_id{2};  // 1 is the main task
  std::atomic<bool> main_id_free{true};
};

extern scheduler g_sched;

// For the holder of a processor: no other exists, so nobody steals and nobody else could help, and
// its queues need no locked instructions. The number of processors changes only while none runs.
inline bool alone() noexcept { return g_sched.max_procs.load(std::memory_order_relaxed) == 1; }

// queues.cc: moving tasks to and from the global queue; queues.h has the local ones.
void global_push(task* t) noexcept;
void global_push_list(task_list& list) noexcept;
task* global_pop(processor* p, int max) noexcept;
bool any_queued_work() noexcept;  // in the global queue or any ring

// idle.cc: the wake-up protocol.
void wake_one() noexcept;  // a task was queued: somebody should look
void start_thread_for(processor* p, bool spinning) noexcept;
void hand_off(processor* p) noexcept;  // p's thread leaves it: somebody else should run it
void acquire(thread* th, processor* p) noexcept;
processor* release(thread* th) noexcept;
processor* take_idle_processor() noexcept;
void put_idle_processor(processor* p) noexcept;
bool stop_processor_if_requested(processor* p) noexcept;

// workers.cc
inline constexpr int most_threads = 1'000'000;
void create_worker(processor* p, bool spinning) noexcept;
void worker_ended(thread* th) noexcept;  // by the thread itself, with its processor given away

// locked_thread.cc: the two hand-overs of a processor to and from the thread of a locked task.
task* await_locked_task(thread* th) noexcept;
void bring_processor(thread* th, task* t) noexcept;

// find_work.cc: the loop of a worker thread.
task* find_work(thread* th) noexcept;
void stop_thread(thread* th) noexcept;  // sleeps until a processor is handed over
bool run_due_timers(processor* p, int64_t now) noexcept;
int64_t earliest_timer() noexcept;  // of all processors

// scheduler.cc: switching.
void worker_main(thread* th) noexcept;
void finish_switch(thread* th) noexcept;
void send_gathered(thread* th) noexcept;  // th->gathered is not null
thread* yield_preempted(
    thread* th) noexcept;  // the calling task's slice is over: to the global queue
void leave_for_ever(thread* th, task* me) noexcept;  // the calling task has ended
void prepare_first_run(processor* p, task* t) noexcept;

// trim.cc: gives the memory of unused stacks, and of unused parts of stacks, back to the system.
void start_trimmer() noexcept;
extern std::atomic<int64_t> g_trim_period_ns;  // 1 s; tests shorten it
extern std::atomic<uint32_t> g_stack_epoch;    // processors give their caches back when it changes

// timers: the heap that a new timer goes to, and the poller's wake-up for an earlier deadline.
processor* processor_for_timers() noexcept;
void timer_added(int64_t when_ns) noexcept;

// retake.cc: taking a processor from a thread that does not use the runtime.
void prepare_retake() noexcept;
bool retake(processor* p, uint32_t seen_tick) noexcept;
// Every thread of the process, or all that the runtime knows of, executes a full fence.
void register_fences() noexcept;
void fence_all_threads() noexcept;

// control.cc: applies a changed affinity mask or CPU quota, if asked to follow them.
void follow_machine_now() noexcept;

// monitor.cc
void start_monitor() noexcept;
void wake_monitor() noexcept;

uint32_t next_random(thread* th) noexcept;

}  // namespace weft::sched
