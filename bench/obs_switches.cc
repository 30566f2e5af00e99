#include "bench/obs_switches.h"

#include <weft/pprof.h>

#include <ostream>
#include <streambuf>

namespace bench {
namespace {

class no_buffer : public std::streambuf {
  int_type overflow(int_type c) override { return c; }
  std::streamsize xsputn(const char*, std::streamsize size) override { return size; }
};

void start_cpu() {
  static no_buffer nowhere;
  static std::ostream out(&nowhere);
  weft::pprof::start_cpu_profile(out);
}
void stop_cpu() { weft::pprof::stop_cpu_profile(); }

constexpr profile_switch switches[] = {
    {"none", [] {}, [] {}},
    {"cpu", start_cpu, stop_cpu},
};

}  // namespace

const profile_switch* find_switch(std::string_view name) {
  for (const profile_switch& s : switches) {
    if (s.name == name) return &s;
  }
  return nullptr;
}

std::string switch_names() {
  std::string names;
  for (const profile_switch& s : switches)
    names += (names.empty() ? "" : ", ") + std::string(s.name);
  return names;
}

}  // namespace bench
