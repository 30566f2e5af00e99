// What the runtime's own locks tell (base/lock_waits.h), by stack.
//
// Where      The listener is called in the middle of anything, with other locks of the runtime held
//            and perhaps the bucket table's own. So nothing here takes a lock: stacks are walked
//            with the compact tables alone (libgcc's walk may take the dynamic linker's lock), and
//            counted in a table of a fixed size, without labels.
// Table      Open addressing by the hash of the stack, which is the stack's name: two of 64 bits
//            that are equal are the same stack. An entry is claimed by its hash and never given
//            back; its counters count from then on, its stack is read once it is complete. What
//            finds no place goes to one entry without a stack, "[other]".
// Sampling   As the two profiles do it for the program's locks: a wait of at least the block rate
//            counts as it is, a shorter one as one of the rate with probability d / rate; one in
//            `mutex_fraction` of the releases that somebody waited for counts that many times.
// In 1.22 Go has charged such waits to the stack that waited, which then held the lock; here as in
// 1.25 the mutex profile has the end of the critical section that was waited for.
#include "profiler/runtime_locks.h"

#include <weft/detail/lock_listener.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "base/clock.h"
#include "profiler/stack_here.h"
#include "profiler/unwind.h"

namespace weft::prof {
namespace {

constexpr size_t most_frames = 64;
constexpr size_t table_size = 1024;  // stacks
constexpr size_t probes = 16;

struct counters {
  std::atomic<int64_t> waits{0};
  std::atomic<int64_t> ns{0};
  void add(int64_t more_waits, int64_t more_ns) noexcept {
    waits.fetch_add(more_waits, std::memory_order_relaxed);
    ns.fetch_add(more_ns, std::memory_order_relaxed);
  }
};

class stack_counters {
 public:
  void add(const captured_stack& stack, std::span<const uintptr_t> pcs, int64_t waits,
           int64_t ns) noexcept {
    find(stack, pcs.first(stack.depth)).add(waits, ns);
  }
  counters& unknown() noexcept { return unknown_; }
  size_t size() const noexcept { return used_.load(std::memory_order_relaxed); }

  // With waits that were added in parts of `unit`.
  void add_to(sample_set& set, int64_t unit) {
    for (entry& e : entries_) {
      // [ord runtime_locks.entry] acquire: the stack is complete
      const uint32_t state = e.depth.load(std::memory_order_acquire);
      if (state == 0) continue;
      add_to(set, {{{e.pcs.data(), state - 1}, false, e.truncated}}, e.count, unit);
    }
    add_to(set, {.stack = {}, .pseudo_frame = "[other]"}, other_, unit);
    add_to(set, {.stack = {}, .pseudo_frame = "[runtime lock, holder unknown]"}, unknown_, unit);
  }

 private:
  struct entry {
    std::atomic<uint64_t> hash{0};
    std::atomic<uint32_t> depth{0};  // + 1, once the stack is complete
    bool truncated = false;
    counters count;
    std::array<uintptr_t, most_frames> pcs{};
  };

  static void add_to(sample_set& set, const sample_key& key, const counters& c, int64_t unit) {
    const int64_t waits = c.waits.load(std::memory_order_relaxed);
    const int64_t values[] = {std::max<int64_t>(waits / unit, 1),
                              c.ns.load(std::memory_order_relaxed)};
    if (waits != 0) set.add(key, values);
  }

  counters& find(const captured_stack& stack, std::span<const uintptr_t> pcs) noexcept {
    uint64_t hash = stack.truncated ? 3 : 1;
    for (uintptr_t pc : pcs) {
      hash = (hash ^ pc) * 0x9e3779b97f4a7c15u;
      hash ^= hash >> 29;
    }
    if (hash == 0) hash = 1;
    for (size_t i = 0; i < probes; ++i) {
      entry& e = entries_[(hash + i) % table_size];
      uint64_t there = e.hash.load(std::memory_order_relaxed);
      if (there == 0 && e.hash.compare_exchange_strong(there, hash, std::memory_order_relaxed)) {
        std::ranges::copy(pcs, e.pcs.begin());
        e.truncated = stack.truncated;
        used_.fetch_add(1, std::memory_order_relaxed);
        e.depth.store(static_cast<uint32_t>(pcs.size()) + 1,
                      std::memory_order_release);  // [ord runtime_locks.entry]
        return e.count;
      }
      if (there == hash) return e.count;
    }
    return other_;
  }

  std::array<entry, table_size> entries_;
  counters other_;
  counters unknown_;
  std::atomic<size_t> used_{0};
};

// Of pages that are not there until they are needed.
constexpr int64_t wait_unit = 256;
constinit stack_counters g_waiting;  // waits in parts of wait_unit
constinit stack_counters g_holding;

std::atomic<int64_t> g_block_rate{0};
std::atomic<int64_t> g_mutex_fraction{0};

// In [0, limit). The thread may be one that the runtime does not know, so not from the scheduler.
int64_t random_below(int64_t limit) noexcept {
  static constinit std::atomic<uint64_t> state{0};
  uint64_t z = state.fetch_add(0x9e3779b97f4a7c15u, std::memory_order_relaxed) +
               static_cast<uint64_t>(base::true_now_ns());
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return static_cast<int64_t>((z ^ z >> 31) % static_cast<uint64_t>(limit));
}

void note_waited(int64_t ns, int64_t unknown_ns) noexcept {
  // A deterministic test's clock may have come: its waits are no waits.
  if (base::g_fake_ns.load(std::memory_order_relaxed) != 0) return;
  const int64_t rate = g_block_rate.load(std::memory_order_relaxed);
  std::array<uintptr_t, most_frames> pcs;
  if (rate > 0 && (ns >= rate || random_below(rate) < ns)) {
    const captured_stack stack = stack_here_by_tables(pcs);
    const int64_t waits = ns >= rate ? wait_unit : wait_unit * rate / std::max<int64_t>(ns, 1);
    g_waiting.add(stack, pcs, waits, std::max(ns, rate));
  }
  const int64_t n = g_mutex_fraction.load(std::memory_order_relaxed);
  if (unknown_ns > 0 && n > 0 && random_below(n) == 0) g_holding.unknown().add(n, unknown_ns * n);
}

void note_held_up(int64_t delay_ns, int64_t waiters) noexcept {
  const int64_t n = g_mutex_fraction.load(std::memory_order_relaxed);
  if (n <= 0 || base::g_fake_ns.load(std::memory_order_relaxed) != 0) return;
  if (n > 1 && random_below(n) != 0) return;
  std::array<uintptr_t, most_frames> pcs;
  const captured_stack stack = stack_here_by_tables(pcs);
  g_holding.add(stack, pcs, waiters * n, delay_ns * n);
}

constexpr base::lock_listener listener{note_waited, note_held_up};

}  // namespace

void watch_runtime_locks(int64_t block_rate_ns, int64_t mutex_fraction) noexcept {
  g_block_rate.store(block_rate_ns, std::memory_order_relaxed);
  g_mutex_fraction.store(mutex_fraction, std::memory_order_relaxed);
  const bool on = block_rate_ns > 0 || mutex_fraction > 0;
  base::g_lock_listener.store(on ? &listener : nullptr,
                              std::memory_order_release);  // [ord lock.listener]
}

void add_waits_for_runtime_locks(sample_set& set) { g_waiting.add_to(set, wait_unit); }
void add_holders_of_runtime_locks(sample_set& set) { g_holding.add_to(set, 1); }
size_t stacks_waiting_for_runtime_locks() noexcept { return g_waiting.size(); }
size_t stacks_holding_runtime_locks() noexcept { return g_holding.size(); }

}  // namespace weft::prof
