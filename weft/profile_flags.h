#pragma once
// The profile flags of `go test`, for test_main.cc and bench_main.cc.
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "profiler/cpu_sampler.h"
#include "profiler/profile_files.h"

namespace weft::main_program {

class profile_flags {
 public:
  // What --help says, a line each.
  static std::string_view help();

  // Takes this class's flags out of argv: "--name=value" and "-name=value". Throws
  // std::invalid_argument naming the flag, the value and what it must be.
  void take(int& argc, char** argv);

  // Opens the files, sets the rates and begins the CPU profile. Throws weft::system_error for a
  // file that cannot be written, std::invalid_argument for a profile that this build does not have.
  void start();

  // Writes the files. Throws weft::system_error.
  void finish();

 private:
  struct output {
    prof::profile_file file;
    const prof::profile_source* profile;
  };

  std::string& value_of(std::string_view flag);

  std::vector<std::pair<std::string, std::string>> given_;
  std::unique_ptr<prof::profile_file> cpu_file_;
  std::unique_ptr<prof::cpu_consumer> cpu_;
  std::vector<output> outputs_;
};

// Runs `run` between start() and finish(). Messages go to stderr, and then the result is 2.
int with_profiles(profile_flags& flags, int (*run)());

}  // namespace weft::main_program
