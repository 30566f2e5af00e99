#include "tests/model/real/explorer.h"

#include <weft/context.h>
#include <weft/detail/config.h>
#include <weft/detail/schedule_point.h>

#if WEFT_ASAN
#include <sanitizer/asan_interface.h>
#endif

#include "base/clock.h"
#include "runtime/contention.h"
#include "scheduler/park.h"
#include "scheduler/world_stop.h"
#include "tests/model/real/actors.h"
#include "tests/model/real/arena.h"

namespace weft::model {
namespace {

constexpr int max_actors = 16;
constexpr size_t stack_size = size_t{256} << 10;
constexpr int max_steps = 20'000;
constexpr int looks_before_spinning = 5;  // a few looks in a row are no loop yet
constexpr int64_t start_ns = 1'000'000'000;

struct decision {
  uint8_t chosen, options;
};

// All of it is the explorer's own; nothing here may be an atomic.
struct explorer_state {
  // The search.
  std::vector<decision> path;
  size_t depth = 0;
  int bound = 0;
  bool random = false;
  uint64_t seed = 0;
  bool tracing = false;
  std::string trace;
  // The execution.
  actor actors[max_actors];
  int count = 0;
  actor* current = nullptr;
  sched::thread os;  // stands for the one OS thread there is
  sched::context main;
  sched::processor* processor = nullptr;
  int preemptions = 0;
  int steps = 0;
  bool failed = false;
  bool ended = false;
  std::string why;
  bool time_passes = false;
  std::vector<std::function<void()>*> at_end;
  std::vector<range> ignored;
};

explorer_state& x = *new explorer_state;

std::vector<world_entry>& registry() {
  static auto* const entries = new std::vector<world_entry>;
  return *entries;
}

uint64_t next_random() noexcept {
  uint64_t v = x.seed += 0x9e3779b97f4a7c15;
  v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9;
  v = (v ^ (v >> 27)) * 0x94d049bb133111eb;
  return v ^ (v >> 31);
}

// `stay`: the first option is to go on as before, which random walks mostly do.
int decide(int options, bool stay) noexcept {
  if (options <= 1) return 0;
  own_memory hold;
  if (x.depth < x.path.size()) {
    decision d = x.path[x.depth++];
    if (d.options != options) {
      std::fprintf(stderr, "the world does not repeat itself: %d options, then %d\n", d.options,
                   options);
      std::abort();
    }
    return d.chosen;
  }
  uint8_t chosen = 0;
  if (x.random && (!stay || next_random() % 4 == 0))
    chosen = static_cast<uint8_t>(next_random() % static_cast<uint64_t>(options));
  x.path.push_back({chosen, static_cast<uint8_t>(options)});
  ++x.depth;
  return chosen;
}

bool enabled(const actor& a) noexcept {
  switch (a.st) {
    case actor::state::ready:
      return true;
    case actor::state::parked:
      return sched::status_of(a.task->state.peek()) == sched::task_status::runnable;
    case actor::state::spinning:
    case actor::state::yielding: {
      uint64_t now = 0;
      std::memcpy(&now, a.address, a.size);
      return now != a.value;
    }
    case actor::state::waiting:
      return (*a.holds)();
    case actor::state::timers:
      return x.processor->timers.size() > 0;
    case actor::state::unused:
    case actor::state::done:
      return false;
  }
  return false;
}

void go_to(actor* a) noexcept {
  actor* from = x.current;
  if (a == from) return;
  x.current = a;
  sched::switch_context(&x.os, from->ctx, a->ctx, false);
}

void end_execution() noexcept {
  x.ended = true;
  actor* from = x.current;
  x.current = nullptr;
  sched::switch_context(&x.os, from->ctx, x.main, false);
}

// Who goes on. `yields`: the current actor would rather not.
void reschedule(bool yields) noexcept {
  actor* options[max_actors];
  int n = 0;
  actor* me = x.current;
  const bool mine = enabled(*me);
  if (mine && !yields) options[n++] = me;
  for (int i = 0; i < x.count; ++i) {
    actor& a = x.actors[i];
    if (&a != me && enabled(a)) options[n++] = &a;
  }
  if (mine && n == 0) options[n++] = me;
  if (n == 0) {
    for (int i = 0; i < x.count; ++i)
      if (x.actors[i].st == actor::state::yielding) options[n++] = &x.actors[i];
  }
  if (n == 0) {
    end_execution();
    return;
  }
  const bool preempts = mine && !yields;
  int allowed = preempts && !x.random && x.preemptions >= x.bound ? 1 : n;
  int chosen = decide(allowed, preempts);
  if (preempts && chosen != 0) ++x.preemptions;
  go_to(options[chosen]);
}

void run_task(actor& a) {
  try {
    (*a.function)();
  } catch (const std::exception& e) {
    violation(e.what());
  }
}

void run_commit(actor& a) {
  using enum sched::task_status;
  sched::change_state(*a.task, running, waiting, a.reason);
  if (a.commit != nullptr && !a.commit(a.task, a.arg))
    sched::change_state(*a.task, waiting, runnable);
}

// Whether p lies in a frame that its actor has left.
bool in_a_dead_frame(const void* p) noexcept {
  const auto* at = static_cast<const char*>(p);
  for (int i = 0; i < x.count; ++i) {
    const actor& a = x.actors[i];
    if (at < a.stack || at >= a.stack + stack_size) continue;
    return a.st == actor::state::done || at < static_cast<const char*>(a.ctx.sp);
  }
  return false;
}

// run_due_timers(), with a deadline that passes whenever the explorer likes.
void run_clock(actor& a) {
  sched::timer_heap& timers = x.processor->timers;
  for (;;) {
    a.st = actor::state::timers;
    reschedule(true);
    a.st = actor::state::ready;
    std::lock_guard hold(timers.lock);
    if (sched::timer* t = timers.pop_due(sched::never_ns - 1)) {
      note("a deadline passes");
      if (in_a_dead_frame(t)) violation("a timer outlived the frame it lies in");
      const int64_t now = std::max(t->when_ns, base::g_fake_ns.peek());
      base::g_fake_ns = now;
      t->fire(t, now);
    }
  }
}

actor& new_actor(const char* name, void (*body)(actor&)) {
  actor* a = nullptr;
  for (int i = 0; i < x.count && a == nullptr; ++i)
    if (x.actors[i].st == actor::state::done) a = &x.actors[i];
  if (a == nullptr) {
    if (x.count == max_actors) std::abort();
    a = &x.actors[x.count++];
  }
  if (a->stack == nullptr) {
    own_memory hold;
    a->stack = static_cast<char*>(std::aligned_alloc(4096, stack_size));
  }
#if WEFT_ASAN
  __asan_unpoison_memory_region(a->stack, stack_size);
#endif
  a->name = name;
  a->body = body;
  a->looks = 0;
  a->address = nullptr;
  a->th = new sched::thread;
  a->th->globals = x.os.globals;
  sched::make_context(a->ctx, a->stack, a->stack + stack_size);
  a->st = actor::state::ready;
  ignore(a->th, sizeof *a->th);
  return *a;
}

// No step, whoever makes it.
void new_task(const char* name, std::function<void()> body) {
  actor* maker = std::exchange(x.current, nullptr);
  actor& a = new_actor(name, run_task);
  a.function = new std::function<void()>(std::move(body));
  a.task = new sched::task;
  ignore(&a.task->since_ns, sizeof a.task->since_ns);
  sched::change_state(*a.task, sched::task_status::free, sched::task_status::runnable);
  sched::change_state(*a.task, sched::task_status::runnable, sched::task_status::running);
  a.th->current = a.task;
  a.th->p = x.processor;
  x.current = maker;
}

void execute(void (*build)(world&)) {
  x.depth = 0;
  x.preemptions = x.steps = x.count = 0;
  x.failed = x.ended = false;
  x.why.clear();
  x.trace.clear();
  x.at_end.clear();
  x.ignored.clear();
  x.current = nullptr;
  for (actor& a : x.actors) a.st = actor::state::unused;
  clear_arena();
  x.os.globals = sched::current_thread_globals();
  ignore(&x.os, sizeof x.os);
  ignore(&base::g_fake_ns, sizeof base::g_fake_ns);
  ignore(&base::g_coarse_ns, sizeof base::g_coarse_ns);
  ignore(&base::detail::g_event_mask, sizeof base::detail::g_event_mask);
  ignore(&detail::g_directed_world, sizeof detail::g_directed_world);
  ignore(&sched::g_gate, sizeof sched::g_gate);  // no collector is at work in the model
  ignore(&sched::g_exact_waits, sizeof sched::g_exact_waits);
  ignore(&sched::g_watched_wakes, sizeof sched::g_watched_wakes);
  ignore(&sched::g_wait_grid, sizeof sched::g_wait_grid);
  ignore(&base::g_lock_listener, sizeof base::g_lock_listener);
  ignore(&detail::g_contention_sink, sizeof detail::g_contention_sink);
  base::g_fake_ns = start_ns;
  // Their first use makes objects that stay; not in memory that each execution uses anew.
  [[maybe_unused]] static const bool made = (with_cancel(background()).first.done(), true);
  use_arena(true);
  x.processor = new sched::processor;
  world w;
  build(w);
  x.time_passes = w.time_passes;
  new_actor("clock", run_clock);
  x.current = &x.actors[0];
  sched::switch_context(&x.os, x.main, x.current->ctx, false);
  use_arena(false);
  if (x.failed) return;
  std::string stuck;
  for (int i = 0; i < x.count; ++i) {
    const actor& a = x.actors[i];
    if (a.st == actor::state::done || a.st == actor::state::unused || a.st == actor::state::timers)
      continue;
    stuck += std::string(stuck.empty() ? "" : ", ") + a.name +
             (a.st == actor::state::spinning ? " spins" : " waits");
    if (a.st == actor::state::parked)
      stuck += " (reason " +
               std::to_string(static_cast<int>(sched::reason_of(a.task->state.peek()))) + ")";
  }
  if (!stuck.empty()) {
    x.failed = true;
    x.why = "nobody can go on: " + stuck;
    return;
  }
  if (freed_memory_was_written()) {
    x.failed = true;
    x.why = "memory was written after it had been freed";
    return;
  }
  for (std::function<void()>* check : x.at_end) {
    try {
      (*check)();
    } catch (const char* why) {
      x.failed = true;
      x.why = why;
      return;
    }
  }
}

// The next path of the search; false when there is none.
bool advance() {
  while (!x.path.empty() && x.path.back().chosen + 1 >= x.path.back().options) x.path.pop_back();
  if (x.path.empty()) return false;
  ++x.path.back().chosen;
  return true;
}

void describe_failure(void (*build)(world&), verdict& v) {
  x.tracing = true;
  execute(build);
  x.tracing = false;
  v.right = false;
  v.why = x.why;
  v.trace = x.trace;
}

}  // namespace

actor* current_actor() noexcept { return x.current; }
sched::thread* own_thread() noexcept { return x.current != nullptr ? x.current->th : &x.os; }
sched::processor& the_processor() noexcept { return *x.processor; }
bool time_passes() noexcept { return x.time_passes; }

void ignore(const void* from, size_t size) noexcept {
  own_memory hold;
  x.ignored.push_back({from, size});
}

void note(const char* format, ...) noexcept {
  if (!x.tracing) return;
  own_memory hold;
  char text[200];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  x.trace +=
      std::string("      ") + (x.current != nullptr ? x.current->name : "-") + ": " + text + "\n";
}

void watch_own_thread() noexcept {
  std::erase_if(x.ignored, [](const range& r) { return r.from == x.current->th; });
}

// What an address is, for the trace.
std::string label(const void* address) {
  auto inside = [&](const void* from, size_t size) {
    const ptrdiff_t at = static_cast<const char*>(address) - static_cast<const char*>(from);
    return at >= 0 && at < static_cast<ptrdiff_t>(size) ? at : ptrdiff_t{-1};
  };
  for (int i = 0; i < x.count; ++i) {
    const actor& a = x.actors[i];
    const std::string name = a.name;
    if (a.th != nullptr && inside(a.th, sizeof *a.th) >= 0)
      return "thread of " + name + " + " + std::to_string(inside(a.th, sizeof *a.th));
    if (a.body == run_task && inside(a.task, sizeof *a.task) >= 0)
      return "task " + name + " + " + std::to_string(inside(a.task, sizeof *a.task));
    if (inside(a.stack, stack_size) >= 0)
      return "stack of " + name + " + " + std::to_string(inside(a.stack, stack_size));
  }
  if (ptrdiff_t at = place_in_arena(address); at >= 0) return "heap + " + std::to_string(at);
  char text[32];
  std::snprintf(text, sizeof text, "%p", address);
  return text;
}

static bool is_ignored(const void* address) noexcept {
  return std::any_of(x.ignored.begin(), x.ignored.end(), [&](const range& r) {
    return std::greater_equal<const void*>()(address, r.from) &&
           std::less<const void*>()(address, static_cast<const char*>(r.from) + r.size);
  });
}

void point(op what, const void* address) noexcept {
  actor* me = x.current;
  if (me == nullptr) return;
  if (is_ignored(address)) return;
  if (++x.steps > max_steps) violation("too many steps: a livelock");
  const bool looks = what == op::load || what == op::cas;
  if (what == op::load && me->address == address && me->looks >= looks_before_spinning) {
    uint64_t now = 0;
    std::memcpy(&now, address, me->size);
    if (now == me->value) {
      me->st = actor::state::spinning;
      reschedule(false);
      me->st = actor::state::ready;
      me->looks = 0;
    }
  } else {
    if (me->address != address || !looks) me->looks = 0;
    reschedule(false);
  }
  static constexpr const char* names[] = {"load", "store", "exchange", "cas",
                                          "add",  "fence", "step"};
  if (x.tracing && what != op::other) {
    own_memory hold;
    note("%s %s", names[static_cast<int>(what)], label(address).c_str());
  }
}

void observed(const void* address, uint64_t value, unsigned size) noexcept {
  actor* me = x.current;
  if (me == nullptr || is_ignored(address)) return;
  me->looks = me->address == address && me->value == value ? me->looks + 1 : 1;
  me->address = address;
  me->value = value;
  me->size = size;
}

void leave_for_commit(sched::wait_reason reason, bool (*commit)(sched::task*, void*), void* arg) {
  actor* me = x.current;
  actor& c = new_actor("commit", run_commit);
  c.task = me->task;
  c.reason = reason;
  c.commit = commit;
  c.arg = arg;
  me->st = actor::state::parked;
  me->looks = 0;
  note("parks");
  go_to(&c);
  me->st = actor::state::ready;
}

void give_way_while_unchanged() noexcept {
  actor* me = x.current;
  if (me == nullptr) return;
  if (me->looks == 0) {
    give_way();
    return;
  }
  if (++x.steps > max_steps) violation("too many steps: a livelock");
  me->st = actor::state::yielding;
  reschedule(true);
  me->st = actor::state::ready;
  me->looks = 0;
}

void give_way() noexcept {
  if (x.current == nullptr) return;
  if (++x.steps > max_steps) violation("too many steps: a livelock");
  reschedule(true);
}

void start_task(std::function<void()> body) { new_task("started", std::move(body)); }

void world::task(const char* name, std::function<void()> body) { new_task(name, std::move(body)); }

void world::at_end(std::function<void()> check) {
  auto* copy = new std::function<void()>(std::move(check));
  own_memory hold;
  x.at_end.push_back(copy);
}

registered::registered(const char* name, void (*build)(world&)) {
  registry().push_back({name, build});
}
const std::vector<world_entry>& worlds() { return registry(); }

void violation(const char* what) {
  if (x.current == nullptr) throw what;
  own_memory hold;
  note("%s", what);
  x.failed = true;
  x.why = std::string(x.current->name) + ": " + what;
  use_arena(false);
  end_execution();
  std::abort();
}

void step() { point(op::other, nullptr); }

int choose(int n) { return x.current == nullptr ? 0 : decide(n, false); }

void wait_until(const std::function<bool()>& holds) {
  actor* me = x.current;
  if (holds()) return;
  me->holds = &holds;
  me->st = actor::state::waiting;
  reschedule(false);
  me->st = actor::state::ready;
}

verdict explore(void (*build)(world&), const effort& e) {
  verdict v;
  x.random = false;
  for (x.bound = 0; x.bound <= e.preemptions; ++x.bound) {
    x.path.clear();
    uint64_t n = 0;
    bool complete = false;
    while (n < e.executions) {
      execute(build);
      ++n;
      if (x.failed) {
        v.executions = n;
        describe_failure(build, v);
        return v;
      }
      if (!advance()) {
        complete = true;
        break;
      }
    }
    v.executions = n;
    if (!complete) break;
    v.bound = x.bound;
  }
  verdict r = explore_random(build, e.random_walks, e.seed);
  v.random_walks = r.random_walks;
  if (!r.right) {
    v.right = false;
    v.why = r.why;
    v.trace = r.trace;
  }
  return v;
}

verdict explore_random(void (*build)(world&), uint64_t walks, uint64_t seed) {
  verdict v;
  x.random = true;
  for (uint64_t i = 0; i < walks; ++i) {
    x.path.clear();
    x.seed = seed + i;
    execute(build);
    ++v.random_walks;
    if (x.failed) {
      describe_failure(build, v);
      v.why += " (random walk, seed " + std::to_string(seed + i) + ")";
      return v;
    }
  }
  return v;
}

}  // namespace weft::model

// The body of every context.
extern "C" void weft_task_main() {
  using namespace weft::model;
  actor* a = current_actor();
  weft::sched::context_started(&x.os, a->ctx);
  a->body(*a);
  note("has ended");
  a->st = actor::state::done;
  reschedule(false);
  std::abort();
}
