#pragma once
// link_cache: the most recently used links in memory, so that resolving a popular one asks no
// database.
//
//   if (const cached_link* hit = cache.find(code)) return hit->url;
//   auto before = cache.removals();            // before reading the database
//   auto row = db.find(code);
//   if (row) cache.add(code, {...}, before);
//
// Links live on the collected heap: one that is evicted or deleted while a request still answers
// with it stays until that request has forgotten it. Bounded, thread-safe.
#include <weft/gc/gc.h>
#include <weft/gc/string.h>

#include <cstdint>
#include <string_view>

#include "examples/common/lru_cache.h"

namespace shortlink {

struct cached_link {
  int64_t id = 0;
  weft::gc::string url;
};

class link_cache {
 public:
  // Holds up to `capacity` links; 0 switches the cache off.
  explicit link_cache(size_t capacity)
      : capacity_(capacity), links_(capacity, example::evicted::gone) {}

  // Null if it is not here.
  const cached_link* find(std::string_view code) { return links_.find(code); }

  // Number of removals so far. A link read from the database before a removal may be the removed
  // one.
  uint64_t removals() { return links_.removals(); }
  // Adds the link and returns it. It is not kept if something was removed since removals() returned
  // `as_of`: then what the caller has may be out of date, and keeping it would serve a deleted link
  // until it is evicted.
  const cached_link* add(std::string_view code, int64_t id, std::string_view url, uint64_t as_of) {
    auto* made = weft::gc::make<cached_link>(id, url);
    links_.add(code, made, 1, as_of);
    return made;
  }
  void remove(std::string_view code) { links_.remove(code); }

  struct statistics {
    size_t size = 0, capacity = 0;
    uint64_t hits = 0, misses = 0, evictions = 0;
  };
  statistics stats() {
    const auto s = links_.stats();
    return {s.kept, capacity_, s.hits, s.misses, s.evictions};
  }

 private:
  const size_t capacity_;
  example::lru_cache<cached_link> links_;
};

}  // namespace shortlink
