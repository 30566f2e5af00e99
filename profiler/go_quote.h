#pragma once
// Go's %q: how strings are written in Go's text profiles and dumps.
#include <string>
#include <string_view>

namespace weft::prof {

// `text` in double quotes, escaped as Go 1.19's strconv.Quote does: bytes that are not UTF-8 as
// \xNN, runes that Unicode 13 does not call printable as \uNNNN or \UNNNNNNNN, the rest as it is.
std::string go_quote(std::string_view text);

// `text` in double quotes as Go's runtime prints labels in dumps: only printable ASCII stays.
std::string go_runtime_quote(std::string_view text);

}  // namespace weft::prof
