#pragma once
// Keeps the collector from taking more than half of the CPU time, and notices when it would.
//
// A bucket fills with the CPU time of collecting and drains with that of the program. It holds one
// second per processor and is never less than empty: so much may be spent at once, and idle hours
// earn no credit. While it is full, tasks do not help to mark, and the heap may exceed its goal and
// the memory limit. Source: Go's src/runtime/mgclimit.go.
//
// Numbers in, numbers out, as pacer.h: the caller brings the time (monotonic, ns) and sees to it
// that one thread at a time is here; limiting() may be read by anyone.
#include <atomic>
#include <cstdint>

namespace weft::gc {

class cpu_limiter {
 public:
  static constexpr int64_t capacity_per_processor = 1'000'000'000;
  static constexpr int64_t update_period = 10'000'000;

  cpu_limiter(int64_t now, int processors) noexcept;

  bool limiting() const noexcept { return limiting_.load(std::memory_order_relaxed); }

  // Since the last update: CPU time of helping tasks; and of processors that had nothing to do or
  // marked because of that. Counted by the next update.
  void add_assist(int64_t ns) noexcept { assist_ += ns; }
  void add_idle(int64_t ns) noexcept { idle_ += ns; }

  // Processor time since the last update, if one came now.
  int64_t window(int64_t now) const noexcept {
    return now > last_ ? (now - last_) * processors_ : 0;
  }
  // Whether the last update is too long ago.
  bool needs_update(int64_t now) const noexcept { return now - last_ > update_period; }
  // Ends a window. An earlier time than that of the last update is ignored.
  void update(int64_t now) noexcept;

  // Around a pause that turns marking on or off: a stopped processor counts as the collector's.
  void pause_begins(bool marking_follows, int64_t now) noexcept;
  void pause_ends(int64_t now) noexcept;

  void set_processors(int n, int64_t now) noexcept;
  int processors() const noexcept { return processors_; }
  // Before the first use of one that was made before the time was known.
  void restart(int64_t now, int processors) noexcept;

  int64_t fill() const noexcept { return fill_; }
  int64_t capacity() const noexcept { return capacity_; }
  // What did not fit any more, ever.
  int64_t overflow() const noexcept { return overflow_; }

 private:
  void accumulate(int64_t program, int64_t collector) noexcept;

  std::atomic<bool> limiting_{false};
  bool marking_ = false;
  int processors_;
  int64_t last_;
  int64_t fill_ = 0, capacity_, overflow_ = 0;
  int64_t assist_ = 0, idle_ = 0;
};

// Notices a program that has spent at least half of its CPU time on collecting for a whole window:
// it will not get better by waiting, and is worth a word before the kernel ends it.
class thrash_watch {
 public:
  explicit thrash_watch(int64_t window_ns) noexcept : window_(window_ns) {}
  void set_window(int64_t ns) noexcept { window_ = ns; }
  // After a cycle: CPU time of the collector (helping tasks included) and of the process since the
  // call before. True if that makes a window of thrashing; then not again before another has
  // passed.
  bool cycle_ended(int64_t now, int64_t collector_ns, int64_t process_ns) noexcept;

 private:
  int64_t window_;
  int64_t last_ = -1;
  int64_t since_ = -1;  // thrashing since; -1: it does not
};

}  // namespace weft::gc
