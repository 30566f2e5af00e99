#pragma once
// What the stand-in for the scheduler (scheduler.cc here) needs of the explorer.
#include "scheduler/scheduler.h"
#include "tests/model/real/explorer.h"

namespace weft::model {

struct actor {
  enum class state : uint8_t {
    unused,
    ready,
    parked,
    spinning,  // until what it looked at changes
    yielding,  // the same, or until nobody else can go on
    waiting,
    timers,
    done
  };
  const char* name = "";
  state st = state::unused;
  sched::context ctx;
  char* stack = nullptr;
  void (*body)(actor&) = nullptr;

  sched::thread* th = nullptr;  // its own record
  sched::task* task = nullptr;
  std::function<void()>* function = nullptr;

  // Commit steps.
  sched::wait_reason reason{};
  bool (*commit)(sched::task*, void*) = nullptr;
  void* arg = nullptr;

  const std::function<bool()>* holds = nullptr;  // what it waits for

  // The last thing it looked at.
  const void* address = nullptr;
  uint64_t value = 0;
  unsigned size = 0;
  int looks = 0;
};

actor* current_actor() noexcept;
sched::thread* own_thread() noexcept;  // the current actor's
sched::processor& the_processor() noexcept;
bool time_passes() noexcept;
// Leaves the current actor, parked, for a commit step of its task; returns when it is runnable.
void leave_for_commit(sched::wait_reason reason, bool (*commit)(sched::task*, void*), void* arg);
void start_task(std::function<void()> body);  // by an actor
// The current actor lets others go first.
void give_way() noexcept;
// In a loop that looks at something until it changes: others first, for as long as they can.
void give_way_while_unchanged() noexcept;
void ignore(const void* from, size_t size) noexcept;
// The current actor's thread record takes part: its operations are steps from now on.
void watch_own_thread() noexcept;
void note(const char* format, ...) noexcept;  // into the trace

}  // namespace weft::model
