// Allocation. The fast path is in allocate(): a thread takes the next slot of the run that it has
// in hand. Everything else happens where a run ends: finding the next, sweeping on the way, samples
// for the heap profile, and paying for a cycle that is under way.
//
// A thread's critical section (thread::crit) keeps it from being stopped between the load of `cur`
// and the store; it does not need a processor for that, and never gives way, so that allocation is
// no place where tasks change threads.
#include <weft/gc/detail/heap.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>

#include "base/alloc_sampling.h"
#include "base/check.h"
#include "gc/barrier.h"
#include "gc/cycle.h"
#include "gc/heap.h"
#include "gc/pacing.h"
#include "gc/page_heap.h"
#include "gc/specials.h"
#include "gc/stress.h"
#include "gc/sweep.h"
#include "gc/unstopped.h"

#if WEFT_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace weft::gc {
namespace {

constexpr int spans_swept_for_one = 8;

// The next run of free slots of c's span, as long as may be; false if there is none.
bool next_run(cell& c) noexcept {
  span& s = *c.s;
  const size_t first = s.first_word();
  uint32_t slot = s.next_slot;
  while (slot < s.slots) {
    const uint64_t used =
        g_cage.allocated[first + slot / 64].load(std::memory_order_relaxed) >> (slot % 64);
    if (used == ~uint64_t{0} >> (slot % 64)) {
      slot = (slot | 63) + 1;
      continue;
    }
    slot += static_cast<uint32_t>(std::countr_one(used));
    if (slot >= s.slots) break;
    // How far it goes, over the borders of words.
    uint32_t end = slot;
    while (end < s.slots) {
      const uint64_t word =
          g_cage.allocated[first + end / 64].load(std::memory_order_relaxed) >> (end % 64);
      if (word != 0) {
        end += static_cast<uint32_t>(std::countr_zero(word));
        break;
      }
      end = (end | 63) + 1;
    }
    if (end > s.slots) end = s.slots;
    if (g_options.tiny_runs) end = slot + 1;
    c.cur = reinterpret_cast<char*>(s.slot_address(slot));
    c.limit = reinterpret_cast<char*>(s.slot_address(end));
    s.next_slot = end;
    return true;
  }
  s.next_slot = s.slots;
  return false;
}

// Sets or clears bits [from, to) of a span in one of the bitmaps.
template <class F>
void for_bits(const span& s, uint32_t from, uint32_t to, F f) noexcept {
  const size_t first = s.first_word();
  while (from < to) {
    const uint32_t n = std::min(to - from, 64 - from % 64);
    const uint64_t bits = (n == 64 ? ~uint64_t{0} : ((uint64_t{1} << n) - 1)) << (from % 64);
    f(first + from / 64, bits);
    from += n;
  }
}

uint32_t slot_of(const span& s, const char* at) noexcept {
  return static_cast<uint32_t>((reinterpret_cast<uintptr_t>(at) - s.start) / s.stride);
}

// The run [c.cur, c.limit) becomes objects as far as the tables know.
void open_run(cell& c) noexcept {
  span& s = *c.s;
  const uint32_t from = slot_of(s, c.cur), to = slot_of(s, c.limit);
  const size_t bytes = static_cast<size_t>(c.limit - c.cur);
#if WEFT_ASAN
  ASAN_UNPOISON_MEMORY_REGION(c.cur, bytes);
#endif
  // What stale words in unused parts would keep alive, and what a marker would read before the
  // constructor has run.
  if (!s.noscan) {
    if (!s.fresh) std::memset(c.cur, 0, bytes);
  } else if (s.headered) {
    for (char* at = c.cur; at != c.limit; at += s.stride) std::memset(at, 0, sizeof(array_header));
  } else if (g_options.clobber) {
    std::memset(c.cur, fresh_fill, bytes);
  }
  const bool black = detail::marking.load(std::memory_order_relaxed) != 0;
  if (black) {
    for_bits(s, from, to, [](size_t word, uint64_t bits) {
      g_cage.marked[word].fetch_or(bits, std::memory_order_relaxed);  // [G3]
    });
  }
  for_bits(s, from, to, [](size_t word, uint64_t bits) {
    // [ord gc.alloc] release: the slots are zero, and marked if they have to be
    g_cage.allocated[word].fetch_or(bits, std::memory_order_release);
  });
}

// A span with free slots, swept, out of all lists. Null: no memory.
span* take_span(kind& k, uint32_t kind_index) noexcept {
  {
    std::lock_guard hold(k.lock);
    if (span* s = k.partial.pop()) return s;
  }
  // Bounded: a heap that grows must not search all of it for room.
  for (int i = 0; i < spans_swept_for_one; ++i) {
    span* s;
    {
      std::lock_guard hold(k.lock);
      s = k.unswept.pop();
    }
    if (s == nullptr) break;
    sweep_span(*s);
    if (s->live < s->slots) return s;
    std::lock_guard hold(k.lock);
    k.full.push(s);
  }
  span* s = take_pages(k.shape.pages);
  if (s == nullptr) return nullptr;
  s->stride = k.shape.stride;
  s->slots = k.shape.slots;
  s->magic = k.shape.magic;
  s->kind = kind_index;
  s->headered = k.type == nullptr;
  s->noscan = k.noscan;
  s->type = k.type;
#if WEFT_ASAN
  ASAN_POISON_MEMORY_REGION(reinterpret_cast<void*>(s->start), s->bytes());
#endif
  publish_span(*s, span_state::small);
  return s;
}

void draw_sample(mutator& m) noexcept {
  m.sample_rate = base::mem_profile_rate();
  m.until_sample = base::next_sample_distance(m.sample_rng, m.sample_rate);
}

// Cuts what may be given out of the run before the next profiled object. The distance to the one
// after it is drawn at once, because other cells count down the same.
void clip_at_sample(mutator& m, cell& c) noexcept {
  // A changed rate holds from the next run on; the distances have no memory.
  if (m.sample_rate != base::mem_profile_rate()) draw_sample(m);
  const auto left = c.limit - c.cur;
  if (left == 0 || m.until_sample >= left) {
    m.until_sample -= left;
    c.end = c.limit;
    c.sampled = false;
    return;
  }
  const auto before = m.until_sample < 0 ? 0 : m.until_sample / static_cast<int64_t>(c.stride);
  c.end = c.cur + before * static_cast<int64_t>(c.stride);
  c.sampled = true;
  c.sample_rate = m.sample_rate;
  draw_sample(m);
}

void note_sample(const void* object, size_t size, int64_t rate) noexcept {
  if (rate <= 0) return;
  if (auto allocated = base::current_alloc_port().allocated) {
    if (void* token = allocated(size, base::heap_kind::collected, rate))
      add_special(object, special_kind::sample, token);
  }
}

void account(mutator& m, size_t objects, size_t bytes) noexcept {
  m.objects.store(m.objects.load(std::memory_order_relaxed) + objects, std::memory_order_relaxed);
  m.bytes.store(m.bytes.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
  g_counters.allocated.fetch_add(bytes, std::memory_order_relaxed);
  if (detail::marking.load(std::memory_order_relaxed) != 0) owe(m, bytes);
  const uint64_t live = g_counters.live.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  if (live >= g_counters.trigger.load(std::memory_order_relaxed)) request_cycle();
}

void stress_allocation() noexcept {
  if (g_options.alloc_every == 0) return;
  static std::atomic<uint32_t> count{0};
  if (count.fetch_add(1, std::memory_order_relaxed) % g_options.alloc_every == 0) request_cycle();
}

}  // namespace

void* refill(mutator& m, uint32_t kind_index) noexcept {
  kind& k = g_kinds[kind_index];
  cell& c = m.cells[kind_index];
  if (c.cur == c.limit) {
    stress_allocation();
    if (detail::marking.load(std::memory_order_relaxed) != 0) assist(m);
    if (!c.active) {
      c.active = true;
      c.stride = k.shape.stride;
      c.next_active = m.first_active;
      m.first_active = kind_index;
    }
    while (c.s == nullptr || !next_run(c)) {
      if (c.s != nullptr) {
        c.s->live = c.s->slots;
        std::lock_guard hold(k.lock);
        k.full.push(c.s);
      }
      c.cur = c.end = c.limit = nullptr;
      c.s = take_span(k, kind_index);
      if (c.s == nullptr) return nullptr;
    }
    open_run(c);
    const auto bytes = static_cast<size_t>(c.limit - c.cur);
    account(m, bytes / c.stride, bytes);
    k.allocated.fetch_add(bytes / c.stride, std::memory_order_relaxed);
    clip_at_sample(m, c);
  }
  char* p = c.cur;
  c.cur += c.stride;
  if (c.sampled && p == c.end) {
    note_sample(p, c.stride, c.sample_rate);
    clip_at_sample(m, c);
  }
  return p;
}

void* allocate_large(const type_info* type, uint32_t kind_index, size_t bytes, bool noscan,
                     size_t sampled_size) noexcept {
  span* s;
  {
    unstopped here;
    stress_allocation();
    mutator& m = mutator_of(here.thread());
    if (detail::marking.load(std::memory_order_relaxed) != 0) assist(m);
    s = take_pages((bytes + page_size - 1) >> page_shift);
    if (s == nullptr) return nullptr;
  }
  // Nobody else knows of it, so the thread may be stopped while it clears a gigabyte.
  if (!s->fresh && (!noscan || type == nullptr))
    std::memset(reinterpret_cast<void*>(s->start), 0, noscan ? sizeof(array_header) : s->bytes());
  unstopped here;
  mutator& m = mutator_of(here.thread());
  s->stride = s->bytes();
  s->slots = 1;
  s->magic = 0;
  s->kind = kind_index;
  s->headered = type == nullptr;
  s->noscan = noscan;
  s->type = type;
  s->live = 1;
  if (detail::marking.load(std::memory_order_relaxed) != 0)
    g_cage.marked[s->first_word()].fetch_or(1, std::memory_order_relaxed);   // [G3]
  g_cage.allocated[s->first_word()].fetch_or(1, std::memory_order_release);  // [ord gc.alloc]
  publish_span(*s, span_state::large);
  kind& k = g_kinds[kind_index];
  {
    std::lock_guard hold(k.lock);
    k.full.push(s);
  }
  account(m, 1, s->bytes());
  if (m.sample_rate != base::mem_profile_rate()) draw_sample(m);
  m.until_sample -= static_cast<int64_t>(sampled_size);
  if (m.until_sample < 0) {
    note_sample(reinterpret_cast<void*>(s->start), sampled_size, m.sample_rate);
    draw_sample(m);
  }
  return reinterpret_cast<void*>(s->start);
}

void retire_cells(bool marked) noexcept {
  for (mutator* m = g_mutators.load(std::memory_order_acquire); m != nullptr; m = m->all_next) {
    for (uint32_t i = m->first_active; i != 0;) {
      cell& c = m->cells[i];
      i = c.next_active;
      if (c.s != nullptr) {
        span& s = *c.s;
        const uint32_t from = slot_of(s, c.cur), to = slot_of(s, c.limit);
        if (c.cur != nullptr && from < to) {
          for_bits(s, from, to, [&](size_t word, uint64_t bits) {
            g_cage.allocated[word].fetch_and(~bits, std::memory_order_relaxed);
            if (marked) g_cage.marked[word].fetch_and(~bits, std::memory_order_relaxed);
          });
          const uint64_t bytes = (to - from) * s.stride;
          m->objects.store(m->objects.load(std::memory_order_relaxed) - (to - from),
                           std::memory_order_relaxed);
          m->bytes.store(m->bytes.load(std::memory_order_relaxed) - bytes,
                         std::memory_order_relaxed);
          g_kinds[s.kind].allocated.fetch_sub(to - from, std::memory_order_relaxed);
          g_counters.allocated.fetch_sub(bytes, std::memory_order_relaxed);
          g_counters.live.fetch_sub(bytes, std::memory_order_relaxed);
          // The distance that was drawn goes on from here.
          if (c.sampled)
            m->until_sample = c.end - c.cur;
          else if (m->until_sample >= 0)
            m->until_sample += static_cast<int64_t>(bytes);
          s.next_slot = from;
        }
        g_kinds[s.kind].partial.push(&s);
      }
      c = {};
    }
    m->first_active = 0;
  }
}

namespace detail {

namespace {

// Until there is room: a cycle that runs to its end, once.
template <class F>
void* or_collect(F allocate, size_t bytes) {
  wait_if_over_limit();
  void* p = allocate();
  if (p == nullptr) {
    collect_now();
    p = allocate();
  }
  if (p == nullptr) throw_out_of_memory(bytes);
  return p;
}

void* allocate_slow(const type_info& t) {
  return or_collect(
      [&]() noexcept -> void* {
        uint32_t kind_index;
        {
          unstopped here;
          mutator& m = mutator_of(here.thread());
          kind_index = kind_of(t);
          if (kind_index >= first_type_kind && g_kinds[kind_index].shape.slots != 0) {
            cell& c = m.cells[kind_index];
            if (c.cur != c.end) return std::exchange(c.cur, c.cur + c.stride);
            return refill(m, kind_index);
          }
        }
        if (kind_index < first_type_kind) return allocate_array(t, 1);
        return allocate_large(&t, kind_index, t.size, g_kinds[kind_index].noscan,
                              stride_for(t.size));
      },
      t.size);
}

}  // namespace

void* allocate(const type_info& t) {
  sched::thread* th = sched::self();
  const int was = th->crit.load(std::memory_order_relaxed);
  th->crit.store(1, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  void* p = nullptr;
  if (auto* m = static_cast<mutator*>(th->heap)) [[likely]] {
    cell& c = m->cells[t.id.load(std::memory_order_relaxed)];
    if (c.cur != c.end) [[likely]] {
      p = c.cur;
      c.cur += c.stride;
    }
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  th->crit.store(was, std::memory_order_release);
  if (was == 0) sched::stop_if_pending(th);
  if (p == nullptr) [[unlikely]]
    p = allocate_slow(t);
  return p;
}

void* allocate_array(const type_info& t, size_t n) {
  ensure_described(t);
  const size_t header = header_bytes(t);
  size_t bytes = 0;
  // One byte more, so that the end of an array belongs to it.
  if (__builtin_mul_overflow(size_t{t.size}, n, &bytes) ||
      __builtin_add_overflow(bytes, header + 1, &bytes) || bytes > (size_t{1} << 46))
    throw_out_of_memory(bytes);
  const bool noscan = t.mask == nullptr && !t.conservative;
  void* slot = or_collect(
      [&]() noexcept -> void* {
        if (bytes > largest_small) {
          make_heap_exist();
          return allocate_large(nullptr, large_array_kind + (noscan ? 1u : 0u), bytes, noscan,
                                bytes);
        }
        int c = class_for(bytes);
        // Slots of a span begin at multiples of their size.
        while (t.align > smallest_slot && class_size(c) % t.align != 0) ++c;
        unstopped here;
        mutator& m = mutator_of(here.thread());
        const uint32_t kind_index =
            first_array_kind + static_cast<uint32_t>((noscan ? array_classes : 0) + c);
        cell& cell = m.cells[kind_index];
        if (cell.cur != cell.end) return std::exchange(cell.cur, cell.cur + cell.stride);
        return refill(m, kind_index);
      },
      bytes);
  auto* h = static_cast<array_header*>(slot);
  h->length = n;
  // [ord gc.array] release: whoever sees the type sees the length
  h->type.store(&t, std::memory_order_release);
  return static_cast<char*>(slot) + header;
}

size_t array_length(const void* elements) noexcept {
  hit h;
  if (!find(reinterpret_cast<uintptr_t>(elements), h) || !h.s->headered) return 0;
  return reinterpret_cast<const array_header*>(h.object())->length;
}

void arm(void* object) noexcept {
  hit h;
  if (!find(reinterpret_cast<uintptr_t>(object), h)) return;
  g_cage.armed[h.word()].fetch_or(h.bit(), std::memory_order_relaxed);
  if (!g_cage.any_armed.load(std::memory_order_relaxed)) g_cage.any_armed = true;
}

bool disarm(void* object) noexcept {
  hit h;
  if (!find(reinterpret_cast<uintptr_t>(object), h)) return false;
  return (g_cage.armed[h.word()].fetch_and(~h.bit(), std::memory_order_relaxed) & h.bit()) != 0;
}

bool is_heap_address(const void* p) noexcept {
  hit h;
  return find(reinterpret_cast<uintptr_t>(p), h);
}

}  // namespace detail
}  // namespace weft::gc
