#include "weft/profile_flags.h"

#include <weft/pprof.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <stdexcept>

namespace weft::main_program {
namespace {

struct rate_flag {
  std::string_view name;
  std::string_view profile;  // whose rate it is
};
constexpr rate_flag rate_flags[] = {
    {"memprofilerate", "allocs"},
    {"blockprofilerate", "block"},
    {"mutexprofilefraction", "mutex"},
};

struct file_flag {
  std::string_view name;
  std::string_view profile;
  std::string_view rate_flag;  // recorded in full where this is not given; "" for as it is
};
constexpr file_flag file_flags[] = {
    {"memprofile", "allocs", ""},
    {"blockprofile", "block", "blockprofilerate"},
    {"mutexprofile", "mutex", "mutexprofilefraction"},
};

constexpr std::string_view names[] = {
    "cpuprofile",       "memprofile",   "memprofilerate",       "blockprofile",
    "blockprofilerate", "mutexprofile", "mutexprofilefraction", "outputdir",
};

prof::profile_source& profile_named(std::string_view profile, std::string_view flag) {
  prof::profile_source* p = prof::find_profile(profile);
  if (p == nullptr) {
    throw std::invalid_argument("--" + std::string(flag) + ": this program has no profile named " +
                                std::string(profile));
  }
  return *p;
}

int64_t whole_number(std::string_view flag, std::string_view text) {
  int64_t n = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc{} || end != text.data() + text.size() || n < 0) {
    throw std::invalid_argument("--" + std::string(flag) + "=" + std::string(text) +
                                ": it must be a whole number of at least 0");
  }
  return n;
}

}  // namespace

std::string_view profile_flags::help() {
  return "  --cpuprofile=FILE            write a CPU profile of the run\n"
         "  --memprofile=FILE            write the allocs profile at the end, after a collection\n"
         "  --memprofilerate=BYTES       mean distance of its samples; 1: every allocation\n"
         "  --blockprofile=FILE          write the block profile at the end\n"
         "  --blockprofilerate=NS        one sample per so many nanoseconds blocked (default 1: "
         "all)\n"
         "  --mutexprofile=FILE          write the mutex profile at the end\n"
         "  --mutexprofilefraction=N     one in N contentions (default 1: all)\n"
         "  --outputdir=DIR              where relative FILEs go (default: the current "
         "directory)\n";
}

std::string& profile_flags::value_of(std::string_view flag) {
  for (auto& [name, value] : given_) {
    if (name == flag) return value;
  }
  return given_.emplace_back(flag, "").second;
}

void profile_flags::take(int& argc, char** argv) {
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    std::string_view text = argv[i];
    if (text.starts_with("-")) text.remove_prefix(text.starts_with("--") ? 2 : 1);
    const size_t equals = text.find('=');
    bool ours = false;
    for (std::string_view name : names) ours = ours || text.substr(0, equals) == name;
    if (!ours || argv[i][0] != '-') {
      argv[kept++] = argv[i];
      continue;
    }
    if (equals == std::string_view::npos || equals + 1 == text.size()) {
      throw std::invalid_argument(std::string(argv[i]) + ": a value is missing; write --" +
                                  std::string(text.substr(0, equals)) + "=VALUE");
    }
    value_of(text.substr(0, equals)) = text.substr(equals + 1);
  }
  argc = kept;
  argv[argc] = nullptr;
}

void profile_flags::start() {
  const std::filesystem::path directory = value_of("outputdir");
  auto file = [&](const std::string& path) {
    return prof::profile_file((directory / path).string());
  };
  for (const rate_flag& f : rate_flags) {
    const std::string& text = value_of(f.name);
    if (text.empty()) continue;
    const int64_t rate = whole_number(f.name, text);
    if (f.profile == "allocs")
      set_mem_profile_rate(rate);
    else
      profile_named(f.profile, f.name).set_rate(rate);
  }
  for (const file_flag& f : file_flags) {
    const std::string path = value_of(f.name);
    if (path.empty()) continue;
    prof::profile_source& p = profile_named(f.profile, f.name);
    outputs_.push_back({file(path), &p});
    if (!f.rate_flag.empty() && value_of(f.rate_flag).empty()) p.set_rate(1);
  }
  if (const std::string path = value_of("cpuprofile"); !path.empty()) {
    cpu_file_ = std::make_unique<prof::profile_file>(file(path));
    cpu_ = std::make_unique<prof::cpu_consumer>(cpu_profile_rate());
  }
}

void profile_flags::finish() {
  if (cpu_ != nullptr) {
    cpu_file_->write(prof::encoded(*cpu_));
    cpu_.reset();
  }
  for (output& o : outputs_) o.file.write(prof::encoded(*o.profile, {.gc = true, .abandoned = {}}));
  outputs_.clear();
}

int with_profiles(profile_flags& flags, int (*run)()) {
  try {
    flags.start();
    const int status = run();
    flags.finish();
    return status;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}

}  // namespace weft::main_program
