#include "bench/obs_switches.h"

#include <weft/pprof.h>

#include <cstdint>
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
constexpr std::int64_t default_mem_rate = 512 * 1024;
constexpr std::int64_t default_wait_ns = 10'000'000;

void stop_cpu() { weft::pprof::stop_cpu_profile(); }

// What programs run with that have no defaults to go by: waits of 10 us and more, one contention in
// a hundred. As in bench/peers/go/obs.go.
void start_all() {
  start_cpu();
  weft::set_mem_profile_rate(default_mem_rate);
  weft::set_wait_profile_rate(default_wait_ns);
  weft::set_block_profile_rate(10'000);
  weft::set_mutex_profile_fraction(100);
}
void stop_all() {
  weft::set_mutex_profile_fraction(0);
  weft::set_block_profile_rate(0);
  weft::set_wait_profile_rate(0);
  weft::set_mem_profile_rate(0);
  stop_cpu();
}

constexpr profile_switch switches[] = {
    {"none", [] {}, [] {}},
    {"cpu", start_cpu, stop_cpu},
    {"heap", [] { weft::set_mem_profile_rate(default_mem_rate); },
     [] { weft::set_mem_profile_rate(0); }},
    {"block1", [] { weft::set_block_profile_rate(1); }, [] { weft::set_block_profile_rate(0); }},
    {"mutex", [] { weft::set_mutex_profile_fraction(100); },
     [] { weft::set_mutex_profile_fraction(0); }},
    {"wait", [] { weft::set_wait_profile_rate(default_wait_ns); },
     [] { weft::set_wait_profile_rate(0); }},
    {"wait1", [] { weft::set_wait_profile_rate(1); }, [] { weft::set_wait_profile_rate(0); }},
    {"taskcreate100", [] { weft::set_task_create_profile_rate(100); },
     [] { weft::set_task_create_profile_rate(0); }},
    {"taskcreate1", [] { weft::set_task_create_profile_rate(1); },
     [] { weft::set_task_create_profile_rate(0); }},
    {"all", start_all, stop_all},
};

}  // namespace

const profile_switch* find_switch(std::string_view name) {
  for (const profile_switch& s : switches) {
    if (s.name == name) return &s;
  }
  return nullptr;
}

void switch_all_off() {
  weft::set_mem_profile_rate(0);
  weft::set_wait_profile_rate(0);
}

std::string switch_names() {
  std::string names;
  for (const profile_switch& s : switches)
    names += (names.empty() ? "" : ", ") + std::string(s.name);
  return names;
}

}  // namespace bench
