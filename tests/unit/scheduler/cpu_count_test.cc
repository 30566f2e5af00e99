#include "scheduler/cpu_count.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "scheduler/runtime_control.h"

namespace weft::sched {
namespace {

// A tree of control groups in a directory of its own.
class cgroup_tree : public testing::Test {
 protected:
  cgroup_tree() {
    std::string pattern = (std::filesystem::temp_directory_path() / "weft-cgroup-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~cgroup_tree() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    std::filesystem::path at = root_ / path;
    std::filesystem::create_directories(at.parent_path());
    std::ofstream(at) << text;
  }
  double limit(const std::string& proc_cgroup) {
    write("proc", proc_cgroup);
    return cgroup_cpu_limit((root_ / "proc").string(), (root_ / "fs").string());
  }

  std::filesystem::path root_;
};

TEST_F(cgroup_tree, V2QuotaOfTheOwnGroup) {
  write("fs/a/b/cpu.max", "200000 100000\n");
  EXPECT_DOUBLE_EQ(limit("0::/a/b\n"), 2.0);
}

TEST_F(cgroup_tree, V2FractionalQuota) {
  write("fs/a/cpu.max", "150000 100000\n");
  EXPECT_DOUBLE_EQ(limit("0::/a\n"), 1.5);
  write("fs/a/cpu.max", "5000 100000\n");
  EXPECT_DOUBLE_EQ(limit("0::/a\n"), 0.05);
}

TEST_F(cgroup_tree, V2MaxIsNoLimit) {
  write("fs/a/cpu.max", "max 100000\n");
  EXPECT_TRUE(std::isinf(limit("0::/a\n")));
}

TEST_F(cgroup_tree, V2TighterAncestorBinds) {
  write("fs/a/b/c/cpu.max", "400000 100000\n");
  write("fs/a/b/cpu.max", "max 100000\n");
  write("fs/a/cpu.max", "50000 20000\n");
  EXPECT_DOUBLE_EQ(limit("0::/a/b/c\n"), 2.5);
  write("fs/cpu.max",
        "100000 100000\n");  // the root counts as well: a container sees its own group there
  EXPECT_DOUBLE_EQ(limit("0::/a/b/c\n"), 1.0);
}

TEST_F(cgroup_tree, V2LooserAncestorDoesNot) {
  write("fs/a/b/cpu.max", "100000 100000\n");
  write("fs/a/cpu.max", "800000 100000\n");
  EXPECT_DOUBLE_EQ(limit("0::/a/b\n"), 1.0);
}

TEST_F(cgroup_tree, V1QuotaAndAncestors) {
  const std::string proc =
      "12:memory:/x\n"
      "4:cpu,cpuacct:/a/b\n"
      "0::/unified\n";
  write("fs/cpu,cpuacct/a/b/cpu.cfs_quota_us", "300000\n");
  write("fs/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(limit(proc), 3.0);
  write("fs/cpu,cpuacct/a/cpu.cfs_quota_us", "50000\n");
  write("fs/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(limit(proc), 0.5);
}

TEST_F(cgroup_tree, V1MinusOneIsNoLimit) {
  write("fs/cpu/a/cpu.cfs_quota_us", "-1\n");
  write("fs/cpu/a/cpu.cfs_period_us", "100000\n");
  EXPECT_TRUE(std::isinf(limit("3:cpu:/a\n")));
}

TEST_F(cgroup_tree, V1OtherControllersDoNotCount) {
  write("fs/cpuset/a/cpu.cfs_quota_us", "100000\n");
  write("fs/cpuset/a/cpu.cfs_period_us", "100000\n");
  EXPECT_TRUE(std::isinf(limit("3:cpuset:/a\n")));
}

TEST_F(cgroup_tree, MissingOrBrokenFilesAreNoLimit) {
  EXPECT_TRUE(std::isinf(limit("")));
  EXPECT_TRUE(std::isinf(limit("no colons here\n0:one\n")));
  EXPECT_TRUE(std::isinf(limit("0::/nowhere\n")));
  write("fs/a/cpu.max", "garbage\n");
  EXPECT_TRUE(std::isinf(limit("0::/a\n")));
  write("fs/b/cpu.max", "100000 0\n");
  EXPECT_TRUE(std::isinf(limit("0::/b\n")));
  EXPECT_TRUE(std::isinf(cgroup_cpu_limit((root_ / "absent").string(), (root_ / "fs").string())));
}

TEST(DefaultMaxProcs, IsBoundedByTheAffinityMask) {
  if (::getenv("WEFT_MAXPROCS") != nullptr) GTEST_SKIP() << "WEFT_MAXPROCS is set";
  cpu_set_t set;
  ASSERT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
  int n = default_max_procs();
  EXPECT_GE(n, 1);
  EXPECT_LE(n, CPU_COUNT(&set));
}

}  // namespace
}  // namespace weft::sched
