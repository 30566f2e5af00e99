#pragma once
// Deadlocks among some of the tasks, while the rest of the program runs on.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

// One task of a deadlock and what it waits for.
struct deadlock_wait {
  uint64_t task = 0;        // its id
  std::string name;         // "" unless the program named it
  std::string_view reason;  // as in dumps: "sync.Mutex.Lock", "task join", "sync.WaitGroup.Wait"
  const void* object = nullptr;  // the lock, the join state or the wait group
  uint64_t waits_for = 0;  // the task that would have to act: the lock's owner, the task that is
                           // joined, or one that the wait group started
};

// Tasks that wait for each other: each for the next one, the last one for the first. A task that
// locks a mutex it already holds is a deadlock of one.
struct deadlock {
  std::vector<deadlock_wait> waits;
};

// Finds the deadlocks among tasks (and threads that are no tasks) that wait for a mutex or a
// recursive_mutex, for the writer of a shared_mutex, for join(), or in wait_group::wait() for a
// task that wait_group::go() started. All others are left alone: channels and condition variables
// do not say who will wake a waiter, nor does a shared_mutex know its readers.
//
// Every cycle reported was seen twice and existed at one instant. Its tasks never run again, unless
// one of the waits has a deadline (try_lock_for) or a lock is released by a task that does not hold
// it. A task that ended while holding a lock may be taken for the one that got its stack. Looks at
// every task once or twice, microseconds each, and stops none of them; allocates. Any thread.
std::vector<deadlock> find_deadlocks();

}  // namespace weft
