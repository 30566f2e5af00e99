#pragma once
#include <string>

namespace weft::debug {

// The page of /debug/pprof/: every profile with its count, as Go's.
std::string index_page();

}  // namespace weft::debug
