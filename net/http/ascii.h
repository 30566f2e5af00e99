#pragma once
// Character classes of RFC 9110/9112 as one table lookup, and case-insensitive comparison.
#include <array>
#include <cstdint>
#include <string_view>

namespace weft::http::detail {

enum char_class : std::uint8_t {
  class_token = 1,    // tchar: field names, methods, codings
  class_digit = 2,    // 0-9
  class_hex = 4,      // 0-9 a-f A-F
  class_host = 8,     // unreserved and sub-delims except ',' (a list in Host is two hosts merged)
  class_target = 16,  // 0x21-0x7e
  class_mark = 32     // bytes of a target that need a second look: '#' '%' '?' and >= 0x80
};

constexpr std::array<std::uint8_t, 256> make_char_classes() {
  std::array<std::uint8_t, 256> table{};
  auto mark = [&table](std::string_view chars, unsigned bits) {
    for (char c : chars) {
      auto& entry = table[static_cast<unsigned char>(c)];
      entry = static_cast<std::uint8_t>(entry | bits);
    }
  };
  mark("!#$%&'*+-.^_`|~", class_token);
  mark("0123456789", class_token | class_digit | class_hex | class_host);
  mark("abcdefABCDEF", class_hex);
  mark("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", class_token | class_host);
  mark("-._~!$&'()*+;=", class_host);
  mark("#%?", class_mark);
  for (unsigned c = 0x80; c <= 0xff; ++c) table[c] = class_mark;
  for (unsigned c = 0x21; c <= 0x7e; ++c) {
    table[c] = static_cast<std::uint8_t>(table[c] | class_target);
  }
  return table;
}
inline constexpr std::array<std::uint8_t, 256> char_classes = make_char_classes();

constexpr bool is_class(char c, char_class bit) {
  return (char_classes[static_cast<unsigned char>(c)] & bit) != 0;
}
constexpr bool is_token(std::string_view text) {
  for (char c : text) {
    if (!is_class(c, class_token)) return false;
  }
  return !text.empty();
}

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }
constexpr bool equals_nocase(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

// Value of a hexadecimal digit, or -1.
constexpr int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  char l = lower(c);
  return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

// Removes optional white space (SP, HTAB) at both ends.
constexpr std::string_view trim_ows(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Calls f(element) for each element of a comma-separated list, white space trimmed, empty elements
// included; stops early when f returns false. Returns false if f did.
template <class F>
constexpr bool for_each_list_element(std::string_view list, F f) {
  for (;;) {
    std::size_t comma = list.find(',');
    if (!f(trim_ows(list.substr(0, comma)))) return false;
    if (comma == std::string_view::npos) return true;
    list.remove_prefix(comma + 1);
  }
}

}  // namespace weft::http::detail
