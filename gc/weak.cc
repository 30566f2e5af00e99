// A target has one cell for each of its addresses that somebody has a weak reference to. The cell
// hangs on the target as a special, through a root: it lives as long as the target or any of its
// weak references does. Sweeping clears the cell of a target that has died.
//
// lock() must not give out an object that this cycle has found dead, and whatever it gives out must
// survive the cycle:
//   marking     the target is shaded, as if it had been overwritten somewhere. Marking ends only
//               inside a stop, after it has looked at everything shaded, and a lock() is never cut
//               in two by a stop; so there is no lock() between the last look and the end.
//   not swept   the target's mark says whether it lives.
//   swept       the cell says it.
// Which of the last two holds may change meanwhile: span::swept is read before and after.
#include "gc/weak.h"

#include <sched.h>
#include <weft/gc/weak.h>

#include <mutex>
#include <stdexcept>

#include "base/spinlock.h"
#include "gc/heap.h"
#include "gc/specials.h"
#include "gc/sweep.h"
#include "gc/unstopped.h"

namespace weft::gc {
namespace {

using detail::weak_cell;

base::spinlock g_lock;  // makes finding and adding a cell one step

weak_cell* cell_in(void* payload) noexcept {
  return static_cast<weak_cell*>(
      static_cast<std::atomic<void*>*>(payload)->load(std::memory_order_relaxed));
}

uintptr_t load_target(const weak_cell* c) noexcept {
  return __atomic_load_n(&c->target_inverted, __ATOMIC_ACQUIRE);
}

// Sweeping: in a critical section or by the collector.
void expire(void*, void* payload) noexcept {
  __atomic_store_n(&cell_in(payload)->target_inverted, 0, __ATOMIC_RELEASE);
  detail::delete_root(static_cast<std::atomic<void*>*>(payload));
}

weak_cell* find_cell(const void* p) noexcept {
  void* root = find_special(
      p, special_kind::weak_cell,
      [](void* payload, const void* target) {
        return load_target(cell_in(payload)) == ~reinterpret_cast<uintptr_t>(target);
      },
      p);
  return root != nullptr ? cell_in(root) : nullptr;
}

}  // namespace

void expire_weak_cells(const void* object) noexcept {
  unstopped here;
  std::lock_guard hold(g_lock);
  while (void* payload = remove_special(object, special_kind::weak_cell, nullptr))
    expire(nullptr, payload);
}

void lock_weak_cells() noexcept { g_lock.lock(); }
void unlock_weak_cells() noexcept { g_lock.unlock(); }

namespace detail {

weak_cell* weak_cell_of(void* p) {
  if (p == nullptr) return nullptr;
  if (!is_heap_address(p))
    throw std::invalid_argument("gc::weak: not an object of the collected heap");
  {
    unstopped here;
    std::lock_guard hold(g_lock);
    set_special_handler(special_kind::weak_cell, expire);
    if (weak_cell* c = find_cell(p)) return c;
  }
  auto* c = static_cast<weak_cell*>(allocate(type_of<weak_cell>()));
  *c = {~reinterpret_cast<uintptr_t>(p), 0};
  std::atomic<void*>* root = new_root(c);
  weak_cell* other;
  {
    unstopped here;
    std::lock_guard hold(g_lock);
    other = find_cell(p);
    if (other == nullptr) add_special(p, special_kind::weak_cell, root);
  }
  if (other == nullptr) return c;
  delete_root(root);
  return other;
}

void* lock_weak(const weak_cell* c) noexcept {
  unstopped here;
  for (int round = 0;; ++round) {
    if (round % 16 == 15) ::sched_yield();
    const uintptr_t inverted = load_target(c);
    if (inverted == 0) return nullptr;
    auto* target = reinterpret_cast<void*>(~inverted);
    if (marking.load(std::memory_order_relaxed) != 0) {
      shade(target);
      return target;
    }
    hit h;
    if (!find(~inverted, h)) continue;  // it is being swept: the cell was cleared first
    // [ord gc.swept] acquire: with the mark of "swept" comes what sweeping did to the cell
    const uint32_t swept = h.s->swept.load(std::memory_order_acquire);
    if (swept == sweep_epoch()) {
      if (load_target(c) == inverted) return target;
      continue;
    }
    // [ord gc.swept] acquire: a mark that sweeping has cleared shows that sweeping has begun
    const uint64_t marks = g_cage.marked[h.word()].load(std::memory_order_acquire);
    if (swept % 2 != 0 || h.s->swept.load(std::memory_order_relaxed) != swept) continue;
    return (marks & h.bit()) != 0 ? target : nullptr;
  }
}

}  // namespace detail
}  // namespace weft::gc
