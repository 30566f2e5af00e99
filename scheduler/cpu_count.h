#pragma once
#include <string>

namespace weft::sched {

// The tightest CPU quota, in CPUs, of the cgroup named by `proc_cgroup` (the format of
// /proc/self/cgroup) and of all its ancestors under `mount`; infinity when there is none.
double cgroup_cpu_limit(const std::string& proc_cgroup, const std::string& mount);

}  // namespace weft::sched
