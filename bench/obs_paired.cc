#include "bench/obs_paired.h"

#include <cstdio>

namespace bench {

void paired_windows::add(std::uint64_t cpu_ns, std::uint64_t operations) {
  sum& to = group_[next_is_on()];
  to.cpu_ns += static_cast<double>(cpu_ns);
  to.operations += static_cast<double>(operations);
  if (++in_group_ < 4) return;
  percents_.push_back((group_[1].each() / group_[0].each() - 1) * 100);
  for (int on : {0, 1}) {
    total_[on].cpu_ns += group_[on].cpu_ns;
    total_[on].operations += group_[on].operations;
  }
  restart_group();
}

void paired_windows::restart_group() {
  in_group_ = 0;
  group_[0] = group_[1] = {};
}

void paired_windows::print(const char* row, long workers) const {
  std::printf("row=%s workers=%ld n=%ld off_ns=%.2f on_ns=%.2f overhead_percent=", row, workers,
              groups(), total_[0].each(), total_[1].each());
  for (std::size_t i = 0; i < percents_.size(); ++i)
    std::printf("%s%.4f", i == 0 ? "" : ",", percents_[i]);
  std::printf("\n");
}

}  // namespace bench
