#pragma once
// Command line of the benchmark programs: `program subcommand --name=value ...`.
// Every reader names its default and range, so a typo or an absurd value ends the program with a
// message that says which flag and which limit, instead of silently measuring something else.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bench {

class args {
 public:
  // Parses argv[first..]. Each word must look like --name=value or --name (value "1").
  args(int argc, char** argv, int first) : program_(argv[0]) {
    for (int i = first; i < argc; ++i) {
      std::string_view word = argv[i];
      if (word.size() < 3 || word.substr(0, 2) != "--") {
        fail("expected --name=value, got '" + std::string(word) + "'");
      }
      word.remove_prefix(2);
      const auto equals = word.find('=');
      if (equals == std::string_view::npos) {
        flags_.push_back({std::string(word), "1", false});
      } else {
        flags_.push_back(
            {std::string(word.substr(0, equals)), std::string(word.substr(equals + 1)), false});
      }
    }
  }

  // Integer flag; ends the program with exit code 2 unless lowest <= value <= highest.
  long num(std::string_view name, long fallback, long lowest, long highest) {
    const std::string text = str(name, std::to_string(fallback));
    char* end = nullptr;
    const long value = std::strtol(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0' || value < lowest || value > highest) {
      fail("--" + std::string(name) + "=" + text + " is not a number from " +
           std::to_string(lowest) + " to " + std::to_string(highest));
    }
    return value;
  }

  std::string str(std::string_view name, std::string fallback) {
    for (auto& each : flags_) {
      if (each.name == name) {
        each.used = true;
        fallback = each.value;
      }
    }
    return fallback;
  }

  // To be called after the last num()/str(): a flag nobody asked for is an error.
  void finish() const {
    for (const auto& each : flags_) {
      if (!each.used) fail("unknown flag --" + each.name);
    }
  }

  [[noreturn]] void fail(const std::string& why) const {
    std::fprintf(stderr, "%s: %s\n", program_, why.c_str());
    std::exit(2);
  }

 private:
  struct flag {
    std::string name;
    std::string value;
    bool used;
  };
  const char* program_;
  std::vector<flag> flags_;
};

}  // namespace bench
