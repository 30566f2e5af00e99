#pragma once
// What a goroutine profile or a dump knows about one task at the instant it was captured.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weft::prof {

using label_list = std::vector<std::pair<std::string, std::string>>;  // sorted by key

// Where a task's frames are; all zero while it has no stack.
struct task_stack {
  uintptr_t lo = 0, hi = 0;  // what frames may use
  uintptr_t sp = 0;          // 0: not known
  size_t reserved = 0;       // bytes of address space, guard included
  const char* class_name = "";
};

struct task_snapshot {
  uint64_t id = 0;
  uint64_t parent_id = 0;   // 0: spawned by a thread that is not a task
  std::string name;         // "" unless the program named the task
  std::string_view status;  // "running", "runnable", "syscall", or the wait reason ("chan receive")
  int64_t wait_ns = 0;      // how long it has waited; 0 when not waiting
  int64_t since_ns = 0;     // of CLOCK_MONOTONIC: when it came into that status
  const void* waits_on = nullptr;  // the channel, lock, group, … it waits for; null: nothing known
  uint64_t held_by = 0;            // the task that holds that lock; 0: none, or not known
  bool locked_to_thread = false;
  bool foreign = false;        // a thread that is not a worker
  std::vector<uintptr_t> pcs;  // leaf first; see leaf_is_exact
  bool leaf_is_exact =
      false;  // true: pcs[0] is an interrupted pc; false: a return address like the rest
  size_t elided_pcs = 0;     // frames left out in the middle of `pcs`, which then has over 100
  bool truncated = false;    // deeper frames were cut
  uintptr_t created_by = 0;  // return address of the go()/spawn() call; 0 for the main task
  label_list labels;
  task_stack stack;
};

}  // namespace weft::prof
