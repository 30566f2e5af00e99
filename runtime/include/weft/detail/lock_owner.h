#pragma once
#include <atomic>
#include <cstdint>

namespace weft::detail {

// Who holds a lock, for find_deadlocks(): an address on the owner's stack, which tells the task and
// costs a store, where asking for the task would cost a call. (An uncontended lock and unlock took
// 11 ns without and 13 ns with it on one machine: the locked instruction that follows waits for the
// store. Leaving out dropped() saved nothing.) A lock that embeds one
//   - has it as its first member and passes its own address as `waits_on` when a task parks for it
//     (reasons sync.Mutex.Lock, sync.RWMutex.*),
//   - calls taken() on the owner's stack right after it was acquired exclusively,
//   - calls dropped() right before it is released.
// Between those two steps it may briefly name nobody; it never names a former owner.
class lock_owner {
 public:
  void taken() noexcept { at_.store(stack_pointer(), std::memory_order_relaxed); }
  void dropped() noexcept { at_.store(0, std::memory_order_relaxed); }

  // 0: nobody, as far as is known.
  uintptr_t stack_address() const noexcept { return at_.load(std::memory_order_relaxed); }

 private:
  // Not __builtin_frame_address, which makes the caller set up a frame pointer.
  [[gnu::always_inline]] static uintptr_t stack_pointer() noexcept {
#if defined(__x86_64__)
    uintptr_t sp;
    asm("movq %%rsp, %0" : "=r"(sp));
    return sp;
#elif defined(__aarch64__)
    uintptr_t sp;
    asm("mov %0, sp" : "=r"(sp));
    return sp;
#else
    return reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
#endif
  }

  std::atomic<uintptr_t> at_{0};
};

}  // namespace weft::detail
