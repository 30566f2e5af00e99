// Slots of roots lie in slabs that are scanned word by word. Free ones are linked through
// themselves, thread by thread; a link points into a slab and so is no reference. A thread that
// destroys more roots than it makes, as the one that sweeps does, passes free slots on.
#include "gc/roots.h"

#include <weft/gc/detail/heap.h>

#include <mutex>
#include <new>
#include <utility>

#include "base/check.h"
#include "gc/heap.h"
#include "gc/unstopped.h"

namespace weft::gc {
namespace {

struct slab {
  static constexpr size_t slots = 1023;
  slab* next;
  std::atomic<void*> words[slots];
};

base::spinlock g_lock;
std::atomic<slab*> g_slabs{nullptr};

constexpr size_t max_globals = 65536;
std::atomic<std::atomic<void*>**> g_globals{nullptr};
std::atomic<size_t> g_global_count{0};

using slot = std::atomic<void*>;

// Slots that go from thread to thread at once; a thread keeps up to twice as many.
constexpr uint32_t share = 1024;
slot* g_free = nullptr;  // guarded by g_lock

slot* next_of(slot* s) noexcept { return static_cast<slot*>(s->load(std::memory_order_relaxed)); }

// The n-th slot of a list, or its last.
slot* walk(slot* s, uint32_t& n) noexcept {
  uint32_t at = 1;
  for (slot* next = next_of(s); at < n && next != nullptr; next = next_of(s)) {
    s = next;
    ++at;
  }
  n = at;
  return s;
}

void take_share(mutator& m) noexcept {
  std::lock_guard hold(g_lock);
  if (g_free == nullptr) return;
  uint32_t n = share;
  slot* first = g_free;
  slot* last = walk(first, n);
  g_free = next_of(last);
  last->store(nullptr, std::memory_order_relaxed);
  m.free_roots = reinterpret_cast<void**>(first);
  m.free_root_count = n;
}

void give_share(mutator& m) noexcept {
  uint32_t n = share;
  auto* first = reinterpret_cast<slot*>(m.free_roots);
  slot* last = walk(first, n);
  m.free_roots = reinterpret_cast<void**>(next_of(last));
  m.free_root_count -= n;
  std::lock_guard hold(g_lock);
  last->store(g_free, std::memory_order_relaxed);
  g_free = first;
}

slot* pop(mutator& m) noexcept {
  if (m.free_roots == nullptr) [[unlikely]]
    take_share(m);
  auto* s = reinterpret_cast<slot*>(m.free_roots);
  if (s == nullptr) return nullptr;
  m.free_roots = reinterpret_cast<void**>(next_of(s));
  --m.free_root_count;
  return s;
}

void push(mutator& m, slot* s) noexcept {
  s->store(m.free_roots, std::memory_order_relaxed);
  m.free_roots = reinterpret_cast<void**>(s);
  if (++m.free_root_count == 2 * share) [[unlikely]]
    give_share(m);
}

bool add_slab(mutator& m) noexcept {
  auto* s = static_cast<slab*>(reserve_table(sizeof(slab)));
  if (s == nullptr) return false;
  for (slot& w : s->words) push(m, &w);
  s->next = g_slabs.load(std::memory_order_relaxed);
  while (!g_slabs.compare_exchange_weak(s->next, s, std::memory_order_release,
                                        std::memory_order_relaxed)) {
  }
  return true;
}

// What allocate_traced() puts before the caller's memory.
struct traced_header {
  slot* root;
  void* padding;
};

const detail::type_info& traced_word() noexcept {
  struct traced_memory;
  static constinit const detail::type_info info{
      .type = &typeid(traced_memory*), .size = 8, .align = 8, .conservative = true};
  return info;
}

}  // namespace

void for_each_root(void (*f)(uintptr_t, void*), void* arg) noexcept {
  for (const slab* s = g_slabs.load(std::memory_order_acquire); s != nullptr; s = s->next) {
    for (const slot& w : s->words)
      f(reinterpret_cast<uintptr_t>(w.load(std::memory_order_relaxed)), arg);
  }
  const size_t n = g_global_count.load(std::memory_order_acquire);
  slot** globals = g_globals.load(std::memory_order_acquire);
  for (size_t i = 0; i < n; ++i)
    f(reinterpret_cast<uintptr_t>(globals[i]->load(std::memory_order_relaxed)), arg);
}

void mark_roots(marker& m) noexcept {
  for_each_root([](uintptr_t word, void* to) { static_cast<marker*>(to)->mark(word); }, &m);
}

bool is_traced_memory(uintptr_t word) noexcept {
  hit h;
  return find(word, h) && h.s->headered &&
         reinterpret_cast<const array_header*>(h.object())->type.load(std::memory_order_acquire) ==
             &traced_word();
}

void lock_roots() noexcept { g_lock.lock(); }
void unlock_roots() noexcept { g_lock.unlock(); }

namespace detail {

slot* new_root(void* p) {
  slot* s;
  {
    unstopped here;
    mutator& m = mutator_of(here.thread());
    s = pop(m);
    if (s == nullptr && add_slab(m)) s = pop(m);
  }
  if (s == nullptr) throw_out_of_memory(sizeof(slab));
  s->store(p, std::memory_order_release);
  return s;
}

void delete_root(slot* s) noexcept {
  void* old = s->load(std::memory_order_relaxed);
  {
    unstopped here;
    push(mutator_of(here.thread()), s);
  }
  overwritten(old);
}

void* allocate_traced(size_t bytes) {
  const size_t words = (sizeof(traced_header) + bytes + 7) / 8;
  auto* h = static_cast<traced_header*>(allocate_array(traced_word(), words));
  h->root = new_root(h);
  return h + 1;
}

void free_traced(void* p) noexcept {
  if (p == nullptr) return;
  auto* h = static_cast<traced_header*>(p) - 1;
  delete_root(h->root);
}

void add_global(std::atomic<void*>* word, std::atomic<bool>* added) noexcept {
  make_heap_exist();
  unstopped here;
  std::lock_guard hold(g_lock);
  if (added->load(std::memory_order_relaxed)) return;
  if (g_globals.load(std::memory_order_relaxed) == nullptr) {
    auto* table = static_cast<std::atomic<void*>**>(reserve_table(max_globals * sizeof(void*)));
    if (table == nullptr) base::fatal("out of address space for the table of gc::global variables");
    g_globals.store(table, std::memory_order_release);
  }
  const size_t n = g_global_count.load(std::memory_order_relaxed);
  if (n == max_globals) base::fatalf("more than %zu variables of type gc::global", max_globals);
  g_globals.load(std::memory_order_relaxed)[n] = word;
  g_global_count.store(n + 1, std::memory_order_release);
  added->store(true, std::memory_order_release);
}

}  // namespace detail
}  // namespace weft::gc
