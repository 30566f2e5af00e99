#include "profiler/text_format.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "profiler/go_quote.h"

namespace weft::prof {
namespace {

// One record before it is written: sorted by `rank`, then by `key`.
struct record {
  int64_t rank;
  std::string key;
  const sample* source;
};

void append_hex(std::string& out, uintptr_t value) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof digits, value, 16).ptr;
  out += "0x";
  out.append(digits, end);
}

std::string record_key(const sample& s) {
  std::string key = stack_text(s.stack());
  if (!s.labels.empty()) key += "\n# labels: " + label_text(s.labels);
  return key;
}

std::vector<record> sorted_records(std::span<const sample> samples, size_t rank_value) {
  std::vector<record> records;
  records.reserve(samples.size());
  for (const sample& s : samples) records.push_back({s.values.at(rank_value), record_key(s), &s});
  std::stable_sort(records.begin(), records.end(), [](const record& a, const record& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.key < b.key;
  });
  return records;
}

template <typename Header>
bool write_records(const text_sink& sink, const std::string& title, std::vector<record> records,
                   const symbol_source& symbols, leaf_frames leaf, std::string_view trailer,
                   Header header) {
  tab_writer out(sink);
  stack_resolver resolver(symbols);
  bool ok = out.write(title);
  std::string text;
  for (const record& r : records) {
    if (!ok) return false;
    text.clear();
    header(text, *r.source);
    text += r.key;
    text += '\n';
    append_stack_record(text, *r.source, resolver, leaf);
    ok = out.write(text);
  }
  return ok && out.write(trailer) && out.flush();
}

}  // namespace

std::string label_text(const label_list& labels) {
  std::vector<std::string> entries;
  entries.reserve(labels.size());
  for (const auto& [key, value] : labels) entries.push_back(go_quote(key) + ":" + go_quote(value));
  std::sort(entries.begin(), entries.end());
  std::string out = "{";
  for (const std::string& entry : entries) {
    if (out.size() > 1) out += ", ";
    out += entry;
  }
  out += '}';
  return out;
}

std::string stack_text(const stack_view& stack) {
  std::string out = "@";
  for (size_t i = 0; i < stack.pcs.size(); ++i) {
    out += ' ';
    append_hex(out, stack.return_address(i));
  }
  if (stack.pcs.empty()) out += " 0x1";
  return out;
}

void append_stack_record(std::string& out, const sample& s, stack_resolver& resolver,
                         leaf_frames leaf) {
  for (const resolved_frame& f : resolver.resolve(s.stack(), leaf)) {
    out += "#\t";
    append_hex(out, f.address);
    if (!f.source->name.empty()) {
      out += '\t';
      out += f.source->name;
      out += '+';
      const bool has_entry = f.source->entry != 0 && f.source->entry <= f.address;
      append_hex(out, has_entry ? f.address - f.source->entry : 0);
      out += '\t';
      out += f.source->file.empty() ? "?" : f.source->file;
      out += ':';
      out += std::to_string(f.source->line);
    }
    out += '\n';
  }
  if (s.truncated) out += "# stack truncated\n";
  if (!s.pseudo_frame.empty()) out += "# " + s.pseudo_frame + "\n";
  out += '\n';
}

bool write_count_text(const text_sink& sink, std::string_view name, std::span<const sample> samples,
                      const symbol_source& symbols) {
  int64_t total = 0;
  for (const sample& s : samples) total = saturating_add(total, s.values.at(0));
  const std::string title = std::string(name) + " profile: total " + std::to_string(total) + "\n";
  return write_records(
      sink, title, sorted_records(samples, 0), symbols, leaf_frames::hide_runtime, "",
      [](std::string& out, const sample& s) { out += std::to_string(s.values[0]) + " "; });
}

bool write_contention_text(const text_sink& sink, const contention_text_options& options,
                           std::span<const sample> samples, const symbol_source& symbols) {
  std::string title = "--- " + std::string(options.name) +
                      ":\ncycles/second=" + std::to_string(options.cycles_per_second) + "\n";
  if (options.sampling_period != 0) {
    title += "sampling period=" + std::to_string(options.sampling_period) + "\n";
  }
  return write_records(sink, title, sorted_records(samples, 1), symbols, leaf_frames::hide_runtime,
                       "", [](std::string& out, const sample& s) {
                         out +=
                             std::to_string(s.values[1]) + " " + std::to_string(s.values[0]) + " ";
                       });
}

bool write_heap_text(const text_sink& sink, const heap_text_options& options,
                     std::span<const sample> samples, const symbol_source& symbols) {
  const auto counts = [](int64_t live_objects, int64_t live_bytes, int64_t all_objects,
                         int64_t all_bytes) {
    return std::to_string(live_objects) + ": " + std::to_string(live_bytes) + " [" +
           std::to_string(all_objects) + ": " + std::to_string(all_bytes) + "] ";
  };
  int64_t total[4] = {};
  for (const sample& s : samples) {
    for (size_t i = 0; i < 4; ++i) total[i] = saturating_add(total[i], s.values.at(i));
  }
  // Equal byte counts would make the reader take the file for a profile with two columns.
  const int64_t all_bytes = saturating_add(total[1], total[1] == total[3] ? 1 : 0);
  const std::string title = "heap profile: " + counts(total[2], total[3], total[0], all_bytes) +
                            "@ heap/" + std::to_string(2 * options.rate) + "\n";
  return write_records(sink, title, sorted_records(samples, 3), symbols,
                       leaf_frames::hide_allocation, options.trailer,
                       [&](std::string& out, const sample& s) {
                         out += counts(s.values[2], s.values[3], s.values[0], s.values[1]);
                       });
}

}  // namespace weft::prof
