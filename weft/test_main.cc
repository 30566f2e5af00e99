// main() for GoogleTest programs: GoogleTest's own flags, and --cpuprofile=FILE as `go test` has.
// Tests call weft::run themselves, as often as they like.
#include <gtest/gtest.h>
#include <weft/pprof.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  std::string profile;
  for (int i = 1; i < argc; ++i) {
    constexpr std::string_view flag = "--cpuprofile=";
    if (std::string_view(argv[i]).substr(0, flag.size()) == flag) {
      profile = argv[i] + flag.size();
    } else {
      std::fprintf(stderr, "unknown argument %s (known beside GoogleTest's: --cpuprofile=FILE)\n",
                   argv[i]);
      return 2;
    }
  }
  if (profile.empty()) return RUN_ALL_TESTS();
  std::ofstream out(profile, std::ios::binary);
  if (!out) {
    std::fprintf(stderr, "cannot write %s\n", profile.c_str());
    return 2;
  }
  weft::pprof::start_cpu_profile(out);
  int status = RUN_ALL_TESTS();
  weft::pprof::stop_cpu_profile();
  return status;
}
