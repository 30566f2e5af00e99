#include "profiler/sample_set.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>
#include <vector>

namespace weft::prof {
namespace {

TEST(SampleSet, SumsEqualSamplesOnly) {
  sample_set set(2);
  const label_list labels = {{"a", "b"}};
  const std::vector<uintptr_t> pcs = {1, 2, 3};
  const std::vector<numeric_label> size = {{"bytes", 64, ""}};
  const int64_t one[] = {1, 10};
  set.add({.stack = {pcs}}, one);
  set.add({.stack = {pcs}}, one);
  set.add({.stack = {pcs}, .labels = &labels}, one);
  set.add({.stack = {pcs}, .numbers = size}, one);
  set.add({.stack = {pcs, true}}, one);
  set.add({.stack = {pcs, false, true}}, one);
  set.add({.stack = {std::span(pcs).first(2)}}, one);
  set.add({.stack = {pcs}, .pseudo_frame = "x"}, one);
  const label_list none;
  set.add({.stack = {pcs}, .labels = &none}, one);
  EXPECT_EQ(set.size(), 7u);
  const std::vector<sample> samples = set.take();
  EXPECT_EQ(samples[0].values, (std::vector<int64_t>{3, 30}));
  EXPECT_EQ(set.size(), 0u);
  set.add({.stack = {pcs}}, one);
  EXPECT_EQ(set.size(), 1u);
  EXPECT_THROW(set.add({.stack = {pcs}}, 1), std::invalid_argument);
  EXPECT_THROW(sample_set(0), std::invalid_argument);
}

TEST(SampleSet, GrowsAndSaturates) {
  sample_set set(1);
  for (int round = 0; round < 2; ++round) {
    for (uintptr_t pc = 1; pc <= 5000; ++pc) set.add({.stack = {std::span(&pc, 1)}}, INT64_MAX - 1);
  }
  EXPECT_EQ(set.size(), 5000u);
  for (const sample& s : set.samples()) ASSERT_EQ(s.values[0], INT64_MAX);
  EXPECT_EQ(saturating_add(INT64_MIN, -1), INT64_MIN);
}

}  // namespace
}  // namespace weft::prof
