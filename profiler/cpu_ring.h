#pragma once
// Where one thread's CPU samples lie between its signal handler and the collector.
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "scheduler/thread.h"

namespace weft::prof {

inline constexpr size_t max_cpu_depth = 512;

// One sample as the handler found it.
struct cpu_tick {
  uint32_t weight = 1;  // ticks it stands for
  uint32_t hz = 0;      // the rate of the timer that ticked
  const void* labels = nullptr;
  const char* root = nullptr;  // where the code belongs if to no task of the program: a literal
  uint64_t task = 0;           // 0: none
  bool truncated = false;
};

// One writer, the handler on its own thread, and one reader, the collector.
class cpu_ring {
 public:
  // Handler side. False if there is no room: the ticks are counted as lost.
  bool push(const cpu_tick& tick, const uintptr_t* pcs, size_t depth) noexcept {
    size_t tail = tail_.load(std::memory_order_relaxed);
    // [ord ring.head] acquire: the reader is done with the words below head
    if (words - (tail - head_.load(std::memory_order_acquire)) < header_words + depth) {
      lost_ns_.fetch_add(uint64_t{tick.weight} * (1'000'000'000 / tick.hz),
                         std::memory_order_relaxed);
      lost_.fetch_add(tick.weight, std::memory_order_relaxed);
      return false;
    }
    put(tail++, depth | uint64_t{tick.truncated} << 32);
    put(tail++, tick.weight | uint64_t{tick.hz} << 32);
    put(tail++, reinterpret_cast<uintptr_t>(tick.labels));
    put(tail++, reinterpret_cast<uintptr_t>(tick.root));
    put(tail++, tick.task);
    for (size_t i = 0; i < depth; ++i) put(tail++, pcs[i]);
    tail_.store(tail, std::memory_order_release);  // [ord ring.tail] publishes the sample
    return true;
  }

  // Collector side: f(tick, pcs) for each sample.
  template <class F>
  void drain(F f) {
    size_t head = head_.load(std::memory_order_relaxed);
    const size_t tail = tail_.load(std::memory_order_acquire);  // [ord ring.tail]
    std::vector<uintptr_t> pcs;
    while (head != tail) {
      const uint64_t shape = get(head++);
      const uint64_t weight = get(head++);
      cpu_tick tick;
      tick.truncated = (shape >> 32) != 0;
      tick.weight = static_cast<uint32_t>(weight);
      tick.hz = static_cast<uint32_t>(weight >> 32);
      tick.labels = reinterpret_cast<const void*>(get(head++));
      tick.root = reinterpret_cast<const char*>(get(head++));
      tick.task = get(head++);
      pcs.resize(shape & 0xffffffff);
      for (uintptr_t& pc : pcs) pc = get(head++);
      f(tick, pcs);
    }
    head_.store(head, std::memory_order_release);  // [ord ring.head]
  }

  struct loss {
    uint64_t ticks, ns;
  };
  loss take_lost() noexcept {
    return {lost_.exchange(0, std::memory_order_relaxed),
            lost_ns_.exchange(0, std::memory_order_relaxed)};
  }

 private:
  static constexpr size_t words = 1 << 15;  // 256 KiB, touched as far as it fills
  static constexpr size_t header_words = 5;

  void put(size_t at, uint64_t v) noexcept {
    words_[at % words].store(v, std::memory_order_relaxed);
  }
  uint64_t get(size_t at) const noexcept {
    return words_[at % words].load(std::memory_order_relaxed);
  }
  std::atomic<size_t> head_{0};
  std::atomic<size_t> tail_{0};
  std::atomic<uint64_t> lost_{0};
  std::atomic<uint64_t> lost_ns_{0};
  std::atomic<uint64_t> words_[words];
};

// One thread's part of the sampler. Slots are reused, never unmapped.
struct thread_sampler {
  cpu_ring ring;
  std::atomic<uint32_t> hz{0};  // of the timer
  // Threads that the runtime does not know: where they were first seen, and what memory lies around
  // that place.
  std::atomic<uintptr_t> seen_rsp{0};
  std::atomic<uintptr_t> stack_lo{0};
  std::atomic<uintptr_t> stack_hi{0};  // [ord sampler.stack] publishes stack_lo
  // Ticks that the handler was told of, pushed or lost, since the timer was set.
  std::atomic<uint64_t> told{0};
  int64_t set_at_ns = 0;  // of the thread's CPU clock, when the timer was set
  int64_t first_ns = 0;   // until the first tick
  // Ticks that were credited before the handler heard of them (cpu_threads::settle).
  uint64_t ahead = 0;
  uint64_t owed = 0;  // of those, not yet in a consumer's set
  uint32_t owed_hz = 0;
  // The last sample that the collector took out of the ring; its labels are retained.
  cpu_tick last;
  std::vector<uintptr_t> last_pcs;

  const char* root = nullptr;       // what its samples outside of tasks belong to
  sched::thread* record = nullptr;  // null: unknown to the runtime
  std::atomic<int> tid{0};          // [ord sampler.tid] what the handler reads of its slot
  uint32_t slot = 0;
  timer_t timer{};
  bool armed = false;
  bool retired = false;  // the thread has ended
};

}  // namespace weft::prof
