// Task-locals: a table per task, indexed by key, and the chain of the values in the order of their
// making.
//
// A key's index is used again after the key's end, so a value also carries the key's number, which
// is not; a value whose key is gone stays in the chain, out of the table's reach. Only the task
// itself looks at its table, so the registry of indices is all that is locked.
#include <weft/detail/waiter.h>
#include <weft/task_local.h>

#include <cstddef>
#include <mutex>
#include <vector>

#include "runtime/task_locals.h"
#include "scheduler/park.h"

namespace weft::detail {
namespace {

constexpr int index_bits = 24;
constexpr uint64_t index_mask = (uint64_t{1} << index_bits) - 1;

size_t index_of(uint64_t id) noexcept { return id & index_mask; }

struct registry {
  small_lock lock;
  std::vector<uint64_t> free;  // indices
  uint64_t indices = 0;        // ever used at a time
  uint64_t keys = 0;           // ever made
};

registry& the_registry() noexcept {
  static auto* const r = new registry;  // keys may be destroyed after everything else
  return *r;
}

struct local_table : sched::task_locals {
  local_value* newest = nullptr;
  std::vector<local_value*> values;  // by index; null: none
};

sched::task& this_record() noexcept {
  if (sched::task* t = sched::self()->current.load(std::memory_order_relaxed)) return *t;
  sched::critical attaches_the_thread;
  return *sched::current_task();
}

// Destroying a value may make others, also where the loop has already been.
void destroy_all(sched::task& t) noexcept {
  auto* table = static_cast<local_table*>(t.locals);
  while (local_value* v = table->newest) {
    table->newest = v->older;
    local_value*& slot = table->values[index_of(v->key)];
    if (slot == v) slot = nullptr;
    v->destroy(v);
  }
  t.locals = nullptr;
  delete table;
}

local_table& table_of(sched::task& t) {
  if (t.locals == nullptr) {
    auto* table = new local_table;
    table->destroy_all = destroy_all;
    t.locals = table;
  }
  return static_cast<local_table&>(*t.locals);
}

void unlink(local_table& table, const local_value* v) noexcept {
  local_value** link = &table.newest;
  while (*link != v) link = &(*link)->older;
  *link = v->older;
}

}  // namespace

void destroy_task_locals() noexcept {
  sched::task& t = this_record();
  if (t.locals != nullptr) t.locals->destroy_all(t);
}

local_key::~local_key() {
  uint64_t id = id_.load(std::memory_order_relaxed);
  if (id == 0) return;
  registry& r = the_registry();
  std::lock_guard hold(r.lock);
  r.free.push_back(index_of(id));
}

uint64_t local_key::id() {
  // Relaxed: the number is all there is to publish.
  if (uint64_t id = id_.load(std::memory_order_relaxed)) return id;
  registry& r = the_registry();
  std::lock_guard hold(r.lock);
  if (uint64_t id = id_.load(std::memory_order_relaxed)) return id;  // another task's first use
  uint64_t index;
  if (r.free.empty()) {
    if (r.indices > index_mask) throw std::bad_alloc();
    r.free.reserve(r.indices + 1);  // so that giving it back cannot fail
    index = r.indices++;
  } else {
    index = r.free.back();
    r.free.pop_back();
  }
  uint64_t id = ++r.keys << index_bits | index;
  id_.store(id, std::memory_order_relaxed);
  return id;
}

local_value* local_key::find() const noexcept {
  const uint64_t id = id_.load(std::memory_order_relaxed);
  const auto* table = static_cast<local_table*>(this_record().locals);
  const size_t i = index_of(id);
  if (id == 0 || table == nullptr || i >= table->values.size()) return nullptr;
  local_value* v = table->values[i];
  return v != nullptr && v->key == id ? v : nullptr;
}

void local_key::attach(local_value* v) {
  local_value* old;
  try {
    v->key = id();
    local_table& table = table_of(this_record());
    const size_t i = index_of(v->key);
    if (i >= table.values.size()) table.values.resize(i < 8 ? 8 : i * 2);
    old = find();
    v->older = table.newest;
    table.newest = v;
    table.values[i] = v;
    if (old != nullptr) unlink(table, old);
  } catch (...) {
    v->destroy(v);
    throw;
  }
  if (old != nullptr) old->destroy(old);
}

void local_key::reset() noexcept {
  local_value* v = find();
  if (v == nullptr) return;
  auto& table = static_cast<local_table&>(*this_record().locals);
  unlink(table, v);
  table.values[index_of(v->key)] = nullptr;
  v->destroy(v);
}

}  // namespace weft::detail
