#pragma once
// The profiles that weft_bench_obs switches on and off under load, at the rates that users would
// take. A new profile is a line in obs_switches.cc and a row in driver/rows.py.
#include <string>
#include <string_view>

namespace bench {

struct profile_switch {
  std::string_view name;
  void (*start)();
  void (*stop)();
};

// Null if there is none of that name.
const profile_switch* find_switch(std::string_view name);
// Those that are on when a program starts: so that "off" is off.
void switch_all_off();
std::string switch_names();

}  // namespace bench
