#pragma once
// What the tests of the collected heap share.
#include <gtest/gtest.h>
#include <weft/gc/gc.h>
#include <weft/weft.h>

#include <cstdint>
#include <vector>

#include "gc/span.h"
#include "tests/conformance/world.h"

namespace weft::test {

// An address that no stack word may show: kept with its bits turned over.
class hidden {
 public:
  hidden() = default;
  explicit hidden(const void* p) : bits_(~reinterpret_cast<uintptr_t>(p)) {}
  uintptr_t address() const { return ~bits_; }
  // The object has not been freed. Only right after a collection, as slots are used again.
  bool alive() const {
    gc::hit h;
    return gc::find(address(), h);
  }

 private:
  uintptr_t bits_ = 0;
};

// Runs f on a stack of its own and forgets every register and stack word that it used.
template <class F>
void elsewhere(F f) {
  spawn([&] { f(); }).join();
}

struct node {
  gc::ref<node> next;
  gc::ref<node> other;
  int64_t value = 0;
};

// How many of them are alive after a collection.
inline size_t survivors(const std::vector<hidden>& all) {
  gc::collect();
  size_t n = 0;
  for (const hidden& h : all) n += h.alive();
  return n;
}

}  // namespace weft::test
