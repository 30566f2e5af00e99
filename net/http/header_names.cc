#include "net/http/header_names.h"

#include <array>
#include <cstring>

#include "net/http/ascii.h"

namespace weft::http::detail {
namespace {

struct known_name {
  std::string_view text;
  known_header id = known_header::other;
};

constexpr known_name known_names[] = {
#define WEFT_HTTP_ENTRY(id, text) {text, known_header::id},
    WEFT_HTTP_KNOWN_HEADERS(WEFT_HTTP_ENTRY)
#undef WEFT_HTTP_ENTRY
};

constexpr std::size_t table_size = 256;

// Length, first and last letter separate nearly all of the table; what still collides probes on.
constexpr std::size_t slot_of(std::string_view name) {
  auto first = static_cast<std::size_t>(lower(name.front()));
  auto last = static_cast<std::size_t>(lower(name.back()));
  return (name.size() * 7 + first * 31 + last * 131) % table_size;
}

constexpr std::array<std::uint8_t, table_size> make_table() {
  std::array<std::uint8_t, table_size> table{};
  for (std::size_t i = 0; i < std::size(known_names); ++i) {
    std::size_t slot = slot_of(known_names[i].text);
    while (table[slot] != 0) slot = (slot + 1) % table_size;
    table[slot] = static_cast<std::uint8_t>(i + 1);
  }
  return table;
}
constexpr std::array<std::uint8_t, table_size> table = make_table();

// Whether `name` is `known` in any case, eight bytes a step. `known` holds a-z, 0-9 and '-' only,
// so setting bit 5 folds case; the one false friend, CR for '-', is no token and cannot get here.
bool matches(std::string_view known, std::string_view name) {
  constexpr std::uint64_t fold = 0x2020202020202020;
  if (known.size() != name.size()) return false;
  if (known.size() < 8) {
    for (std::size_t i = 0; i < known.size(); ++i) {
      if ((name[i] | 0x20) != known[i]) return false;
    }
    return true;
  }
  for (std::size_t i = 0;;) {
    std::uint64_t a, b;
    std::memcpy(&a, known.data() + i, 8);
    std::memcpy(&b, name.data() + i, 8);
    if ((b | fold) != a) return false;
    if (i + 8 == known.size()) return true;
    i = i + 16 <= known.size() ? i + 8 : known.size() - 8;
  }
}

}  // namespace

known_header find_known_header(std::string_view name) noexcept {
  if (name.empty()) return known_header::other;
  for (std::size_t slot = slot_of(name); table[slot] != 0; slot = (slot + 1) % table_size) {
    const known_name& candidate = known_names[table[slot] - 1];
    if (matches(candidate.text, name)) return candidate.id;
  }
  return known_header::other;
}

}  // namespace weft::http::detail
