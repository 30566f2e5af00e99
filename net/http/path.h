#pragma once
// Paths: decoding, dot segments, what may stand in a Location field.
#include <string>
#include <string_view>

namespace weft::http::detail {

// Removes empty, "." and ".." segments, the latter with their parents, never above the root; dot
// segments count in percent-encoded form too. Keeps a trailing slash. "/a//b/./../c/" -> "/a/c/".
std::string clean_path(std::string_view raw);

// True if clean_path() would return `raw` unchanged; allocates nothing.
bool is_clean_path(std::string_view raw);

// Percent-encodes what browsers or logs could misread in a Location: controls, space, backslash,
// quotes, angle brackets, bytes >= 0x80.
std::string encode_location(std::string_view location);

}  // namespace weft::http::detail
