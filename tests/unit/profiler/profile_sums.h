#pragma once
// Sums over the samples of an encoded profile, for tests that know what they should be.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/unit/profiler/profile_check.h"

namespace weft::prof::test {

// Whether a function whose name contains `part` is on the sample's stack.
inline bool goes_through(const pb::Profile& p, const pb::Sample& s, std::string_view part) {
  for (uint64_t id : s.location_id()) {
    for (const pb::Location& l : p.location()) {
      if (l.id() != id) continue;
      for (const pb::Line& line : l.line()) {
        for (const pb::Function& f : p.function()) {
          if (f.id() != line.function_id()) continue;
          if (p.string_table(static_cast<int>(f.name())).find(part) != std::string::npos)
            return true;
        }
      }
    }
  }
  return false;
}

// "key=text key:number …", sorted.
inline std::string labels_text(const pb::Profile& p, const pb::Sample& s) {
  std::vector<std::string> all;
  const auto text = [&](int64_t i) { return p.string_table(static_cast<int>(i)); };
  for (const pb::Label& l : s.label())
    all.push_back(text(l.key()) +
                  (l.str() != 0 ? "=" + text(l.str()) : ":" + std::to_string(l.num())));
  std::sort(all.begin(), all.end());
  std::string out;
  for (const std::string& one : all) out += (out.empty() ? "" : " ") + one;
  return out;
}

// The values of all samples that go through a function whose name contains `part`, summed.
inline std::vector<int64_t> sums_by_function(std::string_view bytes, std::string_view part) {
  const pb::Profile p = decode_profile(bytes);
  std::vector<int64_t> sums(static_cast<size_t>(p.sample_type_size()));
  for (const pb::Sample& s : p.sample()) {
    if (!goes_through(p, s, part)) continue;
    for (int i = 0; i < s.value_size(); ++i) sums[static_cast<size_t>(i)] += s.value(i);
  }
  return sums;
}

}  // namespace weft::prof::test
