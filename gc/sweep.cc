// Sweeping a span touches none of its objects: the mark bits become the allocation bits, word by
// word, and the marks are cleared for the next cycle. Only spans of types with destructors, and
// those on whose objects something hangs, cost more.
//
// Objects with destructors that have died go to a list, from which the type layer's reapers take
// them. Their slots stay allocated meanwhile, and every cycle marks them again without scanning:
// destructors see no references to other objects, so there is nothing to keep for them.
#include "gc/sweep.h"

#include <weft/detail/config.h>

#include <bit>
#include <cstring>
#include <mutex>

#include "base/check.h"
#include "gc/page_heap.h"
#include "gc/specials.h"
#include "gc/stress.h"

#if WEFT_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace weft::gc {
namespace {

// Kinds are gone through by one cursor; what is left behind it is found by all_swept().
std::atomic<uint32_t> g_cursor{0};
std::atomic<int64_t> g_unswept{0};  // spans, in lists and in hands
std::atomic<uint32_t> g_epoch{0};

// Addresses of slots, as they were found; a reaped one is 0. A page each, so that an entry leads to
// its list.
struct dead_list {
  static constexpr size_t capacity = 508;
  dead_list* next;
  size_t count, taken, left;
  uintptr_t slots[capacity];
};
static_assert(sizeof(dead_list) == 4096);
base::spinlock g_dead_lock;
dead_list* g_dead = nullptr;
dead_list* g_spare = nullptr;
std::atomic<size_t> g_dead_count{0};

void add_dead(uintptr_t slot) noexcept {
  std::lock_guard hold(g_dead_lock);
  if (g_dead == nullptr || g_dead->count == dead_list::capacity) {
    dead_list* l = g_spare;
    if (l != nullptr)
      g_spare = l->next;
    else
      l = static_cast<dead_list*>(reserve_table(sizeof(dead_list)));
    if (l == nullptr)
      base::fatal("out of memory for the list of objects that wait for destructors");
    l->count = l->taken = l->left = 0;
    l->next = g_dead;
    g_dead = l;
  }
  g_dead->slots[g_dead->count++] = slot;
  ++g_dead->left;
  g_dead_count.fetch_add(1, std::memory_order_relaxed);
}

void forget(span& s, size_t word, uint64_t dead) noexcept {
  const bool fill = g_options.clobber;
  if (!fill && !WEFT_ASAN) return;
  for (; dead != 0; dead &= dead - 1) {
    const auto slot =
        static_cast<uint32_t>(word * 64 + static_cast<size_t>(std::countr_zero(dead)));
    auto* at = reinterpret_cast<char*>(s.slot_address(slot));
#if WEFT_ASAN
    ASAN_UNPOISON_MEMORY_REGION(at, s.stride);
#endif
    if (fill) std::memset(at, freed_fill, s.stride);
#if WEFT_ASAN
    ASAN_POISON_MEMORY_REGION(at, s.stride);
#endif
  }
}

void put_away(kind& k, span& s) noexcept {
  if (s.live == 0) {
    give_pages(s);
    return;
  }
  std::lock_guard hold(k.lock);
  (s.live < s.slots ? k.partial : k.full).push(&s);
}

}  // namespace

bool sweep_span(span& s) noexcept {
  const uint32_t epoch = sweep_epoch();
  s.swept.store(epoch - 1, std::memory_order_relaxed);
  if (s.specials.load(std::memory_order_relaxed) != nullptr) sweep_specials(s);
  const size_t first = s.first_word();
  uint64_t before = 0, after = 0;
  for (size_t w = 0; w < s.words(); ++w) {
    const uint64_t allocated = g_cage.allocated[first + w].load(std::memory_order_relaxed);
    const uint64_t marked = g_cage.marked[first + w].load(std::memory_order_relaxed);
    WEFT_DCHECK((marked & ~allocated) == 0);
    uint64_t kept = marked;
    uint64_t dead = allocated & ~marked;
    if (dead != 0) {
      const uint64_t armed = g_cage.armed[first + w].load(std::memory_order_relaxed) & dead;
      if (armed != 0) [[unlikely]] {
        kept |= armed;
        dead &= ~armed;
        g_cage.armed[first + w].fetch_and(~armed, std::memory_order_relaxed);
        for (uint64_t left = armed; left != 0; left &= left - 1)
          add_dead(s.slot_address(
              static_cast<uint32_t>(w * 64 + static_cast<size_t>(std::countr_zero(left)))));
      }
      forget(s, w, dead);
    }
    g_cage.allocated[first + w].store(kept, std::memory_order_relaxed);
    // [ord gc.swept] release: who sees the mark gone sees that the span is being swept
    g_cage.marked[first + w].store(0, std::memory_order_release);
    before += static_cast<uint64_t>(std::popcount(allocated));
    after += static_cast<uint64_t>(std::popcount(kept));
  }
  s.live = static_cast<uint32_t>(after);
  s.next_slot = 0;
  s.fresh = false;
  g_counters.freed.fetch_add((before - after) * s.stride, std::memory_order_relaxed);
  g_kinds[s.kind].freed.fetch_add(before - after, std::memory_order_relaxed);
  g_counters.freed_objects.fetch_add(before - after, std::memory_order_relaxed);
  s.swept.store(epoch, std::memory_order_release);  // [ord gc.swept]
  g_unswept.fetch_sub(1, std::memory_order_relaxed);
  return after == 0;
}

void begin_sweep() noexcept {
  int64_t n = 0;
  for (uint32_t i = 1; i < g_kind_count.load(std::memory_order_relaxed); ++i) {
    kind& k = g_kinds[i];
    k.unswept.splice(k.partial);
    k.unswept.splice(k.full);
    n += static_cast<int64_t>(k.unswept.count);
  }
  g_unswept.store(n, std::memory_order_relaxed);
  g_epoch.fetch_add(2, std::memory_order_relaxed);
  g_cursor.store(1, std::memory_order_relaxed);
}

bool sweep_some(size_t spans) noexcept {
  uint32_t i = g_cursor.load(std::memory_order_relaxed);
  while (i < g_kind_count.load(std::memory_order_relaxed) && i != 0) {
    kind& k = g_kinds[i];
    span* s;
    {
      std::lock_guard hold(k.lock);
      s = k.unswept.pop();
    }
    if (s == nullptr) {
      g_cursor.compare_exchange_strong(i, i + 1, std::memory_order_relaxed);
      i = g_cursor.load(std::memory_order_relaxed);
      continue;
    }
    sweep_span(*s);
    put_away(k, *s);
    if (--spans == 0) return true;
  }
  return false;
}

uint32_t sweep_epoch() noexcept { return g_epoch.load(std::memory_order_relaxed); }

bool all_swept() noexcept { return g_unswept.load(std::memory_order_relaxed) == 0; }

bool take_dead(dead_object& out) noexcept {
  std::lock_guard hold(g_dead_lock);
  for (dead_list** link = &g_dead; *link != nullptr;) {
    dead_list* l = *link;
    if (l->taken == l->count) {
      if (l->left == 0) {
        *link = l->next;
        l->next = g_spare;
        g_spare = l;
      } else {
        link = &l->next;
      }
      continue;
    }
    out.ticket = &l->slots[l->taken++];
    const uintptr_t slot = *out.ticket;
    hit h;
    WEFT_CHECK(find(slot, h));
    out.type = h.s->type;
    out.object = reinterpret_cast<void*>(slot);
    out.count = 1;
    if (h.s->headered) {
      const auto* header = reinterpret_cast<const array_header*>(slot);
      out.type = header->type.load(std::memory_order_relaxed);
      out.object = reinterpret_cast<void*>(slot + header_bytes(*out.type));
      out.count = header->length;
    }
    return true;
  }
  return false;
}

void reaped(const dead_object& dead) noexcept {
  auto* l = reinterpret_cast<dead_list*>(reinterpret_cast<uintptr_t>(dead.ticket) &
                                         ~(sizeof(dead_list) - 1));
  std::lock_guard hold(g_dead_lock);
  WEFT_CHECK(*dead.ticket != 0);
  *dead.ticket = 0;
  --l->left;
  g_dead_count.fetch_sub(1, std::memory_order_relaxed);
}

size_t dead_count() noexcept { return g_dead_count.load(std::memory_order_relaxed); }

void for_each_dead(void (*mark)(uintptr_t, void*), void* arg) noexcept {
  std::lock_guard hold(g_dead_lock);
  for (const dead_list* l = g_dead; l != nullptr; l = l->next) {
    for (size_t i = 0; i < l->count; ++i) {
      if (l->slots[i] != 0) mark(l->slots[i], arg);
    }
  }
}

void lock_sweep() noexcept { g_dead_lock.lock(); }
void unlock_sweep() noexcept { g_dead_lock.unlock(); }

}  // namespace weft::gc
