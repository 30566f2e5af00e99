// All entries of all weak maps, in one table with open addressing. It lies in ordinary memory,
// where nothing is found by accident; the marker visits it when the graph is exhausted, until that
// marks nothing more.
//
// Concurrent marking: a value that is overwritten or removed is shaded, as a field's would be. One
// that get() gives out needs nothing: its key is alive, so the value's turn comes.
#include "gc/ephemerons.h"

#include <weft/gc/detail/heap.h>
#include <weft/gc/weak_map.h>

#include <cstdlib>
#include <mutex>
#include <new>
#include <stdexcept>
#include <utility>

#include "base/spinlock.h"
#include "gc/cycle.h"
#include "gc/unstopped.h"

namespace weft::gc {
namespace {

struct entry {
  uintptr_t map = 0;  // 0: never used
  uintptr_t key = 0;  // 0: removed
  void* value = nullptr;
};

constexpr size_t least_capacity = 64;

base::spinlock
    g_lock;  // held in critical sections, by the collector, or while the world is stopped
entry* g_entries = nullptr;
size_t g_capacity = 0;  // a power of two
size_t g_used = 0;      // with removed ones
size_t g_alive = 0;

bool marked(uintptr_t object) noexcept { return is_marked(reinterpret_cast<void*>(object)); }

size_t first_place(uintptr_t map, uintptr_t key) noexcept {
  return static_cast<size_t>((map * 0x9e3779b97f4a7c15 ^ key) * 0xd6e8feb86659fd93 >> 20);
}

// The entry, or the place for it.
entry* look_up(uintptr_t map, uintptr_t key) noexcept {
  entry* room = nullptr;
  for (size_t i = first_place(map, key);; ++i) {
    entry& e = g_entries[i & (g_capacity - 1)];
    if (e.map == 0) return room != nullptr ? room : &e;
    if (e.map == map && e.key == key) return &e;
    if (e.key == 0 && room == nullptr) room = &e;
  }
}

// Room for one more, a quarter of the table always unused. False: no memory.
bool make_room() noexcept {
  if (g_used + 1 <= g_capacity / 4 * 3) return true;
  size_t capacity = least_capacity;
  while (capacity / 2 < g_alive + 1) capacity *= 2;
  auto* fresh = static_cast<entry*>(std::calloc(capacity, sizeof(entry)));
  if (fresh == nullptr) return false;
  entry* old = std::exchange(g_entries, fresh);
  const size_t n = std::exchange(g_capacity, capacity);
  g_used = g_alive;
  for (size_t i = 0; i < n; ++i) {
    if (old[i].key != 0) *look_up(old[i].map, old[i].key) = old[i];
  }
  std::free(old);
  return true;
}

void remove(entry& e) noexcept {
  e.key = 0;
  e.value = nullptr;
  --g_alive;
}

}  // namespace

bool mark_ephemerons(marker& m) noexcept {
  std::lock_guard hold(g_lock);
  bool any = false;
  for (size_t i = 0; i < g_capacity; ++i) {
    const entry& e = g_entries[i];
    if (e.key != 0 && marked(e.map) && marked(e.key))
      any |= m.mark(reinterpret_cast<uintptr_t>(e.value));
  }
  return any;
}

void drop_dead_ephemerons() noexcept {
  std::lock_guard hold(g_lock);
  for (size_t i = 0; i < g_capacity; ++i) {
    entry& e = g_entries[i];
    if (e.key != 0 && !(marked(e.map) && marked(e.key))) remove(e);
  }
}

void lock_ephemerons() noexcept { g_lock.lock(); }
void unlock_ephemerons() noexcept { g_lock.unlock(); }

namespace detail {

void set_ephemeron(const weak_map_identity* map, const void* key, void* value) {
  if (!is_heap_address(key) || !is_heap_address(value))
    throw std::invalid_argument("gc::weak_map: not an object of the collected heap");
  void* old = nullptr;
  bool done = false;
  {
    unstopped here;
    std::lock_guard hold(g_lock);
    if (make_room()) {
      const auto m = reinterpret_cast<uintptr_t>(map), k = reinterpret_cast<uintptr_t>(key);
      entry* e = look_up(m, k);
      if (e->key == k) {
        old = e->value;
      } else {
        ++g_alive;
        if (e->map == 0) ++g_used;
      }
      *e = {m, k, value};
      done = true;
    }
  }
  if (!done) throw_out_of_memory(sizeof(entry));
  overwritten(old);
}

void* get_ephemeron(const weak_map_identity* map, const void* key) noexcept {
  unstopped here;
  std::lock_guard hold(g_lock);
  if (g_capacity == 0 || key == nullptr) return nullptr;
  const auto k = reinterpret_cast<uintptr_t>(key);
  const entry* e = look_up(reinterpret_cast<uintptr_t>(map), k);
  return e->key == k ? e->value : nullptr;
}

bool erase_ephemeron(const weak_map_identity* map, const void* key) noexcept {
  void* old = nullptr;
  {
    unstopped here;
    std::lock_guard hold(g_lock);
    if (g_capacity == 0 || key == nullptr) return false;
    const auto k = reinterpret_cast<uintptr_t>(key);
    entry* e = look_up(reinterpret_cast<uintptr_t>(map), k);
    if (e->key != k) return false;
    old = e->value;
    remove(*e);
  }
  overwritten(old);
  return true;
}

size_t count_ephemerons(const weak_map_identity* map) noexcept {
  unstopped here;
  std::lock_guard hold(g_lock);
  size_t n = 0;
  for (size_t i = 0; i < g_capacity; ++i)
    n += g_entries[i].key != 0 && g_entries[i].map == reinterpret_cast<uintptr_t>(map);
  return n;
}

}  // namespace detail
}  // namespace weft::gc
