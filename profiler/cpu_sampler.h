#pragma once
// The CPU sampler: one for the process, any number of consumers. cpu_sampler.cc has the design.
#include <cstdint>
#include <memory>
#include <vector>

#include "profiler/sample_set.h"

namespace weft::prof {

inline constexpr int default_cpu_hz = 100;
inline constexpr int max_cpu_hz = 1000;
inline constexpr size_t max_cpu_tasks = 1000;

struct cpu_options {
  int hz = default_cpu_hz;  // 1 to max_cpu_hz
  // Samples of tasks carry a number "task", the task's id: those of the first max_cpu_tasks tasks
  // that are met, the others' do not.
  bool by_task = false;
};

// What one consumer collected. Samples have two values: the number of timer ticks, and the CPU time
// in ns that they stand for.
struct cpu_result {
  std::vector<sample> samples;
  int hz = default_cpu_hz;  // as asked for
  int64_t start_nanos = 0;  // wall clock, since 1970
  int64_t duration_nanos = 0;
  // Ticks whose stacks did not fit into a thread's buffer; also a sample of their own.
  uint64_t lost = 0;
};

// A consumer: sampling runs while at least one exists, at the highest rate that any of them wants.
// So the ticks of one that wants less may be more than its rate says; the nanoseconds are right
// whoever else collects. The kernel delivers at most CONFIG_HZ signals per second and reports the
// rest as overruns, which are weighed in.
//
// Sampled are all threads of the process: those that the runtime knows from their first
// instruction, others from the time that the collector sees them (within 100 ms), with a full stack
// from the second look on.
class cpu_consumer {
 public:
  // Throws std::invalid_argument for a rate out of range.
  explicit cpu_consumer(const cpu_options& options);
  explicit cpu_consumer(int hz = default_cpu_hz) : cpu_consumer(cpu_options{.hz = hz}) {}
  ~cpu_consumer();
  cpu_consumer(const cpu_consumer&) = delete;

  // Ends collecting and returns everything since construction. Once.
  cpu_result stop();

  struct state;

 private:
  std::unique_ptr<state> state_;
};

// How many consumers exist now. Thread-safe.
int cpu_consumers();

// Makes threads known to the sampler as they start. The first consumer does it too; before the
// first worker starts is better, because a slot then is every thread's own from its beginning.
void install_cpu_sampler();

}  // namespace weft::prof
