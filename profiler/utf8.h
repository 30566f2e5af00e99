#pragma once
// Decoding UTF-8 the way Go does: a byte that is not part of a valid sequence counts as one rune.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace weft::prof {

struct decoded_rune {
  uint32_t rune;  // the byte's value when it is not valid
  size_t length;  // in bytes, at least 1
  bool valid;
};

// The first rune of `text`, which must not be empty.
decoded_rune decode_rune(std::string_view text);

size_t rune_count(std::string_view text);

// `text` with each invalid byte replaced by U+FFFD: what protobuf strings demand.
std::string valid_utf8(std::string_view text);

}  // namespace weft::prof
