// Memory of the sampled objects of weft::malloc.
//
// Shape      One reserved range, cut into units of 64 KiB. A slab is one or more units that hold
//            slots of one size class; classes are 1/8 apart. Slots up to 8 KiB share slabs of one
//            unit, up to 64 KiB slabs of eight; a larger one is a slab by itself. What describes a
//            slab lies in a table beside the range, so that writing past an object cannot reach it.
//            An object has 16 bytes before it: the token of its sample, and a word made of its slot
//            and a secret.
// Why own    A first-class heap of mimalloc allocates on the thread that made it only, and dies
//            with that thread before the last of the thread's destructors has allocated; headers
//            beside ordinary blocks make free() read foreign memory (docs/decisions/009).
// Memory     Slabs without objects stay as they are up to 64 MiB and one second, for programs that
//            take and free the same large block again and again (those are nearly always sampled);
//            then their pages go back to the kernel. Their addresses are used again only for slabs
//            of as many units.
// Lock       One leaf spinlock. At the default rate it is taken once per 512 KiB allocated.
#include "weft/malloc/sampled_store.h"

#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/spinlock.h"

namespace weft::heap {

constinit sampled_range g_sampled;

namespace {

constexpr size_t unit = 64 * 1024;
constexpr size_t header_size = 16;
constexpr size_t smallest = 32;
constexpr size_t largest_shared = 64 * 1024;  // larger slots have a slab each
constexpr size_t most_idle = 64 << 20;
constexpr int64_t idle_ns = 1'000'000'000;
constexpr uint32_t unit_lists = 64;  // slabs of n units are in list n mod 64

// Size classes: 32, 48, 64, … 256 in steps of 16, then eight to a doubling.
constexpr uint32_t class_count = 15 + 8 * 40;

constexpr uint32_t class_of(size_t size) {
  if (size <= smallest) return 0;
  if (size <= 256) return static_cast<uint32_t>((size - smallest + 15) / 16);
  auto doubling = static_cast<uint32_t>(std::bit_width(size - 1)) - 1;  // 2^doubling < size
  auto eighth = static_cast<uint32_t>((size - 1) >> (doubling - 3)) & 7;
  return 15 + (doubling - 8) * 8 + eighth;
}

constexpr size_t class_size(uint32_t cls) {
  if (cls < 15) return smallest + size_t{16} * cls;
  uint32_t doubling = (cls - 15) / 8 + 8;
  return (size_t{8} + (cls - 15) % 8 + 1) << (doubling - 3);
}

static_assert(class_size(class_of(1)) == 32 && class_size(class_of(33)) == 48);
static_assert(class_size(class_of(256)) == 256 && class_size(class_of(257)) == 288);
static_assert(class_size(class_of(288)) == 288 && class_size(class_of(512)) == 512);
static_assert(class_size(class_of(513)) == 576 && class_size(class_of(1 << 20)) == 1 << 20);
static_assert(class_of(size_t{1} << 47) < class_count);

constexpr uint32_t units_of(uint32_t cls) {
  size_t size = class_size(cls);
  if (size <= 8 * 1024) return 1;
  if (size <= largest_shared) return 8;
  return static_cast<uint32_t>((size + unit - 1) / unit);
}

struct slab {
  slab* next;  // in one of the lists below
  slab* prev;
  uint32_t cls;
  uint32_t live;      // objects in it
  uint32_t bump;      // slots from here on have not been given out since the slab was empty
  uint32_t free;      // 1 + first free slot below `bump`; the chain goes through the slots
  uint32_t capacity;  // slots
  uint32_t units;
  bool zero;  // the slots from `bump` on are zero
  int64_t idle_since;
};

struct list {
  slab* head = nullptr;
  slab* tail = nullptr;

  void push_front(slab* s) noexcept {
    s->prev = nullptr;
    s->next = head;
    (head != nullptr ? head->prev : tail) = s;
    head = s;
  }
  void remove(slab* s) noexcept {
    (s->prev != nullptr ? s->prev->next : head) = s->next;
    (s->next != nullptr ? s->next->prev : tail) = s->prev;
  }
};

// Before each object.
struct header {
  void* token;
  uint64_t seal;  // see sealed()
};
static_assert(sizeof(header) == header_size);

struct store {
  base::spinlock lock;
  bool tried = false;                 // to reserve the range
  char* start = nullptr;              // unit 0
  slab* slabs = nullptr;              // slabs[n] describes the slab that begins with unit n
  uint32_t* first = nullptr;          // first[n]: the unit that unit n's slab begins with
  size_t unit_limit = 0;              // units in the range
  std::atomic<size_t> unit_count{0};  // units given to slabs so far
  size_t unit_ready = 0;              // units whose memory and table entries may be touched
  uint64_t secret = 0;
  list partial[class_count];  // slabs with room and at least one object
  list idle[unit_lists];      // no object, memory kept; most recent first
  list clean[unit_lists];     // no object, no memory
  size_t idle_bytes = 0;
  size_t live_bytes = 0;
};

constinit store g_store;

size_t index_of(const slab* s) noexcept { return static_cast<size_t>(s - g_store.slabs); }
char* memory_of(const slab* s) noexcept { return g_store.start + index_of(s) * unit; }
size_t bytes_of(const slab* s) noexcept { return s->units * unit; }

int64_t coarse_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

void* reserve(size_t bytes) noexcept {
  void* p = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

// A terabyte of addresses costs nothing; where RLIMIT_AS forbids it, less does.
bool reserve_range() noexcept {
  store& g = g_store;
  g.tried = true;
  for (size_t size : {size_t{1} << 40, size_t{1} << 36, size_t{1} << 32, size_t{1} << 28}) {
    void* range = reserve(size + unit);
    size_t units = size / unit;
    void* slabs = range != nullptr ? reserve(units * sizeof(slab)) : nullptr;
    void* first = slabs != nullptr ? reserve(units * sizeof(uint32_t)) : nullptr;
    if (first == nullptr) {
      if (slabs != nullptr) ::munmap(slabs, units * sizeof(slab));
      if (range != nullptr) ::munmap(range, size + unit);
      continue;
    }
    uintptr_t start = (reinterpret_cast<uintptr_t>(range) + unit - 1) & ~(unit - 1);
    g.start = reinterpret_cast<char*>(start);
    g.slabs = static_cast<slab*>(slabs);
    g.first = static_cast<uint32_t*>(first);
    g.unit_limit = units;
    if (::getrandom(&g.secret, sizeof g.secret, GRND_NONBLOCK) != sizeof g.secret)
      g.secret = static_cast<uint64_t>(coarse_ns()) * 0x9e3779b97f4a7c15u;
    // No thread has a pointer into the range yet, so the order of the two does not matter.
    g_sampled.base.store(start, std::memory_order_relaxed);
    g_sampled.size.store(size, std::memory_order_relaxed);
    return true;
  }
  return false;
}

bool commit(void* table, size_t size, size_t from, size_t to) noexcept {
  constexpr uintptr_t page = 4096;
  auto base = reinterpret_cast<uintptr_t>(table);
  uintptr_t lo = (base + from * size) & ~(page - 1);
  uintptr_t hi = (base + to * size + page - 1) & ~(page - 1);
  return ::mprotect(reinterpret_cast<void*>(lo), hi - lo, PROT_READ | PROT_WRITE) == 0;
}

// A slab of `units` at addresses that none has had yet.
slab* new_slab(uint32_t units) noexcept {
  store& g = g_store;
  const size_t begin = g.unit_count.load(std::memory_order_relaxed);
  if (units > g.unit_limit - begin) return nullptr;
  const size_t end = begin + units;
  if (end > g.unit_ready) {
    // In growing steps, because each is a system call: 1 MiB to 64 MiB ahead.
    size_t ahead = std::clamp(g.unit_ready / 4, size_t{16}, size_t{1024});
    size_t ready = std::min(std::max(end, g.unit_ready + ahead), g.unit_limit);
    if (!commit(g.slabs, sizeof(slab), g.unit_ready, ready) ||
        !commit(g.first, sizeof(uint32_t), g.unit_ready, ready) ||
        !commit(g.start, unit, g.unit_ready, ready))
      return nullptr;
    g.unit_ready = ready;
  }
  for (size_t n = begin; n < end; ++n) g.first[n] = static_cast<uint32_t>(begin);
  g.unit_count.store(end, std::memory_order_relaxed);
  slab* s = &g.slabs[begin];
  s->units = units;
  s->zero = true;
  return s;
}

slab* take_from(list* lists, uint32_t units) noexcept {
  list& l = lists[units % unit_lists];
  for (slab* s = l.head; s != nullptr; s = s->next) {
    if (s->units != units) continue;
    l.remove(s);
    return s;
  }
  return nullptr;
}

slab* slab_with_room(uint32_t cls) noexcept {
  store& g = g_store;
  if (slab* s = g.partial[cls].head) return s;
  uint32_t units = units_of(cls);
  slab* s = take_from(g.idle, units);
  if (s != nullptr)
    g.idle_bytes -= bytes_of(s);
  else if ((s = take_from(g.clean, units)) == nullptr && (s = new_slab(units)) == nullptr)
    return nullptr;
  s->cls = cls;
  s->capacity = static_cast<uint32_t>(bytes_of(s) / class_size(cls));
  g.partial[cls].push_front(s);
  return s;
}

char* slot_of(const slab* s, uint32_t n) noexcept {
  return memory_of(s) + size_t{n} * class_size(s->cls);
}

uint64_t sealed(const void* object, uint32_t slot) noexcept {
  uint64_t key = (reinterpret_cast<uintptr_t>(object) ^ g_store.secret) * 0x9e3779b97f4a7c15u;
  return (key & ~uint64_t{UINT32_MAX}) | slot;
}

header* header_of(const void* object) noexcept {
  return reinterpret_cast<header*>(reinterpret_cast<uintptr_t>(object) - header_size);
}

struct place {
  slab* s;
  uint32_t slot;
};

// Where the live object is; no slab if it is none.
place find(const void* object) noexcept {
  store& g = g_store;
  auto at = reinterpret_cast<uintptr_t>(object) - reinterpret_cast<uintptr_t>(g.start);
  if (at / unit >= g.unit_count.load(std::memory_order_relaxed)) return {};
  if (at % 16 != 0 || at < header_size) return {};
  const header* h = header_of(object);
  const auto slot = static_cast<uint32_t>(h->seal);
  if (h->seal != sealed(object, slot)) return {};
  slab* s = &g.slabs[g.first[at / unit]];
  return slot < s->capacity ? place{s, slot} : place{};
}

[[noreturn]] void not_live(const void* object) noexcept {
  base::fatalf(
      "weft::malloc: %p is not an allocated block: freed twice, a pointer into the middle of one, "
      "or the bytes before it were overwritten",
      object);
}

place find_live(const void* object) noexcept {
  place found = find(object);
  if (found.s == nullptr) not_live(object);
  return found;
}

// Takes the oldest idle slab out of its list, if there are too many of them or it is too old.
slab* take_stale(int64_t now, int* old_ones) noexcept {
  store& g = g_store;
  if (g.idle_bytes == 0) return nullptr;
  slab* oldest = nullptr;
  for (list& l : g.idle) {
    if (l.tail != nullptr && (oldest == nullptr || l.tail->idle_since < oldest->idle_since))
      oldest = l.tail;
  }
  if (g.idle_bytes <= most_idle && (now - oldest->idle_since < idle_ns || --*old_ones < 0))
    return nullptr;
  g.idle[oldest->units % unit_lists].remove(oldest);
  g.idle_bytes -= bytes_of(oldest);
  return oldest;
}

// Returns the memory of stale slabs to the kernel, without the lock, which others wait for by
// spinning. Of those that are merely old a few at a time: nobody's free() pays for a whole cache.
void release_stale() noexcept {
  store& g = g_store;
  int64_t now = coarse_ns();
  int old_ones = 4;
  for (;;) {
    g.lock.lock();
    slab* s = take_stale(now, &old_ones);
    g.lock.unlock();
    if (s == nullptr) return;
    // Fails for locked memory (mlockall), which keeps its bytes.
    s->zero = ::madvise(memory_of(s), bytes_of(s), MADV_DONTNEED) == 0;
    g.lock.lock();
    g.clean[s->units % unit_lists].push_front(s);
    g.lock.unlock();
  }
}

// Takes the slot back; true when that left idle slabs behind.
bool give_back(slab* s, uint32_t slot) noexcept {
  store& g = g_store;
  g.live_bytes -= class_size(s->cls);
  if (s->live == s->capacity) g.partial[s->cls].push_front(s);
  if (--s->live > 0) {
    std::memcpy(slot_of(s, slot), &s->free, sizeof s->free);
    s->free = slot + 1;
    return false;
  }
  g.partial[s->cls].remove(s);
  s->bump = 0;
  s->free = 0;
  s->zero = false;
  s->idle_since = coarse_ns();
  g.idle[s->units % unit_lists].push_front(s);
  g.idle_bytes += bytes_of(s);
  return true;
}

}  // namespace

void* store_allocate(size_t size, size_t alignment, bool zero) noexcept {
  store& g = g_store;
  constexpr size_t most = size_t{1} << 46;
  if (size > most || alignment > most) return nullptr;
  // Even an empty object's address is inside its slot, or it would belong to the next slab.
  size_t total = std::max(size, size_t{1}) + header_size + (alignment > 16 ? alignment - 16 : 0);
  uint32_t cls = class_of(total);
  g.lock.lock();
  if (!g.tried) reserve_range();
  slab* s = g.start != nullptr ? slab_with_room(cls) : nullptr;
  if (s == nullptr) {
    g.lock.unlock();
    return nullptr;
  }
  uint32_t slot = s->bump;
  bool is_zero = s->zero;
  if (s->free != 0) {
    slot = s->free - 1;
    is_zero = false;
    std::memcpy(&s->free, slot_of(s, slot), sizeof s->free);
  } else {
    ++s->bump;
  }
  ++s->live;
  if (s->live == s->capacity) g.partial[cls].remove(s);
  g.live_bytes += class_size(cls);
  g.lock.unlock();

  auto begin = reinterpret_cast<uintptr_t>(slot_of(s, slot));
  uintptr_t object = (begin + header_size + alignment - 1) & ~(alignment - 1);
  auto* p = reinterpret_cast<void*>(object);
  if (zero && !is_zero) std::memset(p, 0, size);
  header* h = header_of(p);
  h->token = nullptr;
  h->seal = sealed(p, slot);
  return p;
}

void* store_free(void* p) noexcept {
  store& g = g_store;
  g.lock.lock();
  place at = find(p);
  if (at.s == nullptr) {
    g.lock.unlock();
    not_live(p);
  }
  header* h = header_of(p);
  void* token = h->token;
  h->seal = 0;
  bool idle = give_back(at.s, at.slot);
  g.lock.unlock();
  if (idle) release_stale();
  return token;
}

void* store_token(const void* p) noexcept {
  find_live(p);
  return header_of(p)->token;
}

void store_set_token(void* p, void* token) noexcept {
  find_live(p);
  header_of(p)->token = token;
}

size_t store_usable_size(const void* p) noexcept {
  place at = find_live(p);
  const char* end = slot_of(at.s, at.slot) + class_size(at.s->cls);
  return static_cast<size_t>(end - static_cast<const char*>(p));
}

store_stats store_statistics() noexcept {
  store& g = g_store;
  g.lock.lock();
  store_stats stats{g.unit_limit * unit, g.unit_ready * unit, g.live_bytes, g.idle_bytes};
  g.lock.unlock();
  return stats;
}

}  // namespace weft::heap
