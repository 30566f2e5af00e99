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
void install_label_hooks() noexcept;  // once, before the first task

}  // namespace weft::detail
