// How many processors this process may use: affinity and cgroup CPU quota.
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "base/check.h"
#include "base/options.h"
#include "scheduler/cpu_count.h"
#include "scheduler/runtime_control.h"

namespace weft::sched {
namespace {

constexpr int most_procs = 1024;

int affinity_cpus() {
  // Machines with more CPUs than a fixed cpu_set_t need a larger mask; the kernel says EINVAL then.
  for (int size = CPU_SETSIZE; size <= 65536; size *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(size));
    size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(size));
    int n = ::sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (n > 0) return n;
  }
  return 1;
}

// Lowers `limit` to the quota of the group at `dir`, if it has one.
void apply_group(const std::string& dir, double& limit) {
  // cgroup 2: "max 100000" or "150000 100000". cgroup 1: two files, quota -1 for none.
  double quota = -1;
  double period = 0;
  std::string word;
  if (std::ifstream f(dir + "/cpu.max"); f >> word >> period) {
    if (word != "max") quota = std::atof(word.c_str());
  } else {
    std::ifstream q(dir + "/cpu.cfs_quota_us");
    std::ifstream p(dir + "/cpu.cfs_period_us");
    if (!(q >> quota) || !(p >> period)) return;
  }
  if (quota > 0 && period > 0) limit = std::min(limit, quota / period);
}

}  // namespace

double cgroup_cpu_limit(const std::string& proc_cgroup, const std::string& mount) {
  double limit = INFINITY;
  std::ifstream f(proc_cgroup);
  std::string line;
  while (std::getline(f, line)) {
    // "0::/path" (version 2) or "4:cpu,cpuacct:/path" (version 1)
    size_t first = line.find(':');
    size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string path = line.substr(second + 1);
    std::string root = mount;
    if (controllers != ",,") {
      if (controllers.find(",cpu,") == std::string::npos) continue;
      root += "/" + line.substr(first + 1, second - first - 1);
    }
    // A tighter limit of any ancestor binds as well.
    for (;;) {
      apply_group(root + path, limit);
      size_t slash = path.rfind('/');
      if (slash == std::string::npos || path.empty()) break;
      path.resize(slash);
    }
  }
  return limit;
}

int default_max_procs() {
  std::string_view wanted = base::option_value(base::option::WEFT_MAXPROCS);
  if (!wanted.empty()) {
    char* end = nullptr;
    std::string text(wanted);
    long n = std::strtol(text.c_str(), &end, 10);
    if (*end == 0 && n >= 1 && n <= most_procs) return static_cast<int>(n);
    base::log_line("WEFT_MAXPROCS=%s ignored: it must be a number from 1 to %d", text.c_str(),
                   most_procs);
  }
  int cpus = affinity_cpus();
  double limit = cgroup_cpu_limit("/proc/self/cgroup", "/sys/fs/cgroup");
  if (limit < cpus) cpus = std::max(1, static_cast<int>(std::ceil(limit)));
  return std::min(cpus, most_procs);
}

}  // namespace weft::sched
