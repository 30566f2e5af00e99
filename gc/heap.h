#pragma once
// The heap as the collector's parts share it: kinds of slots, mutators, the central lists. heap.cc
// has the design.
#include <atomic>
#include <cstdint>

#include "base/spinlock.h"
#include "gc/mark_queue.h"
#include "gc/size_class.h"
#include "gc/span.h"

namespace weft::sched {
struct thread;
}

namespace weft::gc {

struct span_list {
  span* head = nullptr;
  span* tail = nullptr;
  size_t count = 0;
  void push(span* s) noexcept {
    ++count;
    s->next = nullptr;
    (head != nullptr ? tail->next : head) = s;
    tail = s;
  }
  span* pop() noexcept {
    span* s = head;
    if (s != nullptr) {
      head = s->next;
      --count;
    }
    return s;
  }
  void splice(span_list& other) noexcept {
    if (other.head == nullptr) return;
    (head != nullptr ? tail->next : head) = other.head;
    tail = other.tail;
    count += other.count;
    other = {};
  }
};

// Slots that may lie in one span: of one type, or arrays of one class with or without references.
struct kind {
  const type_info* type = nullptr;  // null: arrays
  slot_shape shape{};               // slots 0: every object has a span of its own
  bool noscan = false;
  // What no allocating thread has in hand.
  base::spinlock lock;
  span_list partial;  // swept, with free slots
  span_list full;     // swept
  span_list unswept;  // since the last cycle
  // Objects, ever; those in runs included.
  std::atomic<uint64_t> allocated{0}, freed{0};
};

inline constexpr uint32_t max_kinds = 16384;
inline constexpr uint32_t first_array_kind =
    1;  // classes that are scanned, then those that are not
inline constexpr uint32_t large_array_kind =
    first_array_kind + 2 * array_classes;  // and + 1: noscan
inline constexpr uint32_t first_type_kind = large_array_kind + 2;
extern kind* g_kinds;
extern std::atomic<uint32_t> g_kind_count;

// Where one thread gets its next slots of one kind: the free run [cur, limit) of a span that it has
// in hand, of which [cur, end) may be given out without a look at anything else.
struct alignas(64) cell {
  char* cur;
  char* end;
  uint64_t stride;
  char* limit;
  span* s;
  uint32_t next_active;
  bool active;
  bool sampled;         // the object at `end` is to be profiled
  int64_t sample_rate;  // under which it was chosen
};

// What the heap keeps for a thread; it stays with the thread's record. Touched by that thread
// inside critical sections, so never while the world is stopped; then it is the collector's.
struct mutator {
  cell* cells = nullptr;      // by kind
  uint32_t first_active = 0;  // chain of cells that have a span in hand
  mutator* all_next = nullptr;
  // Objects that stores have greyed. The collector takes them without stopping the thread.
  base::spinlock grey_lock;
  mark_block* grey = nullptr;
  void** free_roots = nullptr;  // roots.cc
  uint32_t free_root_count = 0;
  // Distance to the next profiled allocation.
  int64_t until_sample = 0;
  int64_t sample_rate = 0;
  uint64_t sample_rng = 0;
  // Counters: written by the thread, summed by anyone.
  std::atomic<uint64_t> objects{0};  // up to the last refill
  std::atomic<uint64_t> bytes{0};
  int64_t assist_credit = 0;  // assist.cc
};
extern std::atomic<mutator*> g_mutators;

// Whether any object has ever been made. While false nothing of the heap exists.
extern std::atomic<bool> g_heap_exists;
void make_heap_exist() noexcept;

// The calling thread's; attaches a thread that the runtime does not know. Inside a critical section
// or where no other may run.
mutator& mutator_of(sched::thread* th) noexcept;

// The type's kind; registers it at the first call. large_array_kind if the table is full: then its
// objects are laid out as arrays of one.
uint32_t kind_of(const type_info& t) noexcept;
const type_info* type_of_kind(uint32_t kind) noexcept;

// alloc.cc. A slot of this kind; the caller is in a critical section. Null: no memory.
void* refill(mutator& m, uint32_t kind_index) noexcept;
// An object with a span of its own. Not in a critical section. Null: no memory.
void* allocate_large(const type_info* type, uint32_t kind_index, size_t bytes, bool noscan,
                     size_t sampled_size) noexcept;
// World stopped: takes back all runs, so that what has not been handed out is free again.
void retire_cells(bool marking) noexcept;

// Accounting of allocation, for the pacer.
struct heap_counters {
  alignas(64) std::atomic<uint64_t> live{0};       // marked by the last cycle and allocated since
  std::atomic<uint64_t> trigger{0};                // a cycle begins when live reaches this
  alignas(64) std::atomic<uint64_t> allocated{0};  // bytes, ever
  std::atomic<uint64_t> freed{0};                  // bytes, ever; by sweeping
  std::atomic<uint64_t> freed_objects{0};
};
extern heap_counters g_counters;

// What the tables of profiles take, for read_mem_stats().
void set_profile_table_bytes(uint64_t (*bytes)() noexcept) noexcept;

// For fork().
void lock_heap() noexcept;
void unlock_heap() noexcept;

}  // namespace weft::gc
