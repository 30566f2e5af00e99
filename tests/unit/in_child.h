#pragma once
// Statements that change what a whole process has: they run in a child, which must end well.
#include <gtest/gtest.h>
#include <unistd.h>

#define IN_CHILD(...)                                 \
  EXPECT_EXIT(                                        \
      {                                               \
        __VA_ARGS__;                                  \
        ::_exit(testing::Test::HasFailure() ? 1 : 0); \
      },                                              \
      testing::ExitedWithCode(0), "")
