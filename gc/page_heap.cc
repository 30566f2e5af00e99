// Free runs of pages are span records too. They lie in lists by length, one for each length up to
// 127 pages and one for the rest, and the page table names them at their first and last page, so
// neighbours are found when pages come back. A free span's entry is not seen by find(): the page
// table that find() reads holds spans with objects only; the ends of free runs are in `edge`.
//
// A run that is being returned to the kernel is in no list, so what is returned at once is small:
// an allocation that found nothing else would take new addresses. Runs that were returned and runs
// that were not are kept apart as long as nobody needs them joined.
#include "gc/page_heap.h"

#include <sys/mman.h>
#include <weft/detail/config.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/spinlock.h"
#include "gc/sweep.h"

#if WEFT_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace weft::gc {
namespace {

constexpr size_t lists = 128;
constexpr size_t growth_pages = (size_t{1} << 20) / page_size;  // taken from the cage at once
constexpr size_t return_pages = (size_t{2} << 20) / page_size;  // given to the kernel at once

base::spinlock g_lock;
span g_heads[lists];  // circular lists; [0]: 128 pages and more
bool g_ready = false;
uint32_t* g_edge = nullptr;  // page -> free span that begins or ends there
size_t g_top = 0;            // pages taken from the cage
uint32_t g_record_top = 1;
span* g_free_records = nullptr;
size_t g_in_use = 0, g_free = 0, g_returned = 0;  // pages
uint64_t g_returned_total = 0;
bool g_apart = false;  // free runs may lie side by side

span& head_for(size_t pages) noexcept { return g_heads[pages < lists ? pages : 0]; }

size_t page_of(const span& s) noexcept { return (s.start - g_cage.base) >> page_shift; }

void unlink(span& s) noexcept {
  s.prev->next = s.next;
  s.next->prev = s.prev;
  const size_t first = page_of(s);
  g_edge[first] = g_edge[first + s.pages - 1] = 0;
  g_free -= s.pages;
  if (s.returned) g_returned -= s.pages;
}

void link(span& s) noexcept {
  span& head = head_for(s.pages);
  s.next = head.next;
  s.prev = &head;
  head.next->prev = &s;
  head.next = &s;
  const size_t first = page_of(s);
  g_edge[first] = g_edge[first + s.pages - 1] = s.index();
  g_free += s.pages;
  if (s.returned) g_returned += s.pages;
}

span* new_record() noexcept {
  if (g_free_records != nullptr) return std::exchange(g_free_records, g_free_records->next);
  return &g_cage.spans[g_record_top++];  // at most one per page: they cannot run out
}

void drop_record(span& s) noexcept {
  s.state.store(span_state::unused, std::memory_order_relaxed);
  s.next = g_free_records;
  g_free_records = &s;
}

span* make_free(size_t first, size_t pages, bool fresh, bool returned) noexcept {
  span* s = new_record();
  s->start = g_cage.base + (first << page_shift);
  s->pages = static_cast<uint32_t>(pages);
  s->fresh = fresh;
  s->returned = returned;
  s->state.store(span_state::free, std::memory_order_relaxed);
  return s;
}

void prepare() noexcept {
  if (std::exchange(g_ready, true)) return;
  for (span& head : g_heads) head.next = head.prev = &head;
  g_edge = static_cast<uint32_t*>(reserve_table(g_cage.pages * sizeof(uint32_t)));
}

span* grow(size_t pages) noexcept {
  size_t take = std::max(pages, growth_pages);
  if (take > g_cage.pages - g_top) take = pages;
  if (take > g_cage.pages - g_top) return nullptr;
  span* s = make_free(g_top, take, true, true);
  g_top += take;
  // [ord gc.page] a word that lies below this is looked up; the table is zero there still
  g_cage.used_bytes.store(g_top << page_shift, std::memory_order_release);
  return s;
}

span* best_fit(size_t pages) noexcept {
  for (size_t n = pages; n < lists; ++n) {
    if (g_heads[n].next != &g_heads[n]) return g_heads[n].next;
  }
  span* best = nullptr;
  for (span* s = g_heads[0].next; s != &g_heads[0]; s = s->next) {
    if (s->pages >= pages && (best == nullptr || s->pages < best->pages ||
                              (s->pages == best->pages && s->start < best->start)))
      best = s;
  }
  return best;
}

// Joins s, which is in no list, with the free span whose edge is at `page`.
void absorb(span& s, size_t page) noexcept {
  const uint32_t index = g_edge[page];
  if (index == 0) return;
  span& other = g_cage.spans[index];
  unlink(other);
  s.start = std::min(s.start, other.start);
  s.pages += other.pages;
  s.fresh &= other.fresh;
  s.returned &= other.returned;
  drop_record(other);
}

bool free_at(size_t page) noexcept { return page < g_top && g_edge[page] != 0; }
bool is_returned(size_t page) noexcept {
  return free_at(page) && g_cage.spans[g_edge[page]].returned;
}

void join_neighbours() noexcept {
  for (span& head : g_heads) {
    for (span* at = head.next; at != &head;) {
      span* next = at->next;
      if (free_at(page_of(*at) + at->pages)) {
        unlink(*at);
        for (size_t end; free_at(end = page_of(*at) + at->pages);) {
          if (next == &g_cage.spans[g_edge[end]]) next = next->next;
          absorb(*at, end);
        }
        link(*at);
      }
      at = next;
    }
  }
  g_apart = false;
}

}  // namespace

span* take_pages(size_t pages) noexcept {
  std::lock_guard hold(g_lock);
  prepare();
  if (pages == 0 || pages > g_cage.pages) return nullptr;
  span* s = best_fit(pages);
  if (s == nullptr && g_apart) {
    join_neighbours();
    s = best_fit(pages);
  }
  if (s != nullptr)
    unlink(*s);
  else
    s = grow(pages);
  if (s == nullptr) return nullptr;
  if (s->pages > pages) {
    link(*make_free(page_of(*s) + pages, s->pages - pages, s->fresh, s->returned));
    s->pages = static_cast<uint32_t>(pages);
  }
  s->returned = false;
  s->next = s->prev = nullptr;
  s->specials.store(nullptr, std::memory_order_relaxed);
  s->live = 0;
  s->next_slot = 0;
  g_in_use += pages;
  return s;
}

void publish_span(span& s, span_state state) noexcept {
  s.state.store(state, std::memory_order_relaxed);
  s.swept.store(sweep_epoch(), std::memory_order_relaxed);
  const size_t first = page_of(s);
  for (size_t i = 0; i < s.pages; ++i)
    g_cage.page_span[first + i].store(s.index(), std::memory_order_release);  // [ord gc.page]
}

void give_pages(span& s) noexcept {
  const size_t first = page_of(s);
  if (s.state.load(std::memory_order_relaxed) != span_state::free) {
    for (size_t i = 0; i < s.pages; ++i)
      g_cage.page_span[first + i].store(0, std::memory_order_relaxed);
    s.fresh = false;
  }
#if WEFT_ASAN
  ASAN_UNPOISON_MEMORY_REGION(reinterpret_cast<void*>(s.start), s.bytes());
#endif
  std::lock_guard hold(g_lock);
  s.state.store(span_state::free, std::memory_order_relaxed);
  g_in_use -= s.pages;
  s.returned = false;
  const size_t pages = s.pages;
  if (first > 0) absorb(s, first - 1);
  if (first + pages < g_top) absorb(s, first + pages);
  link(s);
}

size_t return_free_pages(size_t bytes) noexcept {
  size_t done = 0;
  while (done < bytes) {
    span* s = nullptr;
    {
      std::lock_guard hold(g_lock);
      if (!g_ready) return 0;
      for (size_t n = lists; n-- > 0 && s == nullptr;) {
        span& head = g_heads[(n + 1) % lists];  // the long ones first
        for (span* at = head.prev; at != &head && s == nullptr; at = at->prev) {
          if (!at->returned) s = at;
        }
      }
      if (s == nullptr) return done;
      unlink(*s);
      const size_t wanted = ((bytes - done - 1) >> page_shift) + 1;
      const size_t pages = std::min({size_t{s->pages}, wanted, return_pages});
      if (const size_t rest = s->pages - pages; rest != 0) {
        link(*make_free(page_of(*s), rest, s->fresh, false));
        s->start += rest << page_shift;
        s->pages = static_cast<uint32_t>(pages);
      }
    }
    // Nobody else knows of it now, so the kernel's work is done without the lock.
    const bool dropped =
        ::madvise(reinterpret_cast<void*>(s->start), s->bytes(), MADV_DONTNEED) == 0;
    done += s->bytes();
    std::lock_guard hold(g_lock);
    s->returned = true;
    s->fresh = dropped;
    if (dropped) g_returned_total += s->bytes();
    // With a run that was not returned it would have to be returned again.
    const size_t first = page_of(*s), end = first + s->pages;
    if (first > 0 && is_returned(first - 1)) absorb(*s, first - 1);
    if (is_returned(end)) absorb(*s, end);
    g_apart = true;
    link(*s);
    if (!dropped) return done;  // mlockall, or the like: memory stays
  }
  return done;
}

void for_each_span(void (*f)(span&, void*), void* arg) noexcept {
  for (uint32_t i = 1; i < g_record_top; ++i) {
    span& s = g_cage.spans[i];
    const span_state state = s.state.load(std::memory_order_relaxed);
    if (state == span_state::small || state == span_state::large) f(s, arg);
  }
}

page_statistics page_counters() noexcept {
  std::lock_guard hold(g_lock);
  return {g_in_use << page_shift, (g_free - g_returned) << page_shift, g_returned << page_shift,
          g_cage.pages << page_shift, g_returned_total};
}

void lock_page_heap() noexcept { g_lock.lock(); }
void unlock_page_heap() noexcept { g_lock.unlock(); }

}  // namespace weft::gc
