#pragma once
// Where text and profiles go: a file, a socket, a string.
#include <functional>
#include <string_view>

namespace weft::prof {

// Takes the next piece of the output; returns false when no more is wanted (the reader went away),
// after which the writer stops and calls it no more.
using text_sink = std::function<bool(std::string_view)>;

}  // namespace weft::prof
