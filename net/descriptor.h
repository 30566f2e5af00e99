#pragma once
// A file descriptor that tasks wait on: the protocol between its users, the poller, deadlines and
// close. descriptor.cc has the design.
#include <weft/result.h>

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/spinlock.h"
#include "runtime/timed_wait.h"
#include "scheduler/park.h"
#include "scheduler/run_queue.h"
#include "scheduler/timers.h"

namespace weft::net {

class io_poller;

enum class direction : uint8_t { in = 0, out = 1 };

// A function that gets a fresh task when a descriptor becomes readable, in place of a parked one.
// Lives as long as it is armed; `next` belongs to the poller.
struct alignas(8) starter {
  void (*start)(void* arg) = nullptr;
  void* arg = nullptr;
  uintptr_t created_by = 0;  // shown as the task's place of creation
  starter* next = nullptr;
};

// What interests the poller about a descriptor, as bits of epoll(7) (poll(2) has the same values).
inline constexpr uint32_t watch_stream = 0x1 | 0x4 | 0x2000;  // IN | OUT | RDHUP

// No deadline. Deadlines are CLOCK_MONOTONIC nanoseconds.
inline constexpr int64_t no_deadline = 0;

// Records come from a pool and are never unmapped, so that an event which the kernel reported for
// an earlier life of the record is recognised by its generation and dropped.
class alignas(64) descriptor {
 public:
  struct options {
    uint32_t watch = watch_stream;
    bool merged = false;            // all events count as `in`; take_events() tells which
    bool writable_at_start = true;  // false while a connect() is under way
  };

  // Takes `fd` over (non-blocking already) and registers it with the poller, which is started if
  // need be. On an error fd is left open and the caller's. The caller holds the handle: destroy()
  // ends it.
  static result<descriptor*> open(int fd, const options& o) noexcept;

  // Marks the descriptor closed and wakes everybody who waits on it with errc::closed. The fd is
  // closed when the last user has left, which is at once if nobody uses it. False if it was closed
  // already.
  bool close() noexcept;

  // close() and the end of the handle. Nobody may use the handle any more; users inside a call may.
  void destroy() noexcept;

  // A use of the fd: between enter() and leave() it stays open. The form with a direction also
  // waits its turn: one reader and one writer at a time, first come, first served. errc::closed
  // after close(), errc::canceled when `stop` is cancelled while it waits.
  error_code enter() noexcept;
  void leave() noexcept;
  error_code enter(direction d, detail::cancel_source* stop = nullptr) noexcept;
  void leave(direction d) noexcept;

  bool is_open() const noexcept {
    return (state_.load(std::memory_order_acquire) & closed_bit) == 0;
  }

  int fd() const noexcept { return fd_.load(std::memory_order_relaxed); }

  // -- inside enter(d)/leave(d)

  // errc::closed or errc::deadline_exceeded if an operation must fail now.
  error_code check(direction d) const noexcept;

  // Waits until the direction is ready and takes the readiness: an edge that arrives from now on is
  // remembered for the next call. Parks a task, blocks another thread. errc::canceled when `stop`
  // is cancelled, also if it was before.
  error_code wait(direction d, detail::cancel_source* stop = nullptr) noexcept;

  // Puts readiness back: the operation did not exhaust it.
  void set_ready(direction d) noexcept;
  // Takes readiness without waiting; false if there is none.
  bool take_ready(direction d) noexcept;
  bool is_ready(direction d) const noexcept {
    return payload(word_[index(d)].load(std::memory_order_acquire)) == ready_word;
  }

  // The peer has closed its side, reset, or an error is pending: reads are to be tried until they
  // say so.
  bool hung_up() const noexcept { return hung_up_.load(std::memory_order_seq_cst); }

  // merged only: the events that arrived since the last call.
  uint32_t take_events() noexcept { return events_.exchange(0, std::memory_order_acq_rel); }

  // -- any time while the handle lives

  // Absolute deadline for pending and later calls; no_deadline clears. One that has passed fails
  // them at once, and so do all calls until it is moved.
  void set_deadline(direction d, int64_t when_ns) noexcept;

  // Has `s` started in a new task as soon as the descriptor is readable, was closed, or its `in`
  // deadline has passed: exactly once. False if one of these holds already; then the caller goes on
  // itself. After true the descriptor may be gone: whatever `s` stands for belongs to the new task.
  bool arm(starter* s) noexcept;

  // Has `s` started in a new task once the peer has hung up or the descriptor is closed. False if
  // that is so already. One at a time, taken back before the handle ends.
  bool watch_hang_up(starter* s) noexcept;
  // Takes it back. False if it was started: it belongs to its task.
  bool unwatch_hang_up(starter* s) noexcept;

  // Ends a wait or starts an armed starter without a reason: whoever it is looks at the facts
  // again.
  void nudge(direction d) noexcept { kick(d, generation()); }

  // Before close, close(2) is preceded by an explicit deregistration: the fd may have been
  // duplicated.
  void may_be_shared() noexcept { shared_.store(true, std::memory_order_relaxed); }

  // -- the poller's side

  // Identifies this life of the record in the kernel's event queue.
  uint64_t tag() const noexcept;
  static descriptor* from_tag(uint64_t tag) noexcept;

  // Inside poll(): delivers `events` to the life that `tag` names; tasks to run go to `out`.
  static void deliver(uint64_t tag, uint32_t events, sched::task_list& out) noexcept;

  // Inside poll(): if the tag names the present life and it is open, renew(fd, watch, poller) while
  // the fd cannot be closed.
  static void renew(uint64_t tag, void (*again)(io_poller&, int fd, uint64_t tag, uint32_t watch),
                    io_poller& poller) noexcept;

  // Records that hold an open fd.
  static int64_t open_count() noexcept;

 private:
  friend struct descriptor_pool;

  // state_: bits, and users from users_one up.
  static constexpr uint64_t closed_bit = 1;
  static constexpr uint64_t lock_bit[2] = {1 << 1, 1 << 2};
  static constexpr uint64_t queue_bit[2] = {1 << 3, 1 << 4};  // somebody waits for the lock
  static constexpr uint64_t fd_gone_bit = 1 << 5;
  static constexpr uint64_t handle_gone_bit = 1 << 6;
  static constexpr uint64_t users_one = 1 << 8;

  // word_: generation in the upper 16 bits; below, one of these or a pointer to a task, or to a
  // starter with starter_mark set.
  static constexpr uint64_t idle_word = 0;
  static constexpr uint64_t ready_word = 1;
  static constexpr uint64_t intent_word = 2;
  static constexpr uint64_t starter_mark = 4;
  static constexpr int generation_shift = 48;
  static constexpr uint64_t payload_mask = (uint64_t{1} << generation_shift) - 1;

  static constexpr int64_t expired = 1;  // a deadline that has passed

  static constexpr int index(direction d) noexcept { return static_cast<int>(d); }
  static constexpr uint64_t payload(uint64_t word) noexcept { return word & payload_mask; }
  static constexpr uint64_t with_payload(uint64_t word, uint64_t p) noexcept {
    return (word & ~payload_mask) | p;
  }

  struct context_listener;
  struct commit_arg {
    std::atomic<uint64_t>* word;
    uint64_t intent;
    uint64_t waiting;
  };
  static bool commit_wait(sched::task* t, void* arg);
  static void expire(sched::timer* t, int64_t now_ns) noexcept;

  // Takes the waiter of one direction, if any, leaving `ready` or `idle`. The winner must run it.
  uint64_t take_waiter(direction d, uint64_t generation, bool becomes_ready) noexcept;
  void kick(direction d, uint64_t generation) noexcept;
  starter* take_watch(uint64_t generation) noexcept;
  void kick_inside(direction d, uint64_t generation) noexcept;
  uint64_t generation() const noexcept { return generation_.load(std::memory_order_acquire); }

  void arm_timer(int64_t when_ns) noexcept;
  int64_t earliest_deadline() const noexcept;
  error_code enter_slow(direction d, detail::cancel_source* stop) noexcept;
  void hand_over(direction d) noexcept;
  void drop_user(uint64_t bits, bool inside_scheduler = false) noexcept;
  void close_fd(bool inside_scheduler) noexcept;

  std::atomic<uint64_t> state_{0};
  std::atomic<uint64_t> word_[2] = {idle_word, idle_word};
  std::atomic<uint64_t> hang_up_watch_{0};  // generation and starter, as in word_; 0: none
  std::atomic<uint64_t> generation_{0};     // 16 bits; changes only while closed and without users
  std::atomic<int64_t> deadline_[2] = {no_deadline, no_deadline};
  std::atomic<int> fd_{-1};
  std::atomic<uint32_t> events_{0};
  std::atomic<uint32_t> watch_{0};
  std::atomic<bool> hung_up_{false};
  std::atomic<bool> merged_{false};
  std::atomic<bool> shared_{false};

  base::spinlock timer_lock_;      // arming; never taken inside expire()
  detail::small_lock queue_lock_;  // lock_queue_
  // When timer_ will fire, never_ns if it is in no heap.
  std::atomic<int64_t> armed_at_{sched::never_ns};
  sched::timer timer_;
  detail::waiter_list lock_queue_[2];
  descriptor* pool_next_ = nullptr;
};

// enter(d)/leave(d) and enter()/leave() as scopes.
class descriptor_use {
 public:
  descriptor_use(descriptor& d, direction dir, detail::cancel_source* stop = nullptr) noexcept
      : d_(d), dir_(dir), error_(d.enter(dir, stop)), locked_(true) {}
  explicit descriptor_use(descriptor& d) noexcept : d_(d), error_(d.enter()) {}
  ~descriptor_use() {
    if (error_) return;
    if (locked_)
      d_.leave(dir_);
    else
      d_.leave();
  }
  descriptor_use(const descriptor_use&) = delete;
  descriptor_use& operator=(const descriptor_use&) = delete;
  const error_code& error() const noexcept { return error_; }

 private:
  descriptor& d_;
  direction dir_ = direction::in;
  error_code error_;
  bool locked_ = false;
};

// steady_clock and the descriptor's nanoseconds. The epoch (a default-constructed time_point) and
// max() both mean none.
inline int64_t deadline_ns(std::chrono::steady_clock::time_point t) noexcept {
  if (t == std::chrono::steady_clock::time_point::max()) return no_deadline;
  auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count();
  return ns < 0 ? 1 : ns;
}

}  // namespace weft::net
