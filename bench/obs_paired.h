#pragma once
// What a profile costs an operation, measured in one process that switches it off and on in turn:
// code and memory lie where they lie, and a slow second of the machine meets both.

#include <cstdint>
#include <vector>

namespace bench {

// Windows come in groups of four, off on on off: what gets slower or faster steadily cancels out
// within each. One thread at a time.
class paired_windows {
 public:
  // Whether the next window is to be run with the profile on.
  bool next_is_on() const { return in_group_ == 1 || in_group_ == 2; }

  // The next window took `cpu_ns` of CPU time for `operations`, which are not 0.
  void add(std::uint64_t cpu_ns, std::uint64_t operations);

  // Forgets the windows of the group that has begun.
  void restart_group();

  // Whole groups so far.
  long groups() const { return static_cast<long>(percents_.size()); }

  // One line for the driver: CPU time per operation of both kinds in ns, and for each group how
  // many percent more it took with the profile on.
  void print(const char* row, long workers) const;

 private:
  struct sum {
    double cpu_ns = 0, operations = 0;
    double each() const { return operations == 0 ? 0 : cpu_ns / operations; }
  };
  int in_group_ = 0;
  sum group_[2];  // by whether it was on
  sum total_[2];
  std::vector<double> percents_;
};

}  // namespace bench
