#pragma once
// When the next cycle begins, and how much marking an allocation owes while it lasts.
//
// A cycle should end when the heap has grown to its goal, with a quarter of the processors marking
// and no help from allocating tasks. How early it has to begin for that follows from how fast the
// program allocates against how fast the collector marks, both per CPU time; that ratio is measured
// in every cycle. What is missing in spite of it is paid by those who allocate, in proportion.
//
// Source: Go's pacer of 1.18 and later (src/runtime/mgcpacer.go, proposal 44167), with the maximum
// of the last cycles' ratios in place of the controller of 1.18 and 1.19, as Go has it since 1.20;
// the memory limit is that of proposal 48409.
//
// Numbers in, numbers out: no clock, no heap, no lock. One thread at a time: the collector's, or
// one that holds the heap's lock. Bytes are bytes of slots, times are nanoseconds.
#include <cstdint>

namespace weft::gc {

inline constexpr double background_share = 0.25;                // of the processors, for marking
inline constexpr uint64_t least_heap_goal = uint64_t{4} << 20;  // at 100 percent
inline constexpr uint64_t limit_headroom = uint64_t{1} << 20;   // the goal stays this far below
inline constexpr uint64_t no_goal = UINT64_MAX;

// How many processors mark: so many all the time, and one more for a share of its time.
struct mark_workers {
  int dedicated;
  double fraction;  // of each processor that has no dedicated worker; 0: none needed
};
// A quarter of `processors` (1 or more), rounded to whole workers where that is at most 30 % off.
mark_workers background_workers(int processors) noexcept;

// Memory as the limit sees it.
struct memory_use {
  uint64_t total = 0;         // all that counts and has not been given back: heap, stacks, malloc
  uint64_t heap_free = 0;     // of which pages of the heap without objects
  uint64_t heap_objects = 0;  // of which slots in use
};

class pacer {
 public:
  // `percent` may be negative: no goal but the limit's.
  explicit pacer(int percent = 100, uint64_t memory_limit = no_goal) noexcept;

  void set_percent(int percent) noexcept;
  void set_memory_limit(uint64_t bytes) noexcept;
  void set_memory_use(const memory_use& use) noexcept;
  int percent() const noexcept { return percent_; }

  // Recomputes what the goal and the runway follow from. After every change of a setting, and after
  // end_cycle(). `live`: marked by the last cycle and allocated since.
  void commit(uint64_t live, bool sweep_is_done) noexcept;

  // The size at which the heap should have been collected; no_goal: never.
  uint64_t goal() const noexcept;
  // The size at which the cycle should begin: 70 to 95 % of the way from what is live to the goal,
  // or closer than that for large heaps. No more than goal().
  uint64_t trigger() const noexcept;

  struct start {
    uint64_t live;       // when it begins
    uint64_t scannable;  // of which objects that may refer to others
    uint64_t stacks;     // at most so many bytes of stacks
    uint64_t roots;      // bytes of slots outside of the heap
  };
  void start_cycle(const start& s) noexcept;

  // How far the cycle is; totals since its beginning.
  struct progress {
    uint64_t live;
    uint64_t scannable;
    uint64_t heap_work, stack_work, root_work;  // bytes scanned
  };
  void revise(const progress& p) noexcept;

  // While a cycle lasts: bytes to scan per byte allocated, so that it ends at its goal.
  double assist_work_per_byte() const noexcept { return assist_work_per_byte_; }
  // While a cycle lasts: who would allocate beyond this waits for its end.
  uint64_t hard_limit() const noexcept;

  struct end {
    uint64_t marked;      // alive after it, with what was allocated while it lasted
    int64_t duration_ns;  // of marking
    int64_t assist_ns;    // CPU time that allocating tasks paid
    int64_t idle_ns;      // CPU time that processors marked with that had nothing else to do
    int processors;
  };
  // After the last revise() of the cycle. commit() has to follow.
  void end_cycle(const end& e) noexcept;

  uint64_t marked() const noexcept { return marked_; }
  uint64_t triggered() const noexcept { return triggered_; }  // no_goal between cycles
  uint64_t runway() const noexcept { return runway_; }
  double cons_mark() const noexcept { return cons_mark_; }

 private:
  static constexpr int remembered = 4;  // cycles whose ratio still counts

  uint64_t goal_of_limit() const noexcept;
  uint64_t goal_and_least_trigger(uint64_t& least) const noexcept;

  int percent_;
  uint64_t limit_;
  memory_use use_;
  uint64_t least_goal_ = 0;
  uint64_t percent_goal_ = 0;
  uint64_t sweep_trigger_ = 0;
  uint64_t runway_ = 0;
  double cons_mark_ = 0;
  double last_cons_mark_[remembered] = {};
  uint64_t triggered_ = no_goal;
  uint64_t marked_ = 0;
  uint64_t last_heap_scan_ = 0, last_stack_scan_ = 0;
  uint64_t most_stacks_ = 0, roots_ = 0;
  progress now_{};
  double assist_work_per_byte_ = 0;
};

}  // namespace weft::gc
