#pragma once
// The profiles that a program makes with pprof::profile::create(). user_profile.cc has the rules.
#include <string_view>
#include <vector>

#include "profiler/profile_registry.h"

namespace weft::prof {

// The program's profile of that name, or null.
profile_source* find_user_profile(std::string_view name);

// Appends all of them, in no order.
void append_user_profiles(std::vector<profile_source*>& to);

}  // namespace weft::prof
