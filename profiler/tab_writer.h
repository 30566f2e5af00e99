#pragma once
// Aligned columns, byte for byte as Go's text/tabwriter with minwidth 1, tabwidth 8, padding 1 and
// padchar tab, which is how Go aligns its text profiles.
//
// Each line is split at tabs; what follows the last tab is not a column. A column is a maximal run
// of consecutive lines that have a cell there, and is as wide as its longest cell plus one, rounded
// up to a multiple of eight. Cells are padded with tabs. A line without tabs ends every column, so
// nothing before it needs to be kept.
#include <string>
#include <string_view>
#include <vector>

#include "profiler/text_sink.h"

namespace weft::prof {

class tab_writer {
 public:
  explicit tab_writer(text_sink sink) : sink_(std::move(sink)) {}

  // Appends text: any number of whole and partial lines. False once the sink refused.
  bool write(std::string_view text);

  // Emits what is pending; a last line needs no newline. False once the sink refused.
  bool flush();

 private:
  struct cell {
    size_t begin;  // into pending_
    size_t size;
    size_t width;  // in runes
    size_t padded = 0;
  };
  struct line {
    std::vector<cell> cells;
    size_t tail_begin;
    size_t tail_size;  // with the newline, if there is one
  };

  void end_line(bool with_newline);
  void format_block();
  bool drain(size_t threshold);

  text_sink sink_;
  std::string pending_;    // text of lines_ and of the unfinished line
  size_t line_begin_ = 0;  // of the unfinished line, in pending_
  std::vector<line> lines_;
  std::string out_;
  bool ok_ = true;
};

}  // namespace weft::prof
