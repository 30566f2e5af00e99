#pragma once
// How the locks tell what happens to them, for WEFT_DEBUG=lockorder. Without it no lock pays: the
// short ways of lock() ask for a schedule point anyhow, which sends all of them the long way, and
// watched_bit in a mutex's word keeps unlock() from its short way.
#include <atomic>

namespace weft::detail {

// Of a mutex or shared_mutex, by its address. All outside critical sections.
struct lock_watch {
  void (*found)(const void* lock) noexcept;     // a new one at this address
  void (*wanted)(const void* lock) noexcept;    // the caller will wait until it has it
  void (*acquired)(const void* lock) noexcept;  // by the caller, as one of its holders
  void (*released)(const void* lock) noexcept;  // before others can have it
};

// Written once, before the first task; null: nobody watches.
extern std::atomic<const lock_watch*> g_lock_watch;
inline const lock_watch* watching_locks() noexcept {
  return g_lock_watch.load(std::memory_order_acquire);
}

// Reads WEFT_DEBUG. Once, when the process's first run() begins.
void start_lock_order() noexcept;

}  // namespace weft::detail
