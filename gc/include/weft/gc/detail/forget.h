#pragma once
// Clearing the references of an object that stays where it is: of a container's element that is
// removed. Not for programs.
#include <weft/gc/detail/heap.h>
#include <weft/gc/detail/type_info.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace weft::gc::detail {

// Each word is overwritten as an assignment of null would, so concurrent marking is told. `t` has
// been registered: there is an object or array of it.
inline void forget(void* object, const type_info& t) noexcept {
  if (t.mask == nullptr) return;
  auto* words = static_cast<std::atomic<void*>*>(object);
  for (uint32_t m = 0; m < t.mask_words; ++m) {
    for (uint64_t bits = t.mask[m]; bits != 0; bits &= bits - 1) {
      auto& word = words[m * 64 + static_cast<uint32_t>(__builtin_ctzll(bits))];
      void* old = word.load(std::memory_order_relaxed);
      if (old == nullptr) continue;
      word.store(nullptr, std::memory_order_release);
      overwritten(old);
    }
  }
}

template <class T>
inline void forget_elements(T* first, T* last) noexcept {
  const type_info& t = type_of<T>();
  if (t.mask == nullptr) return;
  for (; first != last; ++first) forget(first, t);
}

}  // namespace weft::gc::detail
