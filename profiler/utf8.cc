#include "profiler/utf8.h"

namespace weft::prof {

decoded_rune decode_rune(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return {lead, 1, false};
  uint32_t rune = lead & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {lead, 1, false};
    rune = rune << 6 | (byte(i) & 0x3fu);
  }
  const bool overlong = (length == 3 && rune < 0x800) || (length == 4 && rune < 0x10000);
  const bool surrogate = rune >= 0xd800 && rune < 0xe000;
  if (overlong || surrogate || rune > 0x10ffff) return {lead, 1, false};
  return {rune, length, true};
}

size_t rune_count(std::string_view text) {
  size_t count = 0;
  while (!text.empty()) {
    text.remove_prefix(decode_rune(text).length);
    ++count;
  }
  return count;
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const decoded_rune d = decode_rune(text);
    out += d.valid ? text.substr(0, d.length) : std::string_view("\xef\xbf\xbd");
    text.remove_prefix(d.length);
  }
  return out;
}

}  // namespace weft::prof
