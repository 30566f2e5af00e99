#pragma once
// lru_cache: values on the collected heap by name, the most recently used ones held, within a
// budget.
//
//   example::lru_cache<page> pages(64 << 20, example::evicted::findable);
//   page* p = pages.find("index");          // this stack keeps it alive, evicted or not
//   if (p == nullptr) {
//     auto before = pages.removals();       // before reading what it is made from
//     p = load("index");
//     pages.add("index", p, p->size, before);
//   }
//
// Nobody counts references: who has found a value reads it for as long as it likes, and the
// collector takes what has been evicted once the last reader is gone. Until then a weak reference
// can bring it back.
#include <weft/gc/gc.h>
#include <weft/gc/map.h>
#include <weft/gc/string.h>
#include <weft/gc/weak.h>
#include <weft/mutex.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string_view>

namespace example {

// What find() says of a value that was evicted, while somebody still uses it or no collection has
// taken it yet.
enum class evicted : uint8_t { gone, findable };

// Thread-safe; may live anywhere. Functions that insert throw std::bad_alloc.
template <class V>
class lru_cache {
 public:
  // Holds values whose costs add up to at most `room`, in whatever unit; 0 holds none.
  lru_cache(size_t room, evicted then) : room_(room), then_(then), all_(weft::gc::make<table>()) {}

  // Null if there is none of that name. Makes it the most recently used.
  V* find(std::string_view name) {
    std::lock_guard hold(mutex_);
    entry* e = entry_of(name);
    if (e != nullptr && e->kept != nullptr) {
      ++counts_.hits;
      all_->kept.unlink(e);
      all_->kept.push(e);
      return e->kept;
    }
    if (V* still = e != nullptr ? e->seen.lock() : nullptr; still != nullptr) {
      ++counts_.revived;
      all_->dropped.unlink(e);
      keep(e, still);
      return still;
    }
    ++counts_.misses;
    return nullptr;
  }

  // Number of replacements and removals so far. What was loaded before one may be out of date.
  uint64_t removals() {
    std::lock_guard hold(mutex_);
    return removals_;
  }
  // Adds the value unless there is one of that name, or something was replaced or removed since
  // removals() returned `as_of`: keeping it could bring back what has just been removed.
  void add(std::string_view name, V* value, size_t cost, uint64_t as_of) {
    std::lock_guard hold(mutex_);
    if (removals_ != as_of || cost > room_) return;
    entry* e = entry_of(name);
    if (e != nullptr && (e->kept != nullptr || e->seen.lock() != nullptr)) return;
    if (e != nullptr) forget(e);
    insert(name, value, cost);
  }
  // The value of that name from now on, if it costs no more than there is room; otherwise there is
  // none. Returns whether there was one before.
  bool put(std::string_view name, V* value, size_t cost) {
    std::lock_guard hold(mutex_);
    const bool replaced = remove_entry(name);
    if (cost <= room_) insert(name, value, cost);
    return replaced;
  }
  // Returns whether there was one.
  bool remove(std::string_view name) {
    std::lock_guard hold(mutex_);
    return remove_entry(name);
  }

  struct statistics {
    uint64_t hits = 0, misses = 0, revived = 0, evictions = 0;
    size_t kept = 0, dropped = 0;  // values held; evicted ones that may still be found
    size_t cost = 0;               // of those held
  };
  statistics stats() {
    std::lock_guard hold(mutex_);
    statistics s = counts_;
    s.kept = all_->kept.size;
    s.dropped = all_->dropped.size;
    s.cost = used_;
    return s;
  }

 private:
  template <class T>
  using ref = weft::gc::ref<T>;

  struct entry {
    weft::gc::string name;
    size_t cost = 0;
    ref<V> kept;             // null: in the list of the dropped
    weft::gc::weak<V> seen;  // set when it is dropped
    ref<entry> newer, older;
  };
  struct list {
    ref<entry> newest, oldest;
    size_t size = 0;

    void push(entry* e) {
      e->older = newest;
      e->newer = nullptr;
      if (newest != nullptr) newest->newer = e;
      newest = e;
      if (oldest == nullptr) oldest = e;
      ++size;
    }
    void unlink(entry* e) {
      (e->newer != nullptr ? e->newer->older : newest) = e->older;
      (e->older != nullptr ? e->older->newer : oldest) = e->newer;
      e->newer = e->older = nullptr;
      --size;
    }
  };
  struct table {
    weft::gc::map<weft::gc::string, ref<entry>, weft::gc::string_hash, std::equal_to<>> by_name;
    list kept, dropped;
  };

  entry* entry_of(std::string_view name) {
    auto found = all_->by_name.find(name);
    return found == all_->by_name.end() ? nullptr : found->second.get();
  }
  void insert(std::string_view name, V* value, size_t cost) {
    entry* e = weft::gc::make<entry>();
    e->name = weft::gc::string(name);
    e->cost = cost;
    all_->by_name.emplace(e->name, e);
    keep(e, value);
  }
  void keep(entry* e, V* value) {
    e->kept = value;
    all_->kept.push(e);
    used_ += e->cost;
    while (used_ > room_) evict(all_->kept.oldest);
  }
  void evict(entry* e) {
    ++counts_.evictions;
    V* value = e->kept;
    release(e);
    if (then_ == evicted::gone) {
      all_->by_name.erase(e->name);
      return;
    }
    e->seen = value;
    all_->dropped.push(e);
    // Two for each that comes: the list does not grow beyond those that somebody uses and those
    // that died since the last collection. One that is in use goes to the end.
    for (int i = 0; i < 2; ++i) {
      entry* first = all_->dropped.oldest;
      if (first->seen.expired()) {
        forget(first);
      } else {
        all_->dropped.unlink(first);
        all_->dropped.push(first);
      }
    }
  }
  void release(entry* e) {
    all_->kept.unlink(e);
    e->kept = nullptr;
    used_ -= e->cost;
  }
  void forget(entry* e) {
    all_->dropped.unlink(e);
    all_->by_name.erase(e->name);
  }
  bool remove_entry(std::string_view name) {
    ++removals_;
    entry* e = entry_of(name);
    if (e == nullptr) return false;
    const bool there = e->kept != nullptr || e->seen.lock() != nullptr;
    if (e->kept != nullptr) {
      release(e);
      all_->by_name.erase(e->name);
    } else {
      forget(e);
    }
    return there;
  }

  const size_t room_;
  const evicted then_;
  weft::mutex mutex_;
  weft::gc::root<table> all_;
  size_t used_ = 0;
  uint64_t removals_ = 0;
  statistics counts_;
};

}  // namespace example
