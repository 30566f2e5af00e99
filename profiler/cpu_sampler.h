#pragma once
// The CPU sampler: one for the process, any number of consumers. cpu_sampler.cc has the design.
#include <cstdint>
#include <memory>
#include <vector>

#include "profiler/sample_set.h"

namespace weft::prof {

inline constexpr int default_cpu_hz = 100;
inline constexpr int max_cpu_hz = 1000;

// What one consumer collected: samples with one value, the number of timer ticks.
struct cpu_result {
  std::vector<sample> samples;
  int hz = default_cpu_hz;
  int64_t start_nanos = 0;  // wall clock, since 1970
  int64_t duration_nanos = 0;
  uint64_t lost =
      0;  // ticks whose stacks did not fit into a thread's buffer; also a sample of their own
};

// A consumer: sampling runs while at least one exists. All share one rate; the first one's `hz`
// holds as long as any exists (a later consumer sees the actual rate in its result). hz 1 to 1000;
// the kernel delivers at most CONFIG_HZ signals per second and reports the rest as overruns, which
// are weighed in.
class cpu_consumer {
 public:
  explicit cpu_consumer(int hz = default_cpu_hz);
  ~cpu_consumer();
  cpu_consumer(const cpu_consumer&) = delete;

  // Ends collecting and returns everything since construction. Once.
  cpu_result stop();

 private:
  struct state;
  std::unique_ptr<state> state_;
};

// How many consumers exist now. Thread-safe.
int cpu_consumers();

// Makes threads that start later known to the sampler. Once, before the first worker starts.
void install_cpu_sampler();

}  // namespace weft::prof
