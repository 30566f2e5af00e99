#pragma once
// Is this a profile that every reader accepts and that says nothing false about itself? For use on
// any profile the library or a server emits: EXPECT_TRUE(valid_profile(bytes)).
#include <gtest/gtest.h>
#include <zlib.h>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "profiler/proto/profile.pb.h"

namespace weft::prof::test {

// The content of a gzip file; `data` itself when it is not one.
inline std::string gunzip(std::string_view data) {
  if (!data.starts_with("\x1f\x8b")) return std::string(data);
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  std::string out;
  int result = Z_OK;
  while (result == Z_OK) {
    char chunk[16384];
    stream.next_out = reinterpret_cast<Bytef*>(chunk);
    stream.avail_out = sizeof chunk;
    result = inflate(&stream, Z_NO_FLUSH);
    out.append(chunk, sizeof chunk - stream.avail_out);
  }
  EXPECT_EQ(result, Z_STREAM_END) << "gzip stream is damaged or cut";
  EXPECT_EQ(stream.avail_in, 0u) << "bytes after the gzip stream";
  inflateEnd(&stream);
  return out;
}

inline pb::Profile decode_profile(std::string_view bytes) {
  pb::Profile profile;
  EXPECT_TRUE(profile.ParseFromString(gunzip(bytes))) << "not a profile.proto message";
  return profile;
}

// How often a field stands at the top level of a message. A parser keeps the last time_nanos and
// hides that there were two, which `go tool pprof` calls concatenated profiles.
inline int count_field(std::string_view message, uint64_t field) {
  const auto varint = [&]() {
    uint64_t value = 0;
    for (int shift = 0; !message.empty() && shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(message.front());
      message.remove_prefix(1);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  int count = 0;
  while (!message.empty()) {
    const uint64_t tag = varint();
    if (tag >> 3 == field) ++count;
    switch (tag & 7) {
      case 0:
        varint();
        break;
      case 1:
        message.remove_prefix(std::min<size_t>(8, message.size()));
        break;
      case 2:
        message.remove_prefix(std::min<size_t>(varint(), message.size()));
        break;
      case 5:
        message.remove_prefix(std::min<size_t>(4, message.size()));
        break;
      default:
        return -1;
    }
  }
  return count;
}

class profile_checker {
 public:
  explicit profile_checker(std::string_view bytes) : bytes_(gunzip(bytes)) {
    if (!profile_.ParseFromString(bytes_)) {
      report("not a profile.proto message");
      return;
    }
    check_strings();
    check_mappings();
    check_functions();
    check_locations();
    check_samples();
  }

  const std::vector<std::string>& problems() const { return problems_; }

 private:
  void report(std::string problem) { problems_.push_back(std::move(problem)); }
  void require(bool condition, const std::string& problem) {
    if (!condition) report(problem);
  }

  std::string text(int64_t index, const std::string& where) {
    if (index < 0 || index >= profile_.string_table_size()) {
      report(where + ": string index " + std::to_string(index) + " of " +
             std::to_string(profile_.string_table_size()));
      return "";
    }
    return profile_.string_table(static_cast<int>(index));
  }

  void check_strings() {
    require(profile_.string_table_size() > 0 && profile_.string_table(0).empty(),
            "string_table[0] is not \"\"");
    std::set<std::string> seen;
    for (const std::string& s : profile_.string_table()) {
      require(seen.insert(s).second, "string twice in the table: " + s);
    }
    require(count_field(bytes_, 9) <= 1, "time_nanos twice");
    text(profile_.default_sample_type(), "default_sample_type");
    for (const pb::ValueType& type : profile_.sample_type()) {
      require(!text(type.type(), "sample type").empty(), "sample type without name");
      require(!text(type.unit(), "sample type").empty(), "sample type without unit");
    }
  }

  void check_mappings() {
    for (const pb::Mapping& m : profile_.mapping()) {
      require(m.id() != 0, "mapping id 0");
      require(mappings_.emplace(m.id(), &m).second, "mapping id twice");
      require(m.memory_start() <= m.memory_limit(), "mapping ends before it starts");
      text(m.filename(), "mapping");
      text(m.build_id(), "mapping");
    }
  }

  void check_functions() {
    std::set<std::tuple<int64_t, int64_t, int64_t, int64_t>> seen;
    for (const pb::Function& f : profile_.function()) {
      require(f.id() != 0, "function id 0");
      require(functions_.emplace(f.id(), &f).second, "function id twice");
      const std::string name = text(f.name(), "function");
      const std::string system_name = text(f.system_name(), "function");
      text(f.filename(), "function");
      require(!name.empty(), "function without name");
      require(seen.emplace(f.name(), f.system_name(), f.filename(), f.start_line()).second,
              "function twice: " + name);
      // go tool pprof strips (...) and <...> from such a name.
      const bool cxx =
          name.find("::") != std::string::npos || name.find_first_of("<>[]") != std::string::npos;
      require(name != system_name || !cxx, "the tool would rewrite the name " + name);
    }
  }

  void check_locations() {
    std::map<uint64_t, std::pair<bool, bool>> mapping_use;  // id -> {used, all resolved}
    std::set<std::string> seen;
    std::set<uint64_t> used_functions;
    for (const pb::Location& l : profile_.location()) {
      const std::string where = "location " + std::to_string(l.id());
      require(l.id() != 0, "location id 0");
      require(locations_.insert(l.id()).second, "location id twice");
      std::string key = std::to_string(l.address()) + "@" + std::to_string(l.mapping_id());
      bool resolved = l.line_size() > 0;
      for (const pb::Line& line : l.line()) {
        key += "|" + std::to_string(line.function_id()) + ":" + std::to_string(line.line());
        const auto function = functions_.find(line.function_id());
        if (function == functions_.end()) {
          report(where + ": dangling function " + std::to_string(line.function_id()));
          continue;
        }
        used_functions.insert(line.function_id());
        resolved = resolved && function->second->filename() != 0 && line.line() > 0;
      }
      require(seen.insert(key).second, where + " repeats another one");
      if (l.mapping_id() == 0) continue;
      const auto mapping = mappings_.find(l.mapping_id());
      if (mapping == mappings_.end()) {
        report(where + ": dangling mapping " + std::to_string(l.mapping_id()));
        continue;
      }
      const pb::Mapping& m = *mapping->second;
      require(m.memory_limit() == 0 ||
                  (l.address() >= m.memory_start() && l.address() < m.memory_limit()),
              where + ": address outside its mapping");
      auto [use, first] = mapping_use.try_emplace(l.mapping_id(), true, false);
      use->second.second = use->second.second || resolved;
    }
    for (const auto& [id, m] : mappings_) {
      const auto use = mapping_use.find(id);
      const bool has_lines = use != mapping_use.end() && use->second.second;
      require(
          m->has_functions() == has_lines,
          "mapping " + std::to_string(id) + (has_lines ? " hides" : " claims") + " has_functions");
    }
    require(used_functions.size() == functions_.size(), "functions that no location uses");
  }

  void check_samples() {
    require(profile_.sample_size() == 0 || profile_.sample_type_size() > 0,
            "samples without types");
    std::set<std::string> seen;
    std::set<uint64_t> used_locations;
    for (const pb::Sample& s : profile_.sample()) {
      require(s.value_size() == profile_.sample_type_size(),
              "sample with " + std::to_string(s.value_size()) + " values");
      require(s.location_id_size() > 0, "sample without stack");
      std::string key;
      for (uint64_t id : s.location_id()) {
        require(locations_.contains(id), "sample with dangling location " + std::to_string(id));
        used_locations.insert(id);
        key += std::to_string(id) + " ";
      }
      for (const pb::Label& label : s.label()) {
        const std::string name = text(label.key(), "label");
        require(!name.empty(), "label without key");
        require(label.str() == 0 || label.num() == 0,
                "label " + name + " is a string and a number");
        key += "|" + name + "=" + text(label.str(), "label") + "#" + std::to_string(label.num()) +
               text(label.num_unit(), "label");
      }
      require(seen.insert(key).second, "two samples with the same stack and labels");
    }
    require(used_locations.size() == locations_.size(), "locations that no sample uses");
  }

  std::string bytes_;
  pb::Profile profile_;
  std::map<uint64_t, const pb::Mapping*> mappings_;
  std::map<uint64_t, const pb::Function*> functions_;
  std::set<uint64_t> locations_;
  std::vector<std::string> problems_;
};

inline testing::AssertionResult valid_profile(std::string_view bytes) {
  const profile_checker checker(bytes);
  if (checker.problems().empty()) return testing::AssertionSuccess();
  testing::AssertionResult result = testing::AssertionFailure();
  for (const std::string& problem : checker.problems()) result << problem << "\n";
  return result;
}

}  // namespace weft::prof::test
