#pragma once
// Runs the real sources of the runtime under every interleaving of a small world.
//
// Actors   the tasks of the world; for each park the commit step, which executes after its task has
//          left its stack and beside whatever wakes it; and the clock, which may let the earliest
//          timer's deadline pass at any moment. Each is a context of one OS thread.
// Step     one operation on an atomic of the code under test (prelude.h). Before each the explorer
//          decides who goes on. So an execution is a list of decisions, and can be repeated.
// Search   depth first over the decisions, with a bound on preemptions, the switches away from an
//          actor that could have gone on: first 0, then 1, then 2. Faults show with few (CHESS,
//          Musuvathi and Qadeer 2007). Then random walks from printed seeds.
// Waiting  An actor that reads the same value of the same atomic several times in a row is
//          spinning; it goes on when the value has changed.
// Memory   Sequentially consistent. What store buffers do to the protocols with fences is explored
//          by the models next door, step by step.
// Checked  the world's own expectations, the code's WEFT_CHECKs, and that everybody comes to an
//          end: a lost wake-up is a world in which nobody can go on.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace weft::model {

class world {
 public:
  // `name` must be a literal.
  void task(const char* name, std::function<void()> body);
  void at_end(std::function<void()> check);
  // A wait may or may not have lasted long enough to make a mutex's waiter impatient.
  bool time_passes = false;
};

struct world_entry {
  const char* name;
  void (*build)(world&);
};

// Registers `build` under "Area.Name".
struct registered {
  registered(const char* name, void (*build)(world&));
};
#define WEFT_MODEL_WORLD(area, name)                                                            \
  static void area##_##name(::weft::model::world& w);                                           \
  static const ::weft::model::registered area##_##name##_entry(#area "." #name, area##_##name); \
  static void area##_##name([[maybe_unused]] ::weft::model::world& w)

const std::vector<world_entry>& worlds();

// From an actor or an at_end function: ends the execution.
[[noreturn]] void violation(const char* what);
inline void expect(bool holds, const char* what) {
  if (!holds) violation(what);
}

// A step of its own, for what a task does with shared plain memory.
void step();
// One of n outcomes that the world leaves open.
int choose(int n);
// The calling actor goes on when it holds, which is no step: for stand-ins that wait.
void wait_until(const std::function<bool()>& holds);

struct verdict {
  bool right = true;
  int bound = -1;             // the last bound on preemptions that was searched to the end
  uint64_t executions = 0;    // in that search
  uint64_t random_walks = 0;  // after it
  std::string why, trace;
};

struct effort {
  int preemptions = 2;
  uint64_t executions = 400'000;  // per bound
  uint64_t random_walks = 5'000;
  uint64_t seed = 1;
};

verdict explore(void (*build)(world&), const effort& e);
verdict explore_random(void (*build)(world&), uint64_t walks, uint64_t seed);

}  // namespace weft::model
