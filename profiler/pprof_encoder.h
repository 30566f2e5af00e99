#pragma once
// profile.proto, the binary form of every profile.
#include <string>
#include <string_view>

#include "profiler/profile_kinds.h"
#include "profiler/symbol_source.h"

namespace weft::prof {

// The profile as one uncompressed protobuf message. Samples that show the same frames and labels
// are summed. Symbolizes, so it may take locks, allocate and read files; thread-safe. Throws
// std::invalid_argument when a sample has not exactly one value per sample type.
std::string encode(const profile_data& profile, const symbol_source& symbols = process_symbols());

// gzip at `level` 1 (fastest) to 9. Profiles are served compressed; level 1 is what Go uses.
std::string gzip(std::string_view data, int level = 1);

}  // namespace weft::prof
