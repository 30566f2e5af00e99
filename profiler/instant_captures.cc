// One instant's captures.
//
// Who captures   The profile's own thread, in the order of records; a thread that stops for the
//                instant, its own task; and a thread that is about to run a task which has not been
//                captured yet, that task (scheduler/instant.h).
// Room           All but the first must not allocate, so memory is reserved beforehand: address
//                space only, which costs something where it is written. A thread takes it in
//                blocks and fills them without a lock. A capture takes what its frames need.
// No room        A reservation that was refused, or stacks deeper than usual: the frames that do
//                not fit are left out, and in the end a task is counted without a stack.
#include "profiler/instant_captures.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <semaphore>

#include "base/clock.h"

namespace weft::prof {
namespace {

using sched::instant_note;
using sched::task;
using sched::thread;

constexpr size_t block_bytes = 64 * 1024;
constexpr size_t own_block_bytes = 1024 * 1024;
constexpr size_t reserve_least = 4 * 1024 * 1024;
constexpr size_t reserve_per_record = 1024;
// A stop that does not come about holds up everybody for its patience.
constexpr int64_t patiences_ns[] = {1'000'000, 2'000'000, 4'000'000, 8'000'000};

void* const lost_capture = reinterpret_cast<void*>(2);

struct kept_capture {
  kept_capture* next;
  raw_capture raw;
};
// The captures follow their head, so that a raw_capture leads back to it.
kept_capture* kept(raw_capture& raw) noexcept {
  return reinterpret_cast<kept_capture*>(reinterpret_cast<char*>(&raw) -
                                         offsetof(kept_capture, raw));
}

// Of the instant that is open; written by its owner while no other thread looks.
std::binary_semaphore g_one_instant{1};
char* g_region = nullptr;
size_t g_region_bytes = 0;
size_t g_depth = 0;
uint64_t g_number = 0;
std::atomic<size_t> g_used{0};
std::atomic<kept_capture*> g_kept{nullptr};

bool reserve() noexcept {
  size_t bytes = reserve_least + sched::task_record_count() * reserve_per_record;
  for (; bytes >= reserve_least; bytes /= 4) {
    void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) continue;
    g_region = static_cast<char*>(p);
    g_region_bytes = bytes;
    g_used.store(0, std::memory_order_relaxed);
    return true;
  }
  return false;
}

bool take_block(sched::capture_room& room, size_t bytes) noexcept {
  size_t at = g_used.load(std::memory_order_relaxed);
  do {
    if (at + bytes > g_region_bytes) return false;
  } while (!g_used.compare_exchange_weak(at, at + bytes, std::memory_order_relaxed));
  room = {g_number, g_region + at, g_region + at + bytes};
  return true;
}

size_t name_bytes(const task& t) noexcept {
  return t.name == nullptr ? 1 : ::strnlen(t.name, max_captured_name - 1) + 1;
}

constexpr size_t aligned(size_t n) noexcept { return (n + 7) & ~size_t{7}; }

// Null: not even room for a capture without frames.
raw_capture* begin(sched::capture_room& room, size_t name) noexcept {
  const size_t head = sizeof(kept_capture) + aligned(name);
  const auto space = static_cast<size_t>(room.end - room.at);
  if (space < head) return nullptr;
  auto* k = new (room.at)
      kept_capture{nullptr, raw_capture(room.at + sizeof(kept_capture),
                                        reinterpret_cast<uintptr_t*>(room.at + head),
                                        std::min(g_depth, (space - head) / sizeof(uintptr_t)))};
  return &k->raw;
}

void end(sched::capture_room& room, raw_capture& raw) noexcept {
  room.at = reinterpret_cast<char*>(raw.pcs + raw.depth);
  kept_capture* k = kept(raw);
  k->next = g_kept.load(std::memory_order_relaxed);
  while (!g_kept.compare_exchange_weak(k->next, k, std::memory_order_release,
                                       std::memory_order_relaxed)) {
  }
}

// For threads that must not allocate. May give less room than wanted, or null.
raw_capture* begin_on(thread& th, const task& t) noexcept {
  const size_t name = name_bytes(t);
  const size_t most = sizeof(kept_capture) + aligned(name) + g_depth * sizeof(uintptr_t);
  sched::capture_room& room = th.room;
  if (room.instant != g_number) room = {g_number, nullptr, nullptr};
  if (static_cast<size_t>(room.end - room.at) < most) take_block(room, std::max(block_bytes, most));
  return begin(room, name);
}

void capture_executing(thread& th, task& t, void* ucontext, instant_note& note) noexcept {
  raw_capture* raw = begin_on(th, t);
  if (raw == nullptr) {
    note.capture.store(lost_capture, std::memory_order_release);
    return;
  }
  if (ucontext != nullptr) {
    const regs from = regs_from_ucontext(ucontext);
    copy_executing(*raw, th, t, &from);
  } else {
    copy_executing(*raw, th, t, nullptr);
  }
  end(th.room, *raw);
  note.capture.store(raw, std::memory_order_release);
}

void capture_parked(thread& th, task& t, instant_note& note) noexcept {
  uint32_t word;
  while (!sched::claim(t, word)) ::sched_yield();
  if (note.capture.load(std::memory_order_acquire) == nullptr) {
    raw_capture* raw = begin_on(th, t);
    if (raw != nullptr) {
      copy_claimed(*raw, t, word, &note);
      end(th.room, *raw);
    }
    note.capture.store(raw != nullptr ? raw : lost_capture, std::memory_order_release);
  }
  sched::unclaim(t);
}

void drop_everything() noexcept {
  for (kept_capture* k = g_kept.exchange(nullptr, std::memory_order_acquire); k != nullptr;
       k = k->next)
    drop_captured_labels(k->raw);
  if (g_region != nullptr) ::munmap(g_region, g_region_bytes);
  g_region = nullptr;
}

}  // namespace

instant_captures::instant_captures(size_t depth) {
  g_one_instant.acquire();
  g_depth = depth;
  for (const int64_t patience : patiences_ns) {
    ++g_number;
    if (!reserve()) return;
    open_ = sched::open_instant({capture_executing, capture_parked}, patience, at_ns_);
    if (open_) return;
    drop_everything();
  }
}

instant_captures::~instant_captures() {
  close();
  drop_everything();
  for (void* p : more_) ::munmap(p, own_block_bytes);
  g_one_instant.release();
}

void instant_captures::close() noexcept {
  if (open_) sched::close_instant();
  open_ = false;
}

raw_capture& instant_captures::next() {
  // Without a claim the name cannot be looked at, so there is room for the longest.
  const size_t most = sizeof(kept_capture) + max_captured_name + g_depth * sizeof(uintptr_t);
  if (static_cast<size_t>(mine_.end - mine_.at) < most && !take_block(mine_, own_block_bytes)) {
    void* p = ::mmap(nullptr, own_block_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                     -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    more_.push_back(p);
    mine_ = {g_number, static_cast<char*>(p), static_cast<char*>(p) + own_block_bytes};
  }
  return *begin(mine_, max_captured_name);
}

void instant_captures::keep(raw_capture& raw) noexcept {
  auto* closer = reinterpret_cast<uintptr_t*>(raw.name + aligned(std::strlen(raw.name) + 1));
  std::memmove(closer, raw.pcs, raw.depth * sizeof *closer);
  raw.pcs = closer;
  end(mine_, raw);
}

raw_capture* instant_captures::found(const instant_note& note, bool& lost) noexcept {
  void* c = note.capture.load(std::memory_order_acquire);
  lost = c == lost_capture;
  return c == nullptr || c == sched::instant_settled || lost ? nullptr
                                                             : static_cast<raw_capture*>(c);
}

}  // namespace weft::prof
