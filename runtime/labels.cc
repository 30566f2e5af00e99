#include <weft/labels.h>

#include <algorithm>
#include <atomic>

#include "runtime/context_node.h"
#include "runtime/label_node.h"
#include "scheduler/park.h"
#include "scheduler/ports.h"

namespace weft {
namespace detail {

label_node* retain_labels(const label_node* n) noexcept {
  if (n == nullptr) return nullptr;
  n->refs.fetch_add(1, std::memory_order_relaxed);
  return const_cast<label_node*>(n);
}

void drop_labels(const label_node* n) noexcept {
  if (n != nullptr && n->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete n;
}

label_scope::label_scope(const labels& merged) : previous_(this_task::labels()) {
  set_current_labels(merged);
}
label_scope::~label_scope() { set_current_labels(previous_); }

void set_current_labels(const labels& l) noexcept {
  sched::enter();
  sched::task* t = sched::current_task();
  // A sampling signal may look at any moment: the old node lives until the new one is in place.
  const void* old = t->labels.exchange(retain_labels(l.node()), std::memory_order_acq_rel);
  sched::leave();
  drop_labels(static_cast<const label_node*>(old));
}

void install_task_hooks() noexcept {
  static std::atomic_flag done;
  if (done.test_and_set()) return;
  sched::g_task_hooks.created = [](sched::task& parent, sched::task& child) noexcept {
    const void* inherited = parent.labels.load(std::memory_order_relaxed);
    child.labels.store(retain_labels(static_cast<const label_node*>(inherited)),
                       std::memory_order_relaxed);
    inherit_context(parent, child);
  };
  sched::g_task_hooks.leaving = drop_own_context;
  sched::g_task_hooks.ended = [](sched::task& t) noexcept {
    if (t.labels.load(std::memory_order_relaxed) == nullptr) return;
    drop_labels(static_cast<const label_node*>(t.labels.exchange(nullptr)));
  };
}

}  // namespace detail

namespace {

// Before main: a thread that uses labels or contexts may end before the first run.
[[maybe_unused]] const bool g_hooks_at_load = (detail::install_task_hooks(), true);

// Sorted by key; of equal keys the last stays.
detail::label_node* make_node(std::vector<labels::pair> pairs) {
  if (pairs.empty()) return nullptr;
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<labels::pair> unique;
  for (labels::pair& p : pairs) {
    if (!unique.empty() && unique.back().first == p.first)
      unique.back().second = std::move(p.second);
    else
      unique.push_back(std::move(p));
  }
  return new detail::label_node{{1}, std::move(unique)};
}

}  // namespace

labels::labels(std::initializer_list<pair> pairs)
    : labels(std::vector<pair>(pairs.begin(), pairs.end())) {}
labels::labels(std::vector<pair> pairs) : node_(make_node(std::move(pairs))) {}

const std::vector<labels::pair>& labels::pairs() const noexcept {
  static const std::vector<pair> none;
  return node_ != nullptr ? node_->pairs : none;
}

labels labels::with(const labels& more) const {
  if (more.empty()) return *this;
  if (empty()) return more;
  std::vector<pair> all = pairs();
  all.insert(all.end(), more.pairs().begin(), more.pairs().end());
  return labels(std::move(all));
}

labels labels::from_node(const detail::label_node* n) noexcept {
  labels l;
  l.node_ = detail::retain_labels(n);
  return l;
}

labels this_task::labels() {
  sched::critical in_runtime;
  return labels::from_node(static_cast<const detail::label_node*>(
      sched::current_task()->labels.load(std::memory_order_relaxed)));
}

}  // namespace weft
