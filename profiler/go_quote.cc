#include "profiler/go_quote.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "profiler/utf8.h"

namespace weft::prof {
namespace {

struct rune_range {
  uint32_t first;
  uint32_t last;
};

// Runes from U+0080 that Go 1.19 prints as they are: letters, marks, numbers, punctuation and
// symbols of Unicode 13. tests/unit/profiler/text_format_test.cc compares all of Unicode with Go's
// own answer.
constexpr rune_range printable[] = {
#include "profiler/go_printable.inc"
};

bool is_printable(uint32_t rune) {
  if (rune < 0x80) return rune >= 0x20 && rune < 0x7f;
  const auto* after =
      std::upper_bound(std::begin(printable), std::end(printable), rune,
                       [](uint32_t r, const rune_range& range) { return r < range.first; });
  return after != std::begin(printable) && rune <= (after - 1)->last;
}

void append_hex(std::string& out, uint32_t value, int digits) {
  for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4) {
    out += "0123456789abcdef"[value >> shift & 0xf];
  }
}

void append_escaped(std::string& out, uint32_t rune) {
  switch (rune) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\a':
      out += "\\a";
      return;
    case '\b':
      out += "\\b";
      return;
    case '\f':
      out += "\\f";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    case '\v':
      out += "\\v";
      return;
    default:
      break;
  }
  if (rune < 0x80) {
    out += "\\x";
    append_hex(out, rune, 2);
  } else if (rune < 0x10000) {
    out += "\\u";
    append_hex(out, rune, 4);
  } else {
    out += "\\U";
    append_hex(out, rune, 8);
  }
}

}  // namespace

std::string go_quote(std::string_view text) {
  std::string out = "\"";
  out.reserve(text.size() + 2);
  while (!text.empty()) {
    const decoded_rune d = decode_rune(text);
    if (!d.valid) {
      out += "\\x";
      append_hex(out, d.rune, 2);
    } else if (d.rune != '"' && d.rune != '\\' && is_printable(d.rune)) {
      out += text.substr(0, d.length);
    } else {
      append_escaped(out, d.rune);
    }
    text.remove_prefix(d.length);
  }
  out += '"';
  return out;
}

std::string go_runtime_quote(std::string_view text) {
  std::string out = "\"";
  for (; !text.empty(); text.remove_prefix(decode_rune(text).length)) {
    const decoded_rune d = decode_rune(text);
    const bool named =
        d.rune == '\n' || d.rune == '\r' || d.rune == '\t' || d.rune == '"' || d.rune == '\\';
    if (d.valid && !named && d.rune >= ' ' && d.rune <= '~') {
      out += static_cast<char>(d.rune);
    } else if (d.valid && (named || d.rune >= 0x80)) {
      append_escaped(out, d.rune);
    } else {
      out += "\\x";
      append_hex(out, d.rune, 2);
    }
  }
  out += '"';
  return out;
}

}  // namespace weft::prof
