#include "gc/specials.h"

#include <mutex>
#include <utility>

#include "base/alloc_sampling.h"
#include "base/check.h"
#include "base/spinlock.h"

namespace weft::gc {
namespace {

constexpr size_t slab_records = 1024;

base::spinlock g_lock;  // guards every list; samples are rare, and so are weak cells and cleanups
special* g_free = nullptr;

void sample_died(void*, void* token) noexcept {
  if (auto freed = base::current_alloc_port().freed) freed(token);
}

std::atomic<special_handler> g_handlers[static_cast<int>(special_kind::count)] = {sample_died};

special* new_special() noexcept {
  if (g_free == nullptr) {
    auto* slab = static_cast<special*>(reserve_table(slab_records * sizeof(special)));
    if (slab == nullptr) base::fatal("out of memory for the collector's records of single objects");
    for (size_t i = 0; i < slab_records; ++i) {
      slab[i].next = g_free;
      g_free = &slab[i];
    }
  }
  return std::exchange(g_free, g_free->next);
}

void free_special(special* x) noexcept {
  x->next = g_free;
  g_free = x;
}

bool find_object(const void* address, hit& h) noexcept {
  return find(reinterpret_cast<uintptr_t>(address), h);
}

}  // namespace

void set_special_handler(special_kind kind, special_handler on_death) noexcept {
  g_handlers[static_cast<int>(kind)].store(on_death, std::memory_order_relaxed);
}

bool add_special(const void* address, special_kind kind, void* payload) noexcept {
  hit h;
  if (!find_object(address, h)) return false;
  std::lock_guard hold(g_lock);
  special* x = new_special();
  *x = {h.s->specials.load(std::memory_order_relaxed), h.object(), payload, kind};
  h.s->specials.store(x, std::memory_order_relaxed);
  return true;
}

void* remove_special(const void* address, special_kind kind, void* payload) noexcept {
  hit h;
  if (!find_object(address, h)) return nullptr;
  std::lock_guard hold(g_lock);
  special* before = nullptr;
  for (special* x = h.s->specials.load(std::memory_order_relaxed); x != nullptr;
       before = std::exchange(x, x->next)) {
    if (x->object != h.object() || x->kind != kind || (payload != nullptr && x->payload != payload))
      continue;
    if (before != nullptr)
      before->next = x->next;
    else
      h.s->specials.store(x->next, std::memory_order_relaxed);
    void* found = x->payload;
    free_special(x);
    return found;
  }
  return nullptr;
}

void* find_special(const void* address, special_kind kind, bool (*match)(void*, const void*),
                   const void* arg) noexcept {
  hit h;
  if (!find_object(address, h)) return nullptr;
  std::lock_guard hold(g_lock);
  for (special* x = h.s->specials.load(std::memory_order_relaxed); x != nullptr; x = x->next) {
    if (x->object == h.object() && x->kind == kind && match(x->payload, arg)) return x->payload;
  }
  return nullptr;
}

void sweep_specials(span& s) noexcept {
  special* dead = nullptr;
  {
    std::lock_guard hold(g_lock);
    special* keep = nullptr;
    special* next;
    for (special* x = s.specials.load(std::memory_order_relaxed); x != nullptr; x = next) {
      next = x->next;
      const auto slot = static_cast<uint32_t>((x->object - s.start) / s.stride);
      const hit h{&s, slot};
      uint64_t kept = g_cage.marked[h.word()].load(std::memory_order_relaxed);
      if (x->kind != special_kind::weak_cell)
        kept |= g_cage.armed[h.word()].load(std::memory_order_relaxed);
      special*& to = (kept & h.bit()) != 0 ? keep : dead;
      x->next = to;
      to = x;
    }
    s.specials.store(keep, std::memory_order_relaxed);
  }
  // Without the lock: a handler may have locks of its own.
  for (special* x = dead; x != nullptr; x = x->next) {
    if (special_handler f = g_handlers[static_cast<int>(x->kind)].load(std::memory_order_relaxed))
      f(reinterpret_cast<void*>(x->object), x->payload);
  }
  std::lock_guard hold(g_lock);
  while (dead != nullptr) free_special(std::exchange(dead, dead->next));
}

void lock_specials() noexcept { g_lock.lock(); }
void unlock_specials() noexcept { g_lock.unlock(); }

}  // namespace weft::gc
