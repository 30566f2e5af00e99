// A GoogleTest program whose main is weft::test_main.
#include <gtest/gtest.h>
#include <weft/weft.h>

#include <chrono>

namespace {

[[gnu::noinline]] void burns_processor_time() {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  while (std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 1000; ++i) asm volatile("");
  }
}

TEST(Program, Burns) {
  weft::run([] { burns_processor_time(); });
}

// Run by profile_files_test.py alone, which looks at what a program that fails leaves.
TEST(Program, DISABLED_Fails) { FAIL(); }

}  // namespace
