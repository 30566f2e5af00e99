// The wait-for graph: its nodes are tasks that wait, its edges lead to the task that would have to
// act before the wait can end. A task of the graph needs every one of its successors (a mutex has
// one owner, a join one task, and a wait group all of its tasks), so any cycle is a deadlock.
//
// The graph is read task by task while the program runs, so edges of one reading may never have
// existed together. A cycle counts if a second reading finds each of its waits unchanged, with the
// same start: then all of them existed between the two readings, at one instant, and waits that
// form a cycle last for ever.
//
// A lock names its owner by a page of the owner's stack (lock_owner.h), looked up among the stacks
// of the tasks that wait: an owner that executes cannot be part of a cycle.
#include <weft/deadlock.h>
#include <weft/shared_mutex.h>

#include <algorithm>
#include <unordered_map>

#include "scheduler/park.h"

namespace weft {

uintptr_t detail::owner_page(const mutex& m) noexcept {
  return lock_owner::page(m.state_.load(std::memory_order_relaxed));
}

namespace {

using sched::wait_reason;

struct node {
  uint64_t id = 0;
  std::string name;
  wait_reason reason = wait_reason::none;
  const void* object = nullptr;
  uintptr_t owner = 0;              // locks: a page of the owner's stack (lock_owner.h)
  const void* completes = nullptr;  // what others wait on until this task's body has ended
  uintptr_t stack_lo = 0, stack_hi = 0;
  int64_t since_ns = 0;

  bool same_wait(const node& o) const {
    return id == o.id && reason == o.reason && object == o.object && owner == o.owner &&
           since_ns == o.since_ns;
  }
};

bool is_lock(wait_reason r) {
  return r == wait_reason::mutex_lock || r == wait_reason::rwmutex_lock ||
         r == wait_reason::rwmutex_rlock;
}

// False if the task does not wait. No allocation while the claim is held: the task may be what
// another thread is about to run.
bool read_node(sched::task& t, node& n, char* name, size_t name_size) {
  uint32_t word;
  if (!sched::claim(t, word)) return false;
  const bool waits = sched::status_of(word) == sched::task_status::waiting;
  n.id = t.id;
  n.reason = waits ? sched::reason_of(word) : wait_reason::none;
  n.object = waits ? t.waits_on : nullptr;
  // The lock outlives the wait, and the claim keeps the waiter from ending it.
  n.owner = is_lock(n.reason) ? detail::owner_page(*static_cast<const mutex*>(n.object)) : 0;
  const void* body = sched::body_of(t);
  n.completes = body != nullptr && t.body->completes != nullptr ? t.body->completes(body) : nullptr;
  n.since_ns = t.since_ns.load(std::memory_order_relaxed);
  n.stack_lo = n.stack_hi = 0;
  if (t.foreign) {
    n.stack_lo = t.own_thread->stack_lo;
    n.stack_hi = t.own_thread->stack_hi;
  } else if (t.stk != nullptr) {
    n.stack_lo = reinterpret_cast<uintptr_t>(t.stk->lo);
    n.stack_hi = reinterpret_cast<uintptr_t>(t.stk->hi);
  }
  // As far as an owner's address tells: whole pages, and not their highest bits.
  n.stack_lo &= detail::lock_owner::address_bits & ~(detail::lock_owner::page_size - 1);
  n.stack_hi &= detail::lock_owner::address_bits;
  if (n.reason == wait_reason::rwmutex_lock && n.owner >= n.stack_lo && n.owner < n.stack_hi &&
      detail::writer_waits_for_readers(*static_cast<const shared_mutex*>(n.object)))
    n.owner = 0;
  size_t length = 0;
  if (t.name != nullptr) {
    while (length + 1 < name_size && t.name[length] != 0) {
      name[length] = t.name[length];
      ++length;
    }
  }
  name[length] = 0;
  sched::unclaim(t);
  return true;
}

// Tasks that are off their stacks, whether they wait or are about to run: the latter lead nowhere,
// but cost nothing.
std::vector<node> read_nodes() {
  std::vector<node> all;
  sched::for_each_task(
      [](sched::task& t, void* arg) {
        node n;
        char name[128];
        if (!read_node(t, n, name, sizeof name)) return;
        n.name = name;
        static_cast<std::vector<node>*>(arg)->push_back(std::move(n));
      },
      &all);
  return all;
}

class graph {
 public:
  explicit graph(std::vector<node> nodes) : nodes_(std::move(nodes)), edges_(nodes_.size()) {
    std::vector<size_t> by_stack;
    std::unordered_map<const void*, std::vector<size_t>> by_completion;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].stack_hi != 0) by_stack.push_back(i);
      if (nodes_[i].completes != nullptr) by_completion[nodes_[i].completes].push_back(i);
    }
    std::ranges::sort(by_stack, {}, [&](size_t i) { return nodes_[i].stack_lo; });
    for (size_t i = 0; i < nodes_.size(); ++i) {
      const node& n = nodes_[i];
      if (n.owner != 0) {
        auto after = std::ranges::upper_bound(by_stack, n.owner, {},
                                              [&](size_t k) { return nodes_[k].stack_lo; });
        if (after != by_stack.begin() && n.owner < nodes_[after[-1]].stack_hi)
          edges_[i].push_back(after[-1]);
      } else if (n.reason == wait_reason::join || n.reason == wait_reason::wait_group_wait) {
        if (auto found = by_completion.find(n.object); found != by_completion.end())
          edges_[i] = found->second;
      }
    }
  }

  // One cycle for every edge that closes one in a depth-first walk: each group of deadlocked tasks
  // shows at least once. Without recursion, as a chain may be as long as there are tasks.
  std::vector<std::vector<size_t>> cycles() const {
    enum class mark : uint8_t { fresh, on_path, done };
    struct step {
      size_t at;
      size_t next_edge;
    };
    std::vector<std::vector<size_t>> found;
    std::vector<mark> marks(nodes_.size(), mark::fresh);
    std::vector<step> path;
    for (size_t start = 0; start < nodes_.size(); ++start) {
      if (marks[start] != mark::fresh || edges_[start].empty()) continue;
      path.push_back({start, 0});
      marks[start] = mark::on_path;
      while (!path.empty()) {
        step& s = path.back();
        if (s.next_edge == edges_[s.at].size()) {
          marks[s.at] = mark::done;
          path.pop_back();
          continue;
        }
        const size_t to = edges_[s.at][s.next_edge++];
        if (marks[to] == mark::fresh) {
          marks[to] = mark::on_path;
          path.push_back({to, 0});
        } else if (marks[to] == mark::on_path) {
          auto first = std::ranges::find(path, to, &step::at);
          std::vector<size_t>& cycle = found.emplace_back();
          for (; first != path.end(); ++first) cycle.push_back(first->at);
        }
      }
    }
    return found;
  }

  const node& at(size_t i) const { return nodes_[i]; }

 private:
  std::vector<node> nodes_;
  std::vector<std::vector<size_t>> edges_;
};

}  // namespace

std::vector<deadlock> find_deadlocks() {
  const graph g(read_nodes());
  std::vector<std::vector<size_t>> candidates = g.cycles();
  std::vector<deadlock> result;
  if (candidates.empty()) return result;

  std::unordered_map<uint64_t, node> again;
  for (node& n : read_nodes()) {
    const uint64_t id = n.id;
    again.emplace(id, std::move(n));
  }
  for (const std::vector<size_t>& cycle : candidates) {
    deadlock d;
    for (size_t k = 0; k < cycle.size(); ++k) {
      const node& n = g.at(cycle[k]);
      auto now = again.find(n.id);
      if (now == again.end() || !now->second.same_wait(n)) break;
      d.waits.push_back({n.id, n.name, sched::reason_name(n.reason), n.object,
                         g.at(cycle[(k + 1) % cycle.size()]).id});
    }
    if (d.waits.size() == cycle.size()) result.push_back(std::move(d));
  }
  return result;
}

}  // namespace weft
