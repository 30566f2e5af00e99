#pragma once
#include <cstdint>

namespace weft::detail {

// Who holds a lock, for find_deadlocks(): the page of the owner's stack, which tells the task and
// costs a move, where asking for the task would cost a call. A lock keeps it in the upper bits of
// the word that says that it is held, so that taking and giving up are still one step each, and the
// owner is never out of date. (In a word of its own it took two stores, 2 ns of 11 for an
// uncontended pair: each locked instruction waits for the store before it.)
//
// A lock that takes part
//   - has a weft::mutex as its first member, held by whoever holds the lock exclusively,
//   - passes its own address as `waits_on` when a task parks until that owner acts (reasons
//     sync.Mutex.Lock, sync.RWMutex.*), and another address when it parks for anything else.
struct lock_owner {
  // Of the word: 35 bits for the number of a page. They hold addresses of 47 bits; of longer ones
  // the low 47.
  static constexpr int lowest_bit = 29;
  static constexpr uint64_t bits = ~uint64_t{0} << lowest_bit;
  static constexpr uintptr_t address_bits = (uintptr_t{1} << 47) - 1;
  static constexpr uintptr_t page_size = 4096;

  // The calling task's, as bits of the word.
  [[gnu::always_inline]] static uint64_t self() noexcept {
    return uint64_t{stack_pointer()} / page_size << lowest_bit;
  }
  // The first address of the owner's page, `address_bits` of it; 0: nobody.
  static uintptr_t page(uint64_t word) noexcept {
    return static_cast<uintptr_t>(word >> lowest_bit) * page_size;
  }

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
};

}  // namespace weft::detail
