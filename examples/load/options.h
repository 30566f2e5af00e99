#pragma once
// What the load generator is asked to do.
#include <array>
#include <chrono>
#include <cstdint>
#include <string>

namespace load {

// The kinds of requests, as indices.
enum class request_kind : uint8_t { create, resolve, stats };
inline constexpr size_t kind_count = 3;
inline constexpr std::array<const char*, kind_count> kind_names = {"create", "resolve", "stats"};

enum class progress { automatic, lines, never };  // automatic: a live line if stderr is a terminal

struct options {
  std::string target = "127.0.0.1:8080";
  unsigned connections = 64;
  std::chrono::milliseconds duration{10'000};  // 0: until interrupted
  double rate = 0;  // requests per second over all connections; 0: closed loop
  std::array<unsigned, kind_count> weights = {2, 90, 8};
  unsigned links = 1000;  // created first, resolved and asked about then
  std::chrono::milliseconds timeout{5000};
  progress show = progress::automatic;
  bool json = false;
};

// Throws example::usage_error. --help prints and exits.
options parse_options(int argc, char** argv);

}  // namespace load
