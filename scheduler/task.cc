#include "scheduler/task.h"

#include <mutex>
#include <new>

namespace weft::sched {
namespace {

constexpr size_t chunk_records = 256;
constexpr size_t max_chunks = size_t{1} << 18;  // 64M tasks

std::atomic<task*> g_chunks[max_chunks];
std::atomic<size_t> g_chunk_count{0};
base::spinlock g_lock;
task* g_free = nullptr;

bool add_chunk() noexcept {
  size_t n = g_chunk_count.load(std::memory_order_relaxed);
  if (n == max_chunks)
    base::fatalf("more than %zu tasks exist at once", max_chunks * chunk_records);
  auto* chunk = new (std::nothrow) task[chunk_records];
  if (chunk == nullptr) return false;
  for (size_t i = chunk_records; i-- > 0;) {
    chunk[i].next = g_free;
    g_free = &chunk[i];
  }
  g_chunks[n].store(chunk, std::memory_order_relaxed);
  // [ord task.chunks] publishes the chunk to walkers
  g_chunk_count.store(n + 1, std::memory_order_release);
  return true;
}

}  // namespace

void wait_for_claim(task& t, uint32_t from_word, uint32_t to_word) noexcept {
  for (int spins = 0;; ++spins) {
    uint32_t want = from_word;
    if (t.state.compare_exchange_weak(want, to_word, std::memory_order_acq_rel,
                                      std::memory_order_relaxed))
      return;
    WEFT_CHECK((want & ~claim_bit) == from_word);
    if (spins % 64 == 63)
      ::sched_yield();
    else
      base::cpu_relax();
  }
}

bool claim(task& t, uint32_t& word_when_claimed) noexcept {
  uint32_t word = t.state.load(std::memory_order_relaxed);
  for (;;) {
    task_status s = status_of(word);
    if ((s != task_status::runnable && s != task_status::waiting) || (word & claim_bit) != 0)
      return false;
    // [ord task.state] acquire: the saved context was written before the status became claimable.
    if (t.state.compare_exchange_weak(word, word | claim_bit, std::memory_order_acquire,
                                      std::memory_order_relaxed)) {
      word_when_claimed = word;
      return true;
    }
  }
}

void unclaim(task& t) noexcept {
  uint32_t old = t.state.fetch_and(~claim_bit, std::memory_order_release);
  WEFT_CHECK((old & claim_bit) != 0);
}

task* allocate_tasks(int max, int& count) noexcept {
  std::lock_guard hold(g_lock);
  if (g_free == nullptr && !add_chunk()) return nullptr;
  task* first = g_free;
  task* last = first;
  count = 1;
  while (count < max && last->next != nullptr) {
    last = last->next;
    ++count;
  }
  g_free = last->next;
  last->next = nullptr;
  return first;
}

void free_tasks(task* first) noexcept {
  if (first == nullptr) return;
  task* last = first;
  while (last->next != nullptr) last = last->next;
  std::lock_guard hold(g_lock);
  last->next = g_free;
  g_free = first;
}

const task_table g_task_table{g_chunks, &g_chunk_count, chunk_records};

size_t task_record_count() noexcept {
  return g_chunk_count.load(std::memory_order_acquire) * chunk_records;
}

task& task_record(size_t index) noexcept {
  return g_chunks[index / chunk_records].load(std::memory_order_relaxed)[index % chunk_records];
}

}  // namespace weft::sched
