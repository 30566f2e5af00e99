// What must hold when marking has ended:
//   - no marked object, root or global refers to one that is not marked;
//   - what is marked or armed is allocated.
// Stacks are not asked. A task that has run since its stack was scanned may have uninitialized
// words there that an earlier, deeper call left: they refer to objects which were dead at the
// snapshot. An object that only a stack holds and that was lost nevertheless shows as an edge as
// soon as the task has stored it anywhere, and by the fill of freed slots.
#include "gc/verify.h"

#include <bit>

#include "base/check.h"
#include "gc/heap.h"
#include "gc/mark.h"
#include "gc/page_heap.h"
#include "gc/roots.h"
#include "gc/sweep.h"

namespace weft::gc {
namespace {

const char* type_name(const hit& h) noexcept {
  const type_info* t = h.s->type;
  if (h.s->headered)
    t = reinterpret_cast<const array_header*>(h.object())->type.load(std::memory_order_relaxed);
  return t != nullptr ? t->mangled() : "(array under construction)";
}

bool has_bit(const bit_word* bits, const hit& h) noexcept {
  return (bits[h.word()].load(std::memory_order_relaxed) & h.bit()) != 0;
}

void check_edge(uintptr_t where, const hit& to, void* from) noexcept {
  if (has_bit(g_cage.marked, to)) return;
  const hit& parent = *static_cast<const hit*>(from);
  base::fatalf(
      "the collector has not marked an object that can be reached: %s at %#zx is referred to by %s "
      "at "
      "%#zx, offset %zu",
      type_name(to), to.object(), type_name(parent), parent.object(), where - parent.object());
}

void check_span(span& s) noexcept {
  for (size_t w = 0; w < s.words(); ++w) {
    const size_t at = s.first_word() + w;
    const uint64_t marked = g_cage.marked[at].load(std::memory_order_relaxed);
    const uint64_t allocated = g_cage.allocated[at].load(std::memory_order_relaxed);
    WEFT_CHECK((marked & ~allocated) == 0);
    WEFT_CHECK((g_cage.armed[at].load(std::memory_order_relaxed) & ~allocated) == 0);
    if (s.noscan) continue;
    // Those that wait for their destructors are marked, and what they refer to is not.
    uint64_t look = marked & ~g_cage.checked[at].load(std::memory_order_relaxed);
    for (; look != 0; look &= look - 1) {
      hit h{&s, static_cast<uint32_t>(w * 64 + static_cast<size_t>(std::countr_zero(look)))};
      for_each_edge(h.object(), check_edge, &h);
    }
  }
}

void flip_dead(uintptr_t object, void*) noexcept {
  hit h;
  if (find(object, h)) g_cage.checked[h.word()].fetch_xor(h.bit(), std::memory_order_relaxed);
}

}  // namespace

void verify_marks() noexcept {
  for_each_dead(flip_dead, nullptr);
  for_each_span([](span& s, void*) { check_span(s); }, nullptr);
  for_each_dead(flip_dead, nullptr);
  for_each_root(
      [](uintptr_t word, void*) {
        hit h;
        if (find(word, h) && !has_bit(g_cage.marked, h))
          base::fatalf(
              "the collector has not marked an object that can be reached: %s at %#zx is referred "
              "to "
              "by a root or global",
              type_name(h), h.object());
      },
      nullptr);
}

}  // namespace weft::gc
