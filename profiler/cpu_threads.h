#pragma once
// The threads that the CPU sampler samples: their timers, rings and stacks. cpu_threads.cc has how.
#include <signal.h>

#include <string_view>
#include <vector>

#include "profiler/cpu_ring.h"

namespace weft::prof {

// One object, under the sampler's lock.
class cpu_threads {
 public:
  // 1 to 1000 Hz from now on for every thread that is or will be known; 0 disarms all.
  void set_rate(int hz);

  // A thread of the runtime's has begun or ended. Any thread may report another one's begin.
  void begin(sched::thread& th);
  void end(sched::thread& th);

  // Finds threads that the runtime does not know, and that they have ended. Costs a system call
  // when no thread came or went.
  void scan();

  // Credits every thread with the ticks that are due by its clock and that it was not told of yet.
  void settle();

  const std::vector<thread_sampler*>& all() const { return used_; }
  // Takes the slots of ended threads back; their rings must have been drained.
  void reclaim();

 private:
  thread_sampler* take_slot(int tid);
  void arm(thread_sampler& s);
  void disarm(thread_sampler& s);
  void settle(thread_sampler& s);
  void add_unknown(int tid);
  void look_up_stacks();
  const char* root_named(std::string_view name);

  std::vector<thread_sampler*> used_;
  std::vector<thread_sampler*> spare_;
  std::vector<const char*> roots_;
  int hz_ = 0;
  uint64_t next_phase_ = 88172645463325252u;
  unsigned long links_ = 0;  // of /proc/self/task when it was last read
  int calm_scans_ = 0;       // since then
  bool complained_ = false;
};

// The slot whose timer sent the signal, null if the signal is not the sampler's. Handlers.
thread_sampler* sampler_of(const siginfo_t& info) noexcept;

// What the timer of the calling thread sends with its signal; null if the thread is not sampled.
void* own_tick_value() noexcept;

}  // namespace weft::prof
