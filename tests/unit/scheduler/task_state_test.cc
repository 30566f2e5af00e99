// The table in the comment of scheduler/task_state.h is what readers trust: it must say what
// legal() says.
#include "scheduler/task_state.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <utility>

namespace weft::sched {
namespace {

const std::map<std::string, task_status> statuses = {
    {"free", task_status::free},       {"runnable", task_status::runnable},
    {"running", task_status::running}, {"blocking", task_status::blocking},
    {"waiting", task_status::waiting},
};

std::set<std::pair<task_status, task_status>> documented_changes() {
  std::ifstream file(WEFT_SOURCE_DIR "/scheduler/task_state.h");
  std::set<std::pair<task_status, task_status>> found;
  const std::regex row(R"(^//\s+(\w+)\s+->\s+(\w+)\s+\S.*$)");
  std::smatch match;
  for (std::string line; std::getline(file, line);) {
    if (!std::regex_match(line, match, row) || match[1] == "FROM") continue;
    EXPECT_TRUE(statuses.count(match[1]) == 1 && statuses.count(match[2]) == 1) << line;
    EXPECT_TRUE(found.emplace(statuses.at(match[1]), statuses.at(match[2])).second)
        << "listed twice: " << line;
  }
  return found;
}

TEST(TaskState, TableAndFunctionAgree) {
  auto documented = documented_changes();
  ASSERT_GE(documented.size(), 10u) << "the table was not found";
  for (const auto& [from_name, from] : statuses) {
    for (const auto& [to_name, to] : statuses)
      EXPECT_EQ(legal(from, to), documented.count({from, to}) == 1)
          << from_name << " -> " << to_name;
  }
}

TEST(TaskState, NamesAreTheOnesThatGoPrints) {
  EXPECT_STREQ(status_name(task_status::free), "dead");
  EXPECT_STREQ(status_name(task_status::runnable), "runnable");
  EXPECT_STREQ(status_name(task_status::running), "running");
  EXPECT_STREQ(status_name(task_status::blocking), "syscall");
  EXPECT_STREQ(status_name(task_status::waiting), "waiting");
  EXPECT_STREQ(reason_name(wait_reason::chan_receive), "chan receive");
  EXPECT_STREQ(reason_name(wait_reason::chan_send_nil), "chan send (nil chan)");
  EXPECT_STREQ(reason_name(wait_reason::select_no_cases), "select (no cases)");
  EXPECT_STREQ(reason_name(wait_reason::mutex_lock), "sync.Mutex.Lock");
  EXPECT_STREQ(reason_name(wait_reason::io_wait), "IO wait");
}

}  // namespace
}  // namespace weft::sched
