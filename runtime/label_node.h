#pragma once
#include <weft/labels.h>

#include <atomic>
#include <cstdint>

namespace weft::detail {

struct label_node {
  mutable std::atomic<uint64_t> refs{1};
  std::vector<labels::pair> pairs;  // sorted by key, keys distinct
};

void set_current_labels(const labels& l) noexcept;
void install_task_hooks() noexcept;  // labels and contexts; once, before the first task

}  // namespace weft::detail
