// main() for Google Benchmark programs: its own flags, and the profile flags of `go test`.
// Benchmarks call weft::run themselves.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <stdexcept>

#include "weft/profile_flags.h"

int main(int argc, char** argv) {
  weft::main_program::profile_flags flags;
  try {
    flags.take(argc, argv);
    ::benchmark::Initialize(&argc, argv);
    if (argc > 1) throw std::invalid_argument("unknown argument " + std::string(argv[1]));
  } catch (const std::invalid_argument& e) {
    std::fprintf(stderr, "%s; known beside Google Benchmark's:\n%s", e.what(), flags.help().data());
    return 2;
  }
  return weft::main_program::with_profiles(flags, [] {
    ::benchmark::RunSpecifiedBenchmarks();
    ::benchmark::Shutdown();
    return 0;
  });
}
