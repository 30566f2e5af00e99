// One test per world; --mutant PREFIX, for a build with a fault, succeeds if a world whose name
// begins so finds it. WEFT_MODEL_DEEP=1 takes one preemption more; WEFT_MODEL_HOURS=n walks at
// random for n hours, shared among the worlds, from WEFT_MODEL_SEED (default: the time).
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <ratio>
#include <string>

#include "tests/model/real/explorer.h"

namespace weft::model {
namespace {

const char* variable(const char* name) {
  const char* v = std::getenv(name);
  return v != nullptr && *v != 0 && std::strcmp(v, "0") != 0 ? v : nullptr;
}

void walk_for_hours(const world_entry& e, double hours) {
  const char* from = variable("WEFT_MODEL_SEED");
  uint64_t seed = from != nullptr ? std::strtoull(from, nullptr, 10)
                                  : static_cast<uint64_t>(std::time(nullptr)) << 20;
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::duration_cast<std::chrono::nanoseconds>(
                       std::chrono::duration<double, std::ratio<3600>>(hours));
  uint64_t walks = 0;
  std::cout << "    " << e.name << ": seeds from " << seed << std::endl;
  do {
    verdict v = explore_random(e.build, 10'000, seed + walks);
    walks += v.random_walks;
    ASSERT_TRUE(v.right) << v.why << "\n" << v.trace;
  } while (std::chrono::steady_clock::now() < end);
  std::cout << "    " << walks << " random walks" << std::endl;
}

class real_code : public testing::Test {
 public:
  explicit real_code(const world_entry& e) : entry_(e) {}
  void TestBody() override {
    effort e;
    if (variable("WEFT_MODEL_DEEP") != nullptr) {
      e.preemptions = 3;
      e.executions = 20'000'000;
    }
    verdict v = explore(entry_.build, e);
    EXPECT_TRUE(v.right) << v.why << "\n" << v.trace;
    if (!v.right) return;
    EXPECT_EQ(v.bound, e.preemptions) << "not searched to the end in " << v.executions;
    std::cout << "    " << v.executions << " executions with up to " << v.bound
              << " preemptions, and " << v.random_walks << " random walks\n";
    if (const char* hours = variable("WEFT_MODEL_HOURS"))
      walk_for_hours(entry_, std::atof(hours) / static_cast<double>(worlds().size()));
  }

 private:
  world_entry entry_;
};

// A fault may as well destroy memory before a check sees it: what is right does not crash in the
// same worlds, so this is a find.
void crashed(int) noexcept {
  constexpr char found[] = "the fault crashes the program\n";
  if (::write(STDOUT_FILENO, found, sizeof found - 1) > 0) ::_exit(0);
  ::_exit(1);
}

void take_crashes_for_finds() {
  static char stack[64 * 1024];
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof stack;
  ::sigaltstack(&alternate, nullptr);
  struct sigaction action {};
  action.sa_handler = crashed;
  action.sa_flags = SA_ONSTACK;
  ::sigaction(SIGSEGV, &action, nullptr);
  ::sigaction(SIGBUS, &action, nullptr);
}

int find_mutant(const std::string& prefix) {
  take_crashes_for_finds();
  for (const world_entry& e : worlds()) {
    if (std::string(e.name).rfind(prefix, 0) != 0) continue;
    verdict v = explore(e.build, {});
    if (v.right) continue;
    std::printf("%s: %s\nafter\n%s", e.name, v.why.c_str(), v.trace.c_str());
    return 0;
  }
  std::printf("no world %s* finds the fault\n", prefix.c_str());
  return 1;
}

}  // namespace
}  // namespace weft::model

int main(int argc, char** argv) {
  using namespace weft::model;
  if (argc == 3 && std::string(argv[1]) == "--mutant") {
    int status = find_mutant(argv[2]);
    std::fflush(stdout);
    std::_Exit(status);  // the actors of the failed world still hold memory
  }
  testing::InitGoogleTest(&argc, argv);
  for (const world_entry& e : worlds()) {
    std::string name = e.name;
    size_t dot = name.find('.');
    testing::RegisterTest(("Real" + name.substr(0, dot)).c_str(), name.substr(dot + 1).c_str(),
                          nullptr, nullptr, __FILE__, __LINE__,
                          [e]() -> real_code* { return new real_code(e); });
  }
  return RUN_ALL_TESTS();
}
