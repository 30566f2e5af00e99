// The deletion barrier's slow part. A store that overwrites a reference while marking is on marks
// what it has overwritten, because the overwritten word may have been the last way to it that the
// marker would have gone.
#include "gc/barrier.h"

#include <time.h>

#include <mutex>
#include <utility>

#include "gc/mark.h"
#include "gc/stress.h"
#include "gc/unstopped.h"

namespace weft::gc {

bool take_greys() noexcept {
  bool any = false;
  for (mutator* m = g_mutators.load(std::memory_order_acquire); m != nullptr; m = m->all_next) {
    mark_block* b;
    {
      std::lock_guard hold(m->grey_lock);
      b = std::exchange(m->grey, nullptr);
    }
    if (b == nullptr) continue;
    any |= b->count != 0;
    give_block(b);
  }
  return any;
}

namespace detail {

std::atomic<uint32_t> marking{0};

void shade(const void* overwritten) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(overwritten);
  hit h;
  if (!find(address, h)) return;
  if ((g_cage.marked[h.word()].load(std::memory_order_relaxed) & h.bit()) != 0) return;
  // From here on the cycle cannot end; before, it may have, and the span with it.
  unstopped here;
  if (marking.load(std::memory_order_relaxed) == 0 || !find(address, h)) return;
  if ((g_cage.marked[h.word()].fetch_or(h.bit(), std::memory_order_relaxed) & h.bit()) != 0) return;
  count_marked(h.s->stride);
  if (h.s->noscan) return;
  mutator& m = mutator_of(here.thread());
  std::lock_guard hold(m.grey_lock);
  if (m.grey == nullptr) m.grey = new_block();
  m.grey->items[m.grey->count++] = h.object();
  if (m.grey->count == mark_block::capacity) give_block(std::exchange(m.grey, nullptr));
}

void stored(const void* old, const void* fresh) noexcept {
  shade(old);
  if (g_options.paranoid) shade(fresh);
}

// Now and then the thread sleeps, and a signal that is to stop it comes here.
static void wait_a_little(void (*hook)() noexcept) noexcept {
  if (hook != nullptr) return hook();
  static std::atomic<uint32_t> count{0};
  if (count.fetch_add(1, std::memory_order_relaxed) % 32 != 0) return;
  timespec pause{0, 30'000};
  ::nanosleep(&pause, nullptr);
}

std::atomic<bool> stores_are_stressed{false};

void store_slowly(void* place, void* fresh) noexcept {
  auto& word = *static_cast<std::atomic<void*>*>(place);
  if (g_options.check_first) {  // wrong: what is overwritten is looked at only if the flag was set
    const bool on = marking.load(std::memory_order_relaxed) != 0;
    wait_a_little(g_stress_hooks.before_store);
    if (on) shade(word.load(std::memory_order_relaxed));
    word.store(fresh, std::memory_order_release);
    wait_a_little(g_stress_hooks.after_store);
    return;
  }
  void* old = word.load(std::memory_order_relaxed);
  wait_a_little(g_stress_hooks.before_store);
  word.store(fresh, std::memory_order_release);
  wait_a_little(g_stress_hooks.after_store);
  overwritten(old, fresh);
}

}  // namespace detail
}  // namespace weft::gc
