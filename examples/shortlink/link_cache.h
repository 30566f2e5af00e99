#pragma once
// link_cache: the most recently used links in memory, so that resolving a popular one asks no
// database.
//
//   if (auto hit = cache.find(code)) return *hit;
//   auto before = cache.removals();            // before reading the database
//   auto row = db.find(code);
//   if (row) cache.insert(code, {...}, before);
//
// Bounded: the least recently used link makes room. Thread-safe.
#include <weft/mutex.h>

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

namespace shortlink {

struct cached_link {
  int64_t id = 0;
  std::string url;
};

class link_cache {
 public:
  // Holds up to `capacity` links; 0 switches the cache off.
  explicit link_cache(size_t capacity) : capacity_(capacity) {}

  // Null if it is not here.
  std::shared_ptr<const cached_link> find(std::string_view code);

  // Number of removals so far. A link read from the database before a removal may be the removed
  // one.
  uint64_t removals();
  // Adds the link, unless something was removed since removals() returned `as_of`: then what the
  // caller has may be out of date, and keeping it would serve a deleted link until it is evicted.
  void insert(std::string_view code, cached_link value, uint64_t as_of);
  void remove(std::string_view code);

  struct statistics {
    size_t size = 0, capacity = 0;
    uint64_t hits = 0, misses = 0, evictions = 0;
  };
  statistics stats();

 private:
  struct entry {
    std::string code;
    std::shared_ptr<const cached_link> value;
  };

  const size_t capacity_;
  weft::mutex mutex_;
  std::list<entry> recent_;  // most recently used first
  // Keys point into the list's strings, which never move.
  std::unordered_map<std::string_view, std::list<entry>::iterator> by_code_;
  uint64_t removals_ = 0, hits_ = 0, misses_ = 0, evictions_ = 0;
};

}  // namespace shortlink
