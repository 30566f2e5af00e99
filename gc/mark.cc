// Marking. No user code runs here, nothing recurses, and nothing depends on what the words mean:
// masks say where to look, find() says whether there is an object.
#include "gc/mark.h"

#include <time.h>
#include <weft/detail/config.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "gc/heap.h"
#include "gc/stress.h"
#include "scheduler/world_stop.h"

namespace weft::gc {
namespace {

// Large arrays are scanned in pieces, which must be short because tasks help: a word may take 0.2
// us.
constexpr size_t oblet_bytes = size_t{16} << 10;
constexpr size_t prefetch_distance = 8;
// Items are addresses of slots, which are multiples of 8; the lowest bit says that it is the rest
// of a large array, from there on.
constexpr uintptr_t piece = 1;

std::atomic<uint64_t> g_marked{0};

WEFT_NO_SANITIZE inline uintptr_t word(uintptr_t at) noexcept {
  return __atomic_load_n(reinterpret_cast<const uintptr_t*>(at), __ATOMIC_RELAXED);
}

// Calls f(address) for every word of an object of type t that may hold a reference.
template <class F>
inline void each_slot(uintptr_t at, const type_info& t, F f) noexcept {
  if (t.conservative) {
    for (uintptr_t p = at, end = at + (t.size & ~size_t{7}); p < end; p += 8) f(p);
    return;
  }
  for (uint32_t w = 0; w < t.mask_words; ++w) {
    for (uint64_t bits = t.mask[w]; bits != 0; bits &= bits - 1)
      f(at + (w * size_t{64} + static_cast<size_t>(std::countr_zero(bits))) * 8);
  }
}

// Elements of an array that lie in [from, from + limit), or all.
template <class F>
inline void each_array_slot(uintptr_t first, const type_info& t, uint64_t length, F f) noexcept {
  if (t.conservative || (t.size == 8 && t.mask != nullptr && (t.mask[0] & 1) != 0)) {
    for (uintptr_t p = first, end = first + ((length * t.size) & ~uint64_t{7}); p < end; p += 8)
      f(p);
    return;
  }
  for (uint64_t i = 0; i < length; ++i) each_slot(first + i * t.size, t, f);
}

void nap() noexcept {
  if (g_stress_hooks.before_scan != nullptr) return g_stress_hooks.before_scan();
  static std::atomic<uint32_t> count{0};
  if (count.fetch_add(1, std::memory_order_relaxed) % 64 != 0) return;
  timespec pause{0, 50'000};
  ::nanosleep(&pause, nullptr);
}

}  // namespace

void count_marked(uint64_t bytes) noexcept { g_marked.fetch_add(bytes, std::memory_order_relaxed); }
uint64_t marked_bytes() noexcept { return g_marked.load(std::memory_order_relaxed); }
void reset_marked() noexcept { g_marked.store(0, std::memory_order_relaxed); }

marker::marker(bit_word* bits) noexcept : bits_(bits), block_(new_block()) {}

marker::~marker() {
  flush();
  free_block(block_);
}

void marker::flush() noexcept {
  if (bits_ == g_cage.marked && marked_ != 0) count_marked(std::exchange(marked_, 0));
  if (block_->count == 0) return;
  give_block(block_);
  block_ = new_block();
}

inline void marker::push(uintptr_t item) noexcept {
  if (block_->count == mark_block::capacity) [[unlikely]] {
    give_block(block_);
    block_ = new_block();
  }
  block_->items[block_->count++] = item;
}

inline uintptr_t marker::pop() noexcept {
  if (block_->count == 0) [[unlikely]] {
    mark_block* b = take_block();
    if (b == nullptr) return 0;
    free_block(block_);
    block_ = b;
  }
  return block_->items[--block_->count];
}

[[gnu::always_inline]] inline bool marker::visit(uintptr_t word) noexcept {
  hit h;
  if (!find(word, h)) return false;
  bit_word& bits = bits_[h.word()];
  if ((bits.load(std::memory_order_relaxed) & h.bit()) != 0) return false;
  if ((bits.fetch_or(h.bit(), std::memory_order_relaxed) & h.bit()) != 0) return false;
  ++objects_;
  marked_ += h.s->stride;
  if (!h.s->noscan) push(h.object());
  return true;
}

bool marker::mark(uintptr_t word) noexcept { return visit(word); }

void marker::mark_only(uintptr_t word) noexcept {
  hit h;
  if (!find(word, h)) return;
  if ((bits_[h.word()].fetch_or(h.bit(), std::memory_order_relaxed) & h.bit()) != 0) return;
  ++objects_;
  marked_ += h.s->stride;
}

WEFT_NO_SANITIZE void marker::mark_range(const void* lo, const void* hi) noexcept {
  auto at = (reinterpret_cast<uintptr_t>(lo) + 7) & ~uintptr_t{7};
  const auto end = reinterpret_cast<uintptr_t>(hi) & ~uintptr_t{7};
  if (at < end) scanned_ += end - at;
  for (; at < end; at += 8) visit(word(at));
}

void marker::scan_fields(uintptr_t at, const type_info& t) noexcept {
  each_slot(at, t, [this](uintptr_t p) { visit(word(p)); });
}

WEFT_NO_SANITIZE void marker::scan(uintptr_t item) noexcept {
  hit h;
  if (!find(item & ~piece, h)) return;
  if (!h.s->headered) {
    scanned_ += h.s->stride;
    scan_fields(item, *h.s->type);
    return;
  }
  const auto* header = reinterpret_cast<const array_header*>(h.object());
  // [ord gc.array] null: the array's maker has not got further than its memory
  const type_info* t = header->type.load(std::memory_order_acquire);
  if (t == nullptr) return;
  const uintptr_t first = h.object() + header_bytes(*t);
  uint64_t from = 0, to = header->length;
  if (h.s->stride > oblet_bytes && t->size != 0) {
    const uint64_t step = std::max<uint64_t>(1, oblet_bytes / t->size);
    if ((item & piece) != 0) from = ((item & ~piece) - first + t->size - 1) / t->size;
    // The next piece first, for whoever has nothing to do.
    if (from + step < to) {
      to = from + step;
      push(((first + to * t->size) & ~uintptr_t{7}) | piece);
    }
  }
  scanned_ += (to - from) * t->size;
  each_array_slot(first + from * t->size, *t, to - from, [this](uintptr_t p) { visit(word(p)); });
}

bool marker::drain(size_t bytes, bool yielding) noexcept {
  uintptr_t ring[prefetch_distance] = {};
  size_t at = 0, waiting = 0;
  const uint64_t end = bytes == SIZE_MAX ? UINT64_MAX : scanned_ + bytes;
  bool finished = false;
  for (;;) {
    if (scanned_ >= end) break;
    if (yielding && (sched::g_gate.load(std::memory_order_relaxed) & sched::gate_stop) != 0) break;
    if (g_options.yield_mark && bits_ == g_cage.marked && !yielding) [[unlikely]]
      nap();
    const uintptr_t next = pop();
    if (next == 0 && waiting == 0) {
      finished = true;
      break;
    }
    // The object is needed a few steps from now.
    if (next != 0) __builtin_prefetch(reinterpret_cast<const void*>(next));
    const uintptr_t item = std::exchange(ring[at], next);
    at = (at + 1) % prefetch_distance;
    if (next != 0) ++waiting;
    if (item == 0) continue;
    --waiting;
    scan(item);
  }
  for (const uintptr_t item : ring) {
    if (item != 0) push(item);
  }
  if (bits_ == g_cage.marked && marked_ != 0) count_marked(std::exchange(marked_, 0));
  return finished;
}

void for_each_edge(uintptr_t object, void (*f)(uintptr_t, const hit&, void*), void* arg) noexcept {
  hit h;
  if (!find(object, h) || h.s->noscan) return;
  const auto visit = [&](uintptr_t p) {
    hit to;
    if (find(word(p), to)) f(p, to, arg);
  };
  if (!h.s->headered) {
    each_slot(h.object(), *h.s->type, visit);
    return;
  }
  const auto* header = reinterpret_cast<const array_header*>(h.object());
  if (const type_info* t = header->type.load(std::memory_order_acquire))
    each_array_slot(h.object() + header_bytes(*t), *t, header->length, visit);
}

}  // namespace weft::gc
