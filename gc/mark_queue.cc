#include "gc/mark_queue.h"

#include <atomic>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "base/spinlock.h"
#include "gc/cage.h"

namespace weft::gc {
namespace {

constexpr size_t slab_blocks = 64;

base::spinlock g_lock;
mark_block* g_full = nullptr;
mark_block* g_empty = nullptr;
std::atomic<size_t> g_full_count{0};

}  // namespace

mark_block* new_block() noexcept {
  std::lock_guard hold(g_lock);
  if (g_empty == nullptr) {
    auto* slab = static_cast<mark_block*>(reserve_table(slab_blocks * sizeof(mark_block)));
    if (slab == nullptr) base::fatal("out of memory for the collector's queue of marked objects");
    for (size_t i = 0; i < slab_blocks; ++i) {
      slab[i].next = g_empty;
      g_empty = &slab[i];
    }
  }
  mark_block* b = std::exchange(g_empty, g_empty->next);
  b->next = nullptr;
  b->count = 0;
  return b;
}

void free_block(mark_block* b) noexcept {
  std::lock_guard hold(g_lock);
  b->next = g_empty;
  g_empty = b;
}

void give_block(mark_block* b) noexcept {
  if (b->count == 0) {
    free_block(b);
    return;
  }
  std::lock_guard hold(g_lock);
  b->next = g_full;
  g_full = b;
  g_full_count.fetch_add(1, std::memory_order_relaxed);
}

mark_block* take_block() noexcept {
  if (!shared_work()) return nullptr;
  std::lock_guard hold(g_lock);
  mark_block* b = g_full;
  if (b != nullptr) {
    g_full = b->next;
    g_full_count.fetch_sub(1, std::memory_order_relaxed);
  }
  return b;
}

bool shared_work() noexcept { return g_full_count.load(std::memory_order_relaxed) != 0; }

}  // namespace weft::gc
