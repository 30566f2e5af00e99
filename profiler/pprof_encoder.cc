// Encoder of profile.proto.
//
// Shape      one pass over the samples; strings, functions and locations are numbered as they are
//            met. Numbers in the file are 1-based ids; 0 means none.
// Rules that readers depend on
//   [E1] string_table[0] is "".
//   [E2] Location.address lies inside the call instruction (return address - 1), so that a reader
//        that symbolizes again gets the line of the call. An interrupted leaf pc is exact.
//   [E3] One Location per address, carrying the whole inline expansion, innermost first. The
//        exception: where a hidden frame and a visible one share an address through inlining, the
//        sample refers to a second Location of that address with the visible lines only.
//   [E4] name is for people, system_name for linkers. `go tool pprof` takes a function whose two
//        names are equal for not yet demangled: it demangles "_Z...", and from text that merely
//        looks like C++ it cuts every (...) and <...>. So the two must differ for such names. Where
//        the symbolizer knows no mangled name, system_name is left empty, which also keeps
//        `-symbolize=demangle=full` from touching the name.
//   [E5] Mapping.has_functions tells a reader not to symbolize that mapping itself: it would
//   replace
//        every name of the mapping, ours too. It is true once a location in it has name, file and
//        line: then its debug information was at hand here, and what stayed unnamed (PLT entries,
//        assembly) has none. Go's rule, every location, never holds for a C++ program.
//   [E6] mapping[0] is the main binary: readers call the profile by it. The rest is in file order.
//   [E7] A truncated stack ends in a frame named "[truncated stack]", so that it cannot be mistaken
//        for a root of the call graph. It has no address and no mapping. An empty stack is a frame
//        "[no stack]", because readers show nothing of a sample without locations.
//   [E8] A delta has no sample that is zero in all values. Two stacks that look the same after
//   hiding
//        may cancel each other, which is known only here: the rest is then encoded anew, so that
//        nothing is left that only the dropped ones referred to.
// Not done   streaming the message by hand as Go does: an aggregated profile is a few hundred
//            kilobytes, and generated code cannot get the wire format wrong.
// Tests      tests/unit/profiler/pprof_encoder_test.cc; profile_check.h beside it checks any
//            profile for these rules.
#include "profiler/pprof_encoder.h"

#include <google/protobuf/arena.h>
#include <zlib.h>

#include <algorithm>
#include <limits>
#include <map>
#include <stdexcept>
#include <tuple>
#include <unordered_map>

#include "profiler/proto/profile.pb.h"
#include "profiler/utf8.h"

namespace weft::prof {
namespace {

constexpr size_t max_message = std::numeric_limits<int32_t>::max();

bool looks_like_cxx(std::string_view name) {
  return name.find("::") != std::string_view::npos ||
         name.find_first_of("<>[]()") != std::string_view::npos;
}

// [E4]
std::string_view system_name_of(const frame& f) {
  if (f.system_name != f.name) return f.system_name;
  return looks_like_cxx(f.name) ? std::string_view() : std::string_view(f.system_name);
}

class profile_encoder {
 public:
  profile_encoder(const profile_data& profile, const symbol_source& symbols)
      : data_(profile),
        resolver_(symbols),
        out_(google::protobuf::Arena::CreateMessage<pb::Profile>(&arena_)) {
    string("");  // [E1]
    add_mappings(symbols);
  }

  std::string run() {
    for (const value_type& type : data_.sample_types) set_type(out_->add_sample_type(), type);
    std::vector<int> shown_as;  // index of the encoded sample, per sample
    for (const sample& s : data_.samples) shown_as.push_back(add_sample(s));
    if (data_.changes_only && std::ranges::any_of(out_->sample(), is_zero))
      return profile_encoder(without_zeros(shown_as), resolver_.symbols()).run();
    set_type(out_->mutable_period_type(), data_.period_type);
    out_->set_period(data_.period);
    out_->set_time_nanos(data_.time_nanos);
    out_->set_duration_nanos(data_.duration_nanos);
    out_->set_default_sample_type(string(data_.default_sample_type));
    for (int i = 0; i < out_->mapping_size(); ++i) {  // [E5]
      const mapping_state& state = mapping_states_[static_cast<size_t>(i)];
      out_->mutable_mapping(i)->set_has_functions(state.has_lines);
    }
    const size_t size = out_->ByteSizeLong();
    if (size > max_message) {
      throw std::length_error("profile of " + std::to_string(size) +
                              " bytes exceeds protobuf's limit of " + std::to_string(max_message));
    }
    return out_->SerializeAsString();
  }

 private:
  struct mapping_state {
    uintptr_t start;
    uintptr_t limit;
    bool has_lines = false;
  };

  static bool is_zero(const pb::Sample& s) {
    return std::ranges::all_of(s.value(), [](int64_t value) { return value == 0; });
  }

  // [E8]
  profile_data without_zeros(const std::vector<int>& shown_as) const {
    profile_data rest = data_;
    rest.samples.clear();
    for (size_t i = 0; i < data_.samples.size(); ++i) {
      if (!is_zero(out_->sample(shown_as[i]))) rest.samples.push_back(data_.samples[i]);
    }
    return rest;
  }

  int64_t string(std::string_view text) {
    const auto [entry, inserted] =
        strings_.try_emplace(std::string(text), out_->string_table_size());
    // Strict protobuf readers refuse a whole profile for one label that is not UTF-8.
    if (inserted) out_->add_string_table(valid_utf8(text));
    return entry->second;
  }

  void set_type(pb::ValueType* to, const value_type& type) {
    to->set_type(string(type.type));
    to->set_unit(string(type.unit));
  }

  void add_mappings(const symbol_source& symbols) {
    std::vector<mapping> mappings = symbols.mappings();
    const std::string main_binary = symbols.main_binary();
    std::stable_partition(mappings.begin(), mappings.end(), [&](const mapping& m) {  // [E6]
      return !main_binary.empty() && m.filename == main_binary;
    });
    // Without any mapping everything is in one that says nothing, as in Go.
    if (mappings.empty()) mappings.push_back({0, 0, 0, "", ""});
    for (const mapping& m : mappings) {
      pb::Mapping* to = out_->add_mapping();
      to->set_id(static_cast<uint64_t>(out_->mapping_size()));
      to->set_memory_start(m.start);
      to->set_memory_limit(m.limit);
      to->set_file_offset(m.offset);
      to->set_filename(string(m.filename));
      to->set_build_id(string(m.build_id));
      mapping_states_.push_back({m.start, m.limit});
      mapping_by_start_.emplace(m.start, mapping_states_.size() - 1);
    }
  }

  // Id of the mapping that holds `address`, 0 if none.
  uint64_t mapping_at(uintptr_t address) const {
    if (mapping_states_.size() == 1 && mapping_states_[0].limit == 0) return 1;
    auto entry = mapping_by_start_.upper_bound(address);
    if (entry == mapping_by_start_.begin()) return 0;
    --entry;
    return address < mapping_states_[entry->second].limit ? entry->second + 1 : 0;
  }

  uint64_t function(std::string_view name, std::string_view system_name, std::string_view file,
                    int start_line) {
    const auto key = std::make_tuple(string(name), string(system_name), string(file), start_line);
    const auto [entry, inserted] = functions_.try_emplace(key, functions_.size() + 1);
    if (inserted) {
      pb::Function* f = out_->add_function();
      f->set_id(entry->second);
      f->set_name(std::get<0>(key));
      f->set_system_name(std::get<1>(key));
      f->set_filename(std::get<2>(key));
      f->set_start_line(start_line);
    }
    return entry->second;
  }

  // The location of the visible part of one address's expansion. [E3]
  uint64_t location(std::span<const resolved_frame> lines) {
    const resolved_frame& inner = lines.front();
    const auto key = std::make_tuple(inner.address, inner.line, lines.back().line);
    const auto [entry, inserted] = locations_.try_emplace(key, out_->location_size() + 1);
    if (!inserted) return entry->second;
    pb::Location* to = out_->add_location();
    to->set_id(entry->second);
    to->set_address(inner.address);
    const uint64_t mapping_id = mapping_at(inner.address);
    to->set_mapping_id(mapping_id);
    bool resolved = !lines.empty();
    for (const resolved_frame& line : lines) {
      const frame& f = *line.source;
      resolved = resolved && !f.name.empty() && !f.file.empty() && f.line > 0;
      if (f.name.empty()) continue;
      pb::Line* l = to->add_line();
      l->set_function_id(function(f.name, system_name_of(f), f.file, f.start_line));
      l->set_line(f.line);
    }
    if (mapping_id != 0) {
      bool& has_lines = mapping_states_[mapping_id - 1].has_lines;
      has_lines = has_lines || resolved;
    }
    return entry->second;
  }

  // A frame that stands for no code. [E7]
  uint64_t pseudo_location(std::string_view name) {
    const auto [entry, inserted] =
        pseudo_locations_.try_emplace(std::string(name), out_->location_size() + 1);
    if (inserted) {
      pb::Location* to = out_->add_location();
      to->set_id(entry->second);
      to->add_line()->set_function_id(function(name, "", "", 0));
    }
    return entry->second;
  }

  std::vector<uint64_t> locations_of(const sample& s) {
    std::vector<uint64_t> ids;
    const std::span<const resolved_frame> frames = resolver_.resolve(s.stack(), data_.leaf);
    for (size_t first = 0; first < frames.size();) {
      size_t last = first + 1;
      while (last < frames.size() && frames[last].position == frames[first].position) ++last;
      ids.push_back(location(frames.subspan(first, last - first)));
      first = last;
    }
    if (s.truncated) ids.push_back(pseudo_location("[truncated stack]"));
    if (!s.pseudo_frame.empty()) ids.push_back(pseudo_location(s.pseudo_frame));
    if (ids.empty()) ids.push_back(pseudo_location("[no stack]"));
    return ids;
  }

  // Returns the index of the encoded sample.
  int add_sample(const sample& s) {
    if (s.values.size() != data_.sample_types.size()) {
      throw std::invalid_argument("profile sample has " + std::to_string(s.values.size()) +
                                  " values, the profile has " +
                                  std::to_string(data_.sample_types.size()) + " sample types");
    }
    const std::vector<uint64_t> ids = locations_of(s);
    // Everything that tells one sample from another, as numbers: hidden frames may have made two
    // different stacks equal.
    std::vector<int64_t> key(ids.begin(), ids.end());
    key.push_back(0);
    for (const auto& [name, value] : s.labels) key.insert(key.end(), {string(name), string(value)});
    key.push_back(-1);
    for (const numeric_label& n : s.numbers) {
      key.insert(key.end(), {string(n.key), n.value, string(n.unit)});
    }
    const auto [entry, inserted] = samples_.try_emplace(std::move(key), out_->sample_size());
    if (!inserted) {
      pb::Sample* to = out_->mutable_sample(entry->second);
      for (size_t i = 0; i < s.values.size(); ++i) {
        const int index = static_cast<int>(i);
        to->set_value(index, saturating_add(to->value(index), s.values[i]));
      }
      return entry->second;
    }
    pb::Sample* to = out_->add_sample();
    to->mutable_location_id()->Add(ids.begin(), ids.end());
    to->mutable_value()->Add(s.values.begin(), s.values.end());
    for (const auto& [name, value] : s.labels) {
      pb::Label* label = to->add_label();
      label->set_key(string(name));
      label->set_str(string(value));
    }
    for (const numeric_label& n : s.numbers) {
      pb::Label* label = to->add_label();
      label->set_key(string(n.key));
      label->set_num(n.value);
      label->set_num_unit(string(n.unit));
    }
    return entry->second;
  }

  struct key_hash {
    size_t operator()(const std::vector<int64_t>& key) const {
      uint64_t hash = key.size();
      for (int64_t part : key) {
        hash = (hash ^ static_cast<uint64_t>(part)) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
      }
      return hash;
    }
  };

  const profile_data& data_;
  stack_resolver resolver_;
  google::protobuf::Arena arena_;
  pb::Profile* out_;
  std::unordered_map<std::string, int64_t> strings_;
  std::vector<mapping_state> mapping_states_;     // mapping id - 1
  std::map<uintptr_t, size_t> mapping_by_start_;  // index into mapping_states_
  std::map<std::tuple<int64_t, int64_t, int64_t, int>, uint64_t> functions_;
  std::map<std::tuple<uintptr_t, uint32_t, uint32_t>, uint64_t> locations_;
  std::unordered_map<std::string, uint64_t> pseudo_locations_;
  std::unordered_map<std::vector<int64_t>, int, key_hash> samples_;
};

}  // namespace

std::string encode(const profile_data& profile, const symbol_source& symbols) {
  return profile_encoder(profile, symbols).run();
}

std::string gzip(std::string_view data, int level) {
  constexpr int gzip_window_bits = 15 + 16;
  constexpr int default_memory_level = 8;
  if (level < 1 || level > 9) {
    throw std::invalid_argument("gzip level " + std::to_string(level) + " is outside 1 to 9");
  }
  z_stream stream{};
  if (deflateInit2(&stream, level, Z_DEFLATED, gzip_window_bits, default_memory_level,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::bad_alloc();
  }
  std::string out;
  out.resize(deflateBound(&stream, data.size()));
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  // The output has room for the worst case, so one call finishes.
  const int result = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  if (result != Z_STREAM_END) throw std::runtime_error("gzip: deflate failed");
  return out;
}

}  // namespace weft::prof
