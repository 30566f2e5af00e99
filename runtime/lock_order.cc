// WEFT_DEBUG=lockorder: reports locks that are taken in one order here and in another there, which
// is a deadlock as soon as both happen at once. The process goes on.
//
// A graph over the addresses of locks: an edge a -> b says that some task held a when it wanted b,
// and keeps the stack of the first time. A new edge that closes a cycle is reported with the stacks
// of all edges of the cycle; as each edge is new once, each pair is reported once.
//   - Edges are drawn before the wait, so that one that never ends is reported too.
//   - Taking a lock without waiting for ever (try_lock, with a time or a context) draws no edge to
//     it: it cannot be the wait that closes a deadlock. Once held, the lock counts.
//   - Readers of a shared_mutex count as owners do: with writers that wait in between, two readers
//     in opposite order block each other.
//   - A lock is forgotten when another is made at its address: a new one is found by the missing
//     watched_bit of its word.
// One std::mutex guards everything, so locks become slow; the switch is for tests.
//
// Rejected: a graph over the places in the source where locks are made (as Linux's lockdep), which
// finds more, but takes two accounts that are always locked in the order of their numbers for an
// inversion.
#include <unistd.h>
#include <weft/detail/schedule_point.h>
#include <weft/task.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "base/options.h"
#include "runtime/lock_watch.h"
#include "scheduler/ports.h"

namespace weft::detail {
namespace {

using lock_id = const void*;

// Where an edge was drawn first.
struct occasion {
  uint64_t task;
  std::shared_ptr<void> stack;  // null without somebody who can read stacks
};

struct edge {
  lock_id held, wanted;
  occasion first;
};

std::shared_ptr<void> this_stack() {
  const sched::report_port& port = sched::current_report_port();
  if (port.keep_stack == nullptr) return nullptr;
  return {port.keep_stack(), port.drop_kept};
}

class order_graph {
 public:
  void found(lock_id lock) {
    std::lock_guard hold(lock_);
    if (auto out = after_.find(lock); out != after_.end()) {
      for (const auto& [wanted, first] : out->second) std::erase(before_[wanted], lock);
      after_.erase(out);
    }
    if (auto in = before_.find(lock); in != before_.end()) {
      for (lock_id held : in->second) after_[held].erase(lock);
      before_.erase(in);
    }
    if (auto held = holders_.find(lock); held != holders_.end()) {
      for (uint64_t task : held->second) drop(task, lock);
      holders_.erase(held);
    }
  }

  // The edges of each cycle that the caller's wait may close, the new one first.
  std::vector<std::vector<edge>> wanted(lock_id lock, uint64_t task) {
    std::vector<std::vector<edge>> cycles;
    if (fresh_edges(lock, task).empty()) return cycles;
    const occasion here{task, this_stack()};  // without the lock: it takes others
    std::lock_guard hold(lock_);
    for (lock_id held : missing_edges(lock, task)) {
      std::vector<edge> back = path(lock, held);
      after_[held].emplace(lock, here);
      before_[lock].push_back(held);
      if (back.empty()) continue;
      back.insert(back.begin(), {held, lock, here});
      cycles.push_back(std::move(back));
    }
    return cycles;
  }

  void acquired(lock_id lock, uint64_t task) {
    std::lock_guard hold(lock_);
    held_[task].push_back(lock);
    holders_[lock].push_back(task);
  }

  // By its holder, or by another task on behalf of one.
  void released(lock_id lock, uint64_t task) {
    std::lock_guard hold(lock_);
    auto at = holders_.find(lock);
    if (at == holders_.end()) return;
    std::vector<uint64_t>& tasks = at->second;
    auto holder = std::ranges::find(tasks, task);
    if (holder == tasks.end()) holder = tasks.begin();
    drop(*holder, lock);
    tasks.erase(holder);
    if (tasks.empty()) holders_.erase(at);
  }

 private:
  std::vector<lock_id> fresh_edges(lock_id lock, uint64_t task) {
    std::lock_guard hold(lock_);
    return missing_edges(lock, task);
  }

  std::vector<lock_id> missing_edges(lock_id lock, uint64_t task) const {
    std::vector<lock_id> missing;
    auto mine = held_.find(task);
    if (mine == held_.end()) return missing;
    for (lock_id held : mine->second) {
      auto out = after_.find(held);
      const bool known = out != after_.end() && out->second.contains(lock);
      if (held != lock && !known && std::ranges::find(missing, held) == missing.end())
        missing.push_back(held);
    }
    return missing;
  }

  // The edges of a shortest way; empty if there is none.
  std::vector<edge> path(lock_id from, lock_id to) const {
    std::unordered_map<lock_id, lock_id> reached_by{{from, nullptr}};
    std::vector<lock_id> queue{from};
    for (size_t i = 0; i < queue.size() && !reached_by.contains(to); ++i) {
      auto out = after_.find(queue[i]);
      if (out == after_.end()) continue;
      for (const auto& [next, first] : out->second) {
        if (reached_by.emplace(next, queue[i]).second) queue.push_back(next);
      }
    }
    std::vector<edge> way;
    if (!reached_by.contains(to)) return way;
    for (lock_id at = to; at != from; at = reached_by[at]) {
      const lock_id before = reached_by[at];
      way.push_back({before, at, after_.at(before).at(at)});
    }
    std::ranges::reverse(way);
    return way;
  }

  void drop(uint64_t task, lock_id lock) {
    auto mine = held_.find(task);
    if (mine == held_.end()) return;
    auto last = std::find(mine->second.rbegin(), mine->second.rend(), lock);
    if (last != mine->second.rend()) mine->second.erase(std::next(last).base());
    if (mine->second.empty()) held_.erase(mine);
  }

  std::mutex lock_;
  std::unordered_map<uint64_t, std::vector<lock_id>> held_;
  std::unordered_map<lock_id, std::vector<uint64_t>> holders_;
  std::unordered_map<lock_id, std::unordered_map<lock_id, occasion>> after_;
  std::unordered_map<lock_id, std::vector<lock_id>> before_;  // after_ the other way round
};

order_graph& graph() noexcept {
  static auto* const g = new order_graph;
  return *g;
}

void write_edge(const char* form, const edge& e) {
  char text[200];
  int n = std::snprintf(text, sizeof text, form, static_cast<unsigned long long>(e.first.task),
                        e.wanted, e.held);
  base::write_stderr(text, static_cast<size_t>(n));
  if (e.first.stack != nullptr)
    sched::current_report_port().write_kept(STDERR_FILENO, e.first.stack.get());
}

void report(const std::vector<edge>& cycle) {
  static auto* const one_report = new std::mutex;
  std::lock_guard hold(*one_report);
  constexpr char head[] = "weft: lockorder: locks are taken in different orders\n";
  base::write_stderr(head, sizeof head - 1);
  write_edge("weft: lockorder: task %llu wants %p while it holds %p\n", cycle[0]);
  for (size_t i = 1; i < cycle.size(); ++i)
    write_edge("weft: lockorder: task %llu wanted %p while it held %p\n", cycle[i]);
}

constexpr lock_watch the_watch{
    [](lock_id lock) noexcept { graph().found(lock); },
    [](lock_id lock) noexcept {
      for (const std::vector<edge>& cycle : graph().wanted(lock, this_task::id())) report(cycle);
    },
    [](lock_id lock) noexcept { graph().acquired(lock, this_task::id()); },
    [](lock_id lock) noexcept { graph().released(lock, this_task::id()); },
};

}  // namespace

void start_lock_order() noexcept {
  if (base::debug_switch("lockorder").empty()) return;
  g_lock_watch.store(&the_watch, std::memory_order_release);
  never_take_short_ways();
}

}  // namespace weft::detail
