// Reapers are ordinary tasks that exist while there is work, so nothing has to be told to end and a
// process exits without waiting for them. The collector starts them when a sweep has ended: a few
// if there is little to do, more with the backlog, and one more at every cycle in which nothing has
// been finished, because a destructor may block for ever.
//
// An object's references are nulled before its destructor runs. What they referred to may have been
// swept, and its memory used again; no barrier is needed, because nothing was reachable through a
// dead object.
#include "gc/reaper.h"

#include <weft/gc/gc.h>
#include <weft/gc/lifetime.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <mutex>
#include <utility>

#include "base/clock.h"
#include "gc/cage.h"
#include "gc/heap.h"
#include "gc/roots.h"
#include "gc/specials.h"
#include "gc/sweep.h"
#include "gc/unstopped.h"
#include "gc/weak.h"
#include "scheduler/park.h"
#include "scheduler/runtime_control.h"

namespace weft::gc {
namespace {

using detail::cleanup_record;

constexpr size_t backlog_per_reaper = 1024;
constexpr size_t most_reapers = 256;
constexpr int64_t look_again_ns = 200'000;

base::spinlock g_lock;
cleanup_record* g_cleanups = nullptr;

std::atomic<size_t> g_active{0};
std::atomic<size_t> g_cleanups_waiting{0};
std::atomic<uint64_t> g_destroyed{0}, g_cleaned{0};
uint64_t g_finished_before = 0;  // the collector's

size_t backlog() noexcept {
  return dead_count() + g_cleanups_waiting.load(std::memory_order_acquire);
}

// In a critical section or by the collector.
void on_death(void*, void* payload) noexcept {
  auto* r = static_cast<cleanup_record*>(payload);
  std::lock_guard hold(g_lock);
  r->next = std::exchange(g_cleanups, r);
  g_cleanups_waiting.fetch_add(1, std::memory_order_relaxed);
}

cleanup_record* next_cleanup() noexcept {
  unstopped here;
  std::lock_guard hold(g_lock);
  cleanup_record* r = g_cleanups;
  if (r != nullptr) g_cleanups = r->next;
  return r;
}

bool next_dead(dead_object& d) noexcept {
  unstopped here;
  return take_dead(d);
}

template <class F>
void each_reference(void* object, const type_info& t, F f) noexcept {
  auto* words = static_cast<std::atomic<void*>*>(object);
  for (uint32_t m = 0; t.mask != nullptr && m < t.mask_words; ++m) {
    for (uint64_t bits = t.mask[m]; bits != 0; bits &= bits - 1)
      f(words[m * 64 + static_cast<uint32_t>(std::countr_zero(bits))]);
  }
}

// A closure has no mask, so every word that refers to an object is taken for a reference; but not
// one that points into the closure itself, as a short std::string's does, nor the storage of a std
// container of references, which is the closure's own and still there.
void forget_words(void* object, size_t size) noexcept {
  auto* words = static_cast<std::atomic<uintptr_t>*>(object);
  const auto start = reinterpret_cast<uintptr_t>(object);
  for (size_t i = 0; i < size / sizeof(void*); ++i) {
    const uintptr_t word = words[i].load(std::memory_order_relaxed);
    if (!in_cage(word) || word - start < size || is_traced_memory(word)) continue;
    words[i].store(0, std::memory_order_relaxed);
  }
}

void run_destructors(const dead_object& d) noexcept {
  for (size_t i = 0; i < d.count; ++i) {
    void* object = static_cast<char*>(d.object) + i * d.type->size;
    if (d.type->conservative) forget_words(object, d.type->size);
    each_reference(object, *d.type,
                   [](std::atomic<void*>& w) { w.store(nullptr, std::memory_order_relaxed); });
  }
  for (size_t i = d.count; i-- > 0;)
    d.type->destroy(static_cast<char*>(d.object) + i * d.type->size);
  {
    unstopped here;
    reaped(d);
  }
  g_destroyed.fetch_add(1, std::memory_order_relaxed);
}

void run_cleanup(cleanup_record* r) noexcept {
  r->run(r);
  detail::free_traced(r);
  g_cleaned.fetch_add(1, std::memory_order_relaxed);
  g_cleanups_waiting.fetch_sub(1, std::memory_order_release);
}

// One piece of work; false if there is none to begin.
bool reap_one() noexcept {
  dead_object d;
  if (next_dead(d)) {
    run_destructors(d);
    return true;
  }
  if (cleanup_record* r = next_cleanup()) {
    run_cleanup(r);
    return true;
  }
  return false;
}

void reap(void*) noexcept {
  for (;;) {
    while (reap_one()) {
    }
    g_active.fetch_sub(1, std::memory_order_relaxed);
    // What has died since the last look: the collector, which still counted on this reaper, has
    // started no other. The lists' locks see to it that one of the two notices.
    if (!reap_one()) return;
    g_active.fetch_add(1, std::memory_order_relaxed);
  }
}

size_t armed_objects() noexcept {
  size_t n = 0;
  const size_t words =
      (g_cage.used_bytes.load(std::memory_order_relaxed) >> page_shift) * words_per_page;
  for (size_t i = 0; i < words; ++i)
    n += static_cast<size_t>(std::popcount(g_cage.armed[i].load(std::memory_order_relaxed)));
  return n;
}

}  // namespace

void start_reapers() noexcept {
  const size_t waiting = backlog();
  if (waiting == 0 || !sched::started()) return;
  const size_t active = g_active.load(std::memory_order_relaxed);
  const uint64_t finished =
      g_destroyed.load(std::memory_order_relaxed) + g_cleaned.load(std::memory_order_relaxed);
  size_t wanted = 1 + waiting / backlog_per_reaper;
  if (finished == std::exchange(g_finished_before, finished)) wanted = std::max(wanted, active + 1);
  wanted = std::min(wanted, most_reapers);
  for (size_t i = active; i < wanted; ++i) {
    g_active.fetch_add(1, std::memory_order_relaxed);
    sched::start_system_task(reap, nullptr, "gc.reaper");
  }
}

void lock_cleanups() noexcept { g_lock.lock(); }
void unlock_cleanups() noexcept { g_lock.unlock(); }

reaper_stats reapers() noexcept {
  return {g_destroyed.load(std::memory_order_relaxed), g_cleaned.load(std::memory_order_relaxed),
          backlog(), g_active.load(std::memory_order_relaxed), armed_objects()};
}

size_t shutdown() {
  for (;;) {
    const uint64_t before = g_destroyed.load() + g_cleaned.load();
    collect();
    while (reap_one()) {
    }
    while (backlog() != 0) {
      sched::enter();
      sched::sleep_until(base::now_ns() + look_again_ns);
      sched::leave();
      reap_one();
    }
    if (g_destroyed.load() + g_cleaned.load() == before) return armed_objects();
  }
}

namespace detail {

bool add_cleanup(const void* object, cleanup_record* r) noexcept {
  unstopped here;
  set_special_handler(special_kind::cleanup, on_death);
  return add_special(object, special_kind::cleanup, r);
}

bool destroy_now(const void* object) noexcept {
  hit h;
  if (!find(reinterpret_cast<uintptr_t>(object), h)) return false;
  if (!disarm(const_cast<void*>(object))) return false;
  const type_info* t = h.s->type;
  char* first = reinterpret_cast<char*>(h.object());
  size_t n = 1;
  if (h.s->headered) {
    const auto* header = reinterpret_cast<const array_header*>(first);
    t = header->type.load(std::memory_order_relaxed);
    n = header->length;
    first += header_bytes(*t);
  }
  for (size_t i = n; i-- > 0;) t->destroy(first + i * t->size);
  for (size_t i = 0; i < n; ++i) {
    each_reference(first + i * t->size, *t, [](std::atomic<void*>& w) {
      void* old = w.load(std::memory_order_relaxed);
      w.store(nullptr, std::memory_order_release);
      overwritten(old);
    });
  }
  expire_weak_cells(object);
  g_destroyed.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace detail
}  // namespace weft::gc
