#pragma once
// Samples of a profile, with equal ones summed as they arrive.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/task_snapshot.h"

namespace weft::prof {

// A call stack, leaf first.
struct stack_view {
  std::span<const uintptr_t> pcs;
  bool leaf_is_exact =
      false;  // true: pcs[0] is an interrupted pc; false: a return address like the rest
  bool truncated = false;  // frames at the root were cut

  // The address to symbolize at position `i`: inside the call instruction, not after it.
  uintptr_t address(size_t i) const { return i == 0 && leaf_is_exact ? pcs[0] : pcs[i] - 1; }
  // The address as a return address, the form in which text profiles list it.
  uintptr_t return_address(size_t i) const { return address(i) + 1; }
};

struct numeric_label {
  std::string key;
  int64_t value = 0;
  std::string unit;  // "" lets the reader infer it from the key
  bool operator==(const numeric_label&) const = default;
};

struct sample {
  std::vector<uintptr_t> pcs;
  bool leaf_is_exact = false;
  bool truncated = false;
  // Shown as the outermost frame, or as the only one: "[lost samples]". "" for none.
  std::string pseudo_frame;
  std::vector<int64_t> values;
  label_list labels;
  std::vector<numeric_label> numbers;

  stack_view stack() const { return {pcs, leaf_is_exact, truncated}; }
};

// What makes two samples the same one.
struct sample_key {
  stack_view stack;
  const label_list* labels = nullptr;  // null: none
  std::span<const numeric_label> numbers = {};
  std::string_view pseudo_frame = {};
};

// Adding a sample that is already there allocates nothing. Not thread-safe.
class sample_set {
 public:
  // Every sample carries `values_per_sample` values, at least 1.
  explicit sample_set(size_t values_per_sample);

  // Sums saturate at the ends of int64_t. Throws std::invalid_argument when the number of values is
  // not the one given to the constructor.
  void add(const sample_key& key, std::span<const int64_t> values);
  void add(const sample_key& key, int64_t value) { add(key, std::span(&value, 1)); }

  const std::vector<sample>& samples() const { return samples_; }
  size_t size() const { return samples_.size(); }

  // Hands the samples over, in order of first arrival, and leaves the set empty.
  std::vector<sample> take();

 private:
  size_t find_slot(const sample_key& key, uint64_t hash) const;
  void grow();

  size_t values_per_sample_;
  std::vector<sample> samples_;
  std::vector<uint64_t> hashes_;  // of samples_[i]
  std::vector<uint32_t> table_;   // open addressing: index into samples_ + 1, 0 = free
};

int64_t saturating_add(int64_t a, int64_t b);

}  // namespace weft::prof
