#include "profiler/tab_writer.h"

#include <algorithm>

#include "profiler/utf8.h"

namespace weft::prof {
namespace {

constexpr size_t tab_width = 8;
constexpr size_t padding = 1;
constexpr size_t chunk_size = 64 * 1024;  // handed to the sink at once

}  // namespace

bool tab_writer::write(std::string_view text) {
  while (ok_ && !text.empty()) {
    const size_t newline = text.find('\n');
    if (newline == std::string_view::npos) {
      pending_ += text;
      break;
    }
    pending_ += text.substr(0, newline + 1);
    text.remove_prefix(newline + 1);
    end_line(true);
    drain(chunk_size);
  }
  return ok_;
}

bool tab_writer::flush() {
  if (ok_ && line_begin_ < pending_.size()) end_line(false);
  format_block();
  return drain(1);
}

void tab_writer::end_line(bool with_newline) {
  line l{};
  size_t begin = line_begin_;
  const size_t end = pending_.size();
  const std::string_view text = pending_;
  for (size_t tab = text.find('\t', begin); tab < end; tab = text.find('\t', begin)) {
    const std::string_view content = text.substr(begin, tab - begin);
    l.cells.push_back({begin, content.size(), rune_count(content)});
    begin = tab + 1;
  }
  l.tail_begin = begin;
  l.tail_size = end - begin;
  const bool ends_columns = l.cells.empty();
  lines_.push_back(std::move(l));
  line_begin_ = end;
  if (ends_columns || !with_newline) format_block();
}

void tab_writer::format_block() {
  // A line that has cell c has every cell before it, so runs may be found column by column.
  size_t columns = 0;
  for (const line& l : lines_) columns = std::max(columns, l.cells.size());
  for (size_t c = 0; c < columns; ++c) {
    for (size_t first = 0; first < lines_.size();) {
      size_t longest = 0;
      size_t last = first;
      while (last < lines_.size() && lines_[last].cells.size() > c) {
        longest = std::max(longest, lines_[last++].cells[c].width);
      }
      const size_t padded = (longest + padding + tab_width - 1) / tab_width * tab_width;
      for (size_t i = first; i < last; ++i) lines_[i].cells[c].padded = padded;
      first = last + 1;
    }
  }
  for (const line& l : lines_) {
    for (const cell& c : l.cells) {
      out_.append(pending_, c.begin, c.size);
      out_.append((c.padded - c.width + tab_width - 1) / tab_width, '\t');
    }
    out_.append(pending_, l.tail_begin, l.tail_size);
  }
  lines_.clear();
  pending_.erase(0, line_begin_);
  line_begin_ = 0;
}

bool tab_writer::drain(size_t threshold) {
  if (ok_ && out_.size() >= threshold) {
    ok_ = sink_(out_);
    out_.clear();
  }
  return ok_;
}

}  // namespace weft::prof
