#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "profiler/sample_set.h"

namespace weft::prof::test {

inline sample make_sample(std::vector<uintptr_t> pcs, std::vector<int64_t> values,
                          label_list labels = {}) {
  sample s;
  s.pcs = std::move(pcs);
  s.values = std::move(values);
  s.labels = std::move(labels);
  return s;
}

}  // namespace weft::prof::test
