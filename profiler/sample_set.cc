#include "profiler/sample_set.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <stdexcept>

namespace weft::prof {
namespace {

constexpr size_t initial_slots = 64;

uint64_t mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  hash *= 0xff51afd7ed558ccdu;
  return hash ^ (hash >> 32);
}

uint64_t mix(uint64_t hash, std::string_view text) {
  return mix(hash, std::hash<std::string_view>{}(text));
}

uint64_t hash_of(const sample_key& key) {
  uint64_t hash = key.stack.leaf_is_exact ? 1 : 2;
  if (key.stack.truncated) hash += 4;
  for (uintptr_t pc : key.stack.pcs) hash = mix(hash, pc);
  if (key.labels != nullptr) {
    for (const auto& [name, value] : *key.labels) hash = mix(mix(hash, name), value);
  }
  for (const numeric_label& number : key.numbers) {
    hash = mix(mix(mix(hash, number.key), static_cast<uint64_t>(number.value)), number.unit);
  }
  return key.pseudo_frame.empty() ? hash : mix(hash, key.pseudo_frame);
}

bool same(const sample& s, const sample_key& key) {
  static const label_list no_labels;
  return s.leaf_is_exact == key.stack.leaf_is_exact && s.truncated == key.stack.truncated &&
         s.pseudo_frame == key.pseudo_frame && std::ranges::equal(s.pcs, key.stack.pcs) &&
         s.labels == (key.labels != nullptr ? *key.labels : no_labels) &&
         std::ranges::equal(s.numbers, key.numbers);
}

}  // namespace

int64_t saturating_add(int64_t a, int64_t b) {
  int64_t sum = 0;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return b > 0 ? std::numeric_limits<int64_t>::max() : std::numeric_limits<int64_t>::min();
}

sample_set::sample_set(size_t values_per_sample) : values_per_sample_(values_per_sample) {
  if (values_per_sample == 0) throw std::invalid_argument("sample_set: 0 values per sample");
}

size_t sample_set::find_slot(const sample_key& key, uint64_t hash) const {
  const size_t mask = table_.size() - 1;
  size_t slot = hash & mask;
  while (table_[slot] != 0) {
    const size_t index = table_[slot] - 1;
    if (hashes_[index] == hash && same(samples_[index], key)) break;
    slot = (slot + 1) & mask;
  }
  return slot;
}

void sample_set::grow() {
  const size_t slots = std::max(initial_slots, table_.size() * 2);
  table_.assign(slots, 0);
  for (size_t i = 0; i < hashes_.size(); ++i) {
    size_t slot = hashes_[i] & (slots - 1);
    while (table_[slot] != 0) slot = (slot + 1) & (slots - 1);
    table_[slot] = static_cast<uint32_t>(i + 1);
  }
}

void sample_set::add(const sample_key& key, std::span<const int64_t> values) {
  if (values.size() != values_per_sample_) {
    throw std::invalid_argument("sample_set: got " + std::to_string(values.size()) +
                                " values, this profile has " + std::to_string(values_per_sample_));
  }
  if ((samples_.size() + 1) * 4 > table_.size() * 3) grow();
  const uint64_t hash = hash_of(key);
  uint32_t& entry = table_[find_slot(key, hash)];
  if (entry != 0) {
    std::vector<int64_t>& sums = samples_[entry - 1].values;
    for (size_t i = 0; i < values.size(); ++i) sums[i] = saturating_add(sums[i], values[i]);
    return;
  }
  sample added;
  added.pcs.assign(key.stack.pcs.begin(), key.stack.pcs.end());
  added.leaf_is_exact = key.stack.leaf_is_exact;
  added.truncated = key.stack.truncated;
  added.pseudo_frame = key.pseudo_frame;
  added.values.assign(values.begin(), values.end());
  if (key.labels != nullptr) added.labels = *key.labels;
  added.numbers.assign(key.numbers.begin(), key.numbers.end());
  samples_.push_back(std::move(added));
  hashes_.push_back(hash);
  entry = static_cast<uint32_t>(samples_.size());
}

std::vector<sample> sample_set::take() {
  hashes_.clear();
  table_.clear();
  return std::exchange(samples_, {});
}

}  // namespace weft::prof
