// The collected heap: objects of C++ types that are found dead by marking what is reachable.
//
// Words      slot: place of one object. span: pages with slots of one size; of one type, unless
//            they hold arrays. kind: which slots may share a span. run: free slots in a row that a
//            thread has in hand. mutator: what the heap keeps for a thread. grey: marked, contents
//            not yet scanned. cycle: one round of marking and sweeping.
// Shape      cage.h: the address space and the bitmaps. span.h: from an address to an object.
//            page_heap.cc: pages. alloc.cc: runs and large objects. mark.cc: the graph. stacks.cc,
//            roots.cc: where marking begins. barrier.cc: what stores tell. cycle.cc: when what
//            happens. sweep.cc: what was not reached. verify.cc: whether all of it is true.
// Objects    do not move. Every word that may hold a reference is looked up (find), so that a word
//            that is stale, torn or an accident costs memory at most, never a crash.
// Cycle      Snapshot at the beginning: what was reachable when the world stood still for the first
//            time survives the cycle, and so does what is made during it. Stores that overwrite a
//            reference in a traced place tell the old value [G1]; stacks of tasks that do not run
//            are scanned later, but before the task runs again [G2]; slots handed out while marking
//            is on are marked [G3]; running stacks are scanned again at the end, for the values
//            that a store had read and not yet told of [G4].
// [G1]       The store comes first, then the look at `marking` (include/weft/gc/ref.h). `marking`
//            changes only while the world is stopped, so a thread stopped between the two sees the
//            new value; one stopped before the store overwrites after the flip and tells.
// [G5]       Sweeping is finished before a cycle begins, and all runs are given back at both stops.
// Locks      kind::lock, the page heap's, the specials' and the queue's are leaves and are held in
//            critical sections only (scheduler/park.h), so never by a thread that is stopped.
// Threads    Marking and background sweeping happen on threads of the collector's own, which hold
//            no processor; tasks help when they allocate faster (assist).
// Rejected   Moving objects, handles on stacks, a header per object, callbacks of user code while
//            marking, mimalloc as a source of blocks (no way from an inner pointer to a block).
#include "gc/heap.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "base/alloc_sampling.h"
#include "base/check.h"
#include "gc/cycle.h"
#include "gc/roots.h"
#include "gc/stress.h"
#include "scheduler/park.h"
#include "scheduler/world_stop.h"

namespace weft::gc {

kind* g_kinds = nullptr;
std::atomic<uint32_t> g_kind_count{0};
std::atomic<mutator*> g_mutators{nullptr};
std::atomic<bool> g_heap_exists{false};
heap_counters g_counters;

namespace {

base::spinlock g_types_lock;
base::spinlock g_exist_lock;

void make_array_kinds() noexcept {
  for (int noscan = 0; noscan < 2; ++noscan) {
    for (int c = 0; c < array_classes; ++c) {
      kind& k = g_kinds[first_array_kind + static_cast<uint32_t>(noscan * array_classes + c)];
      k.shape = shape_for(class_size(c));
      k.noscan = noscan != 0;
    }
    g_kinds[large_array_kind + static_cast<uint32_t>(noscan)].noscan = noscan != 0;
  }
}

template <class T>
T* table(size_t n) noexcept {
  void* p = reserve_table(n * sizeof(T));
  if (p == nullptr) base::fatal("out of address space for the collected heap's tables");
  return static_cast<T*>(p);
}

void empty_cell(cell& c) noexcept { c = {}; }

}  // namespace

void make_heap_exist() noexcept {
  if (g_heap_exists.load(std::memory_order_acquire)) return;
  std::lock_guard hold(g_exist_lock);
  if (g_heap_exists.load(std::memory_order_relaxed)) return;
  read_options();
  reserve_cage();
  g_kinds = table<kind>(max_kinds);
  make_array_kinds();
  g_kind_count.store(first_type_kind, std::memory_order_release);
  start_collector();
  g_heap_exists.store(true, std::memory_order_release);
}

mutator& mutator_of(sched::thread* th) noexcept {
  if (th->heap != nullptr) return *static_cast<mutator*>(th->heap);
  make_heap_exist();
  // [ord gc.mutators] never freed: the thread's record and this are reused together
  auto* m = new (table<mutator>(1)) mutator;
  m->cells = table<cell>(max_kinds);
  empty_cell(m->cells[0]);
  m->sample_rng = base::new_sample_rng();
  m->sample_rate = base::mem_profile_rate();
  m->until_sample = base::next_sample_distance(m->sample_rng, m->sample_rate);
  m->all_next = g_mutators.load(std::memory_order_relaxed);
  while (!g_mutators.compare_exchange_weak(m->all_next, m, std::memory_order_release,
                                           std::memory_order_relaxed)) {
  }
  th->heap = m;
  return *m;
}

void detail::set_mask(const type_info& t, const uint64_t* found) noexcept {
  std::lock_guard hold(g_types_lock);
  if (t.described.load(std::memory_order_relaxed)) return;
  std::copy_n(found, t.mask_words, t.mask);
  // [ord gc.masks] release: whoever sees `described`, or an object, sees the mask
  t.described.store(true, std::memory_order_release);
}

uint32_t kind_of(const type_info& t) noexcept {
  if (uint32_t id = t.id.load(std::memory_order_acquire); id != 0) return id;
  make_heap_exist();
  ensure_described(t);
  std::lock_guard hold(g_types_lock);
  const uint32_t n = g_kind_count.load(std::memory_order_relaxed);
  for (uint32_t i = first_type_kind; i < n; ++i) {
    const type_info& known = *g_kinds[i].type;
    // The same type from another shared object.
    if (known.size == t.size && std::strcmp(known.mangled(), t.mangled()) == 0) {
      t.id.store(i, std::memory_order_release);
      return i;
    }
  }
  if (n == max_kinds) return large_array_kind;
  kind& k = g_kinds[n];
  k.type = &t;
  k.noscan = t.mask == nullptr && !t.conservative;
  const size_t stride = stride_for(t.size);
  if (stride <= largest_small) k.shape = shape_for(stride);
  g_kind_count.store(n + 1, std::memory_order_release);
  t.id.store(n, std::memory_order_release);
  return n;
}

const type_info* type_of_kind(uint32_t kind) noexcept { return g_kinds[kind].type; }

void lock_heap() noexcept {
  g_exist_lock.lock();
  g_types_lock.lock();
  for (uint32_t i = 1; i < g_kind_count.load(std::memory_order_relaxed); ++i)
    g_kinds[i].lock.lock();
}

void unlock_heap() noexcept {
  for (uint32_t i = 1; i < g_kind_count.load(std::memory_order_relaxed); ++i)
    g_kinds[i].lock.unlock();
  g_types_lock.unlock();
  g_exist_lock.unlock();
}

}  // namespace weft::gc
