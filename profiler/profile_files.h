#pragma once
// Profiles in files that nobody's code asked for: at exit, when the process dies, on a signal.
// profile_files.cc has the environment variables.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "profiler/cpu_sampler.h"
#include "profiler/profile_registry.h"

namespace weft::prof {

// A file opened early, so that one that cannot be written is known at once, and written late.
class profile_file {
 public:
  // "%p" in `path` becomes the process id, "%%" a percent sign. The file is made and emptied.
  // Throws weft::system_error that names it.
  explicit profile_file(std::string_view path);
  ~profile_file();
  profile_file(profile_file&& o) noexcept;
  profile_file(const profile_file&) = delete;

  const std::string& path() const noexcept { return path_; }
  // Puts `bytes` in the place of what the file holds. Throws weft::system_error.
  void write(std::string_view bytes);

 private:
  std::string path_;
  int fd_;
};

// The profile as it is now, gzip'ed profile.proto.
std::string encoded(const profile_source& p, const collect_options& options = {});
// What a CPU consumer collected, ended with this.
std::string encoded(cpu_consumer& consumer);

// Writes every profile but that of the CPU to `directory` as NAME.PID.NUMBER.pb.gz, with a new
// number each time; '/' in a name becomes '_'. What cannot be written is said on stderr. Returns
// how many files were written.
size_t write_all_profiles(const std::string& directory);

// Opens the files that the environment names, begins the CPU profile, and arranges for all of it to
// be written at exit(), by SIGQUIT and by fatal errors; takes the signals of WEFT_PROFILE_SIGNAL.
// Anything that is wrong ends the process with a message. Once, at start-up.
void install_profile_files();

// Writes them now if that has not happened yet.
void write_profile_files() noexcept;

}  // namespace weft::prof
