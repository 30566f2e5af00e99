#include "gc/verify.h"

#include <sys/mman.h>

#include <cstdio>

#include "base/check.h"
#include "gc/heap.h"
#include "gc/mark.h"
#include "gc/roots.h"
#include "gc/stacks.h"
#include "gc/sweep.h"

namespace weft::gc {
namespace {

const char* type_name(const hit& h) noexcept {
  const type_info* t = h.s->type;
  if (h.s->headered)
    t = reinterpret_cast<const array_header*>(h.object())->type.load(std::memory_order_relaxed);
  return t != nullptr ? t->mangled : "(array under construction)";
}

bool marked_in(const bit_word* bits, const hit& h) noexcept {
  return (bits[h.word()].load(std::memory_order_relaxed) & h.bit()) != 0;
}

struct loss {
  uintptr_t object = 0;
  uintptr_t parent = 0;
};

// Somebody who refers to the lost object, if an object does.
void find_parent(loss& lost) noexcept {
  for (uint32_t i = 1; i < g_cage.pages && lost.parent == 0; ++i) {
    span& s = g_cage.spans[i];
    if (s.start == 0) return;
    const span_state state = s.state.load(std::memory_order_relaxed);
    if (state != span_state::small && state != span_state::large) continue;
    for (uint32_t slot = 0; slot < s.slots && lost.parent == 0; ++slot) {
      const hit h{&s, slot};
      if (!marked_in(g_cage.checked, h)) continue;
      for_each_edge(
          h.object(),
          [](uintptr_t where, const hit& to, void* arg) {
            auto& l = *static_cast<loss*>(arg);
            if (to.object() == l.object) l.parent = where;
          },
          &lost);
    }
  }
}

[[noreturn]] void report(loss lost) noexcept {
  find_parent(lost);
  hit child;
  find(lost.object, child);
  hit parent;
  if (lost.parent != 0 && find(lost.parent, parent))
    base::fatalf(
        "the collector has not marked an object that can be reached: %s at %#zx is referred to by "
        "%s "
        "at %#zx, offset %zu",
        type_name(child), lost.object, type_name(parent), parent.object(),
        lost.parent - parent.object());
  base::fatalf(
      "the collector has not marked an object that can be reached: %s at %#zx, from a root or a "
      "stack",
      type_name(child), lost.object);
}

}  // namespace

void verify_marks() noexcept {
  {
    marker m(g_cage.checked);
    mark_stopped_threads(m);
    mark_parked_tasks(m, true);
    mark_roots(m);
    for_each_dead([](uintptr_t o, void* arg) { static_cast<marker*>(arg)->mark_only(o); }, &m);
    m.drain(SIZE_MAX, false);
  }
  const size_t words = (g_cage.used_bytes.load() >> page_shift) * words_per_page;
  for (size_t w = 0; w < words; ++w) {
    const uint64_t checked = g_cage.checked[w].load(std::memory_order_relaxed);
    const uint64_t marked = g_cage.marked[w].load(std::memory_order_relaxed);
    const uint64_t allocated = g_cage.allocated[w].load(std::memory_order_relaxed);
    if ((checked & ~marked) != 0) {
      const size_t page = w / words_per_page;
      const uint32_t index = g_cage.page_span[page].load();
      const span& s = g_cage.spans[index];
      const auto slot = static_cast<uint32_t>(
          (w - s.first_word()) * 64 + static_cast<size_t>(__builtin_ctzll(checked & ~marked)));
      report({s.slot_address(slot)});
    }
    // What is marked is allocated; what is armed is allocated.
    WEFT_CHECK((marked & ~allocated) == 0);
    WEFT_CHECK((g_cage.armed[w].load(std::memory_order_relaxed) & ~allocated) == 0);
  }
  ::madvise(g_cage.checked, words * sizeof(bit_word), MADV_DONTNEED);
  for (size_t w = 0; w < words; ++w) {
    if (g_cage.checked[w].load(std::memory_order_relaxed) != 0)
      g_cage.checked[w].store(0, std::memory_order_relaxed);
  }
}

}  // namespace weft::gc
