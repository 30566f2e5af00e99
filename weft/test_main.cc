// main() for GoogleTest programs: GoogleTest's own flags, and the profile flags of `go test`. Tests
// call weft::run themselves, as often as they like.
#include <gtest/gtest.h>

#include <cstdio>
#include <stdexcept>

#include "weft/profile_flags.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  weft::main_program::profile_flags flags;
  try {
    flags.take(argc, argv);
    if (argc > 1) throw std::invalid_argument("unknown argument " + std::string(argv[1]));
  } catch (const std::invalid_argument& e) {
    std::fprintf(stderr, "%s; known beside GoogleTest's:\n%s", e.what(), flags.help().data());
    return 2;
  }
  return weft::main_program::with_profiles(flags, [] { return RUN_ALL_TESTS(); });
}
