#pragma once
// What the collected heap knows of a type. Not for programs.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <typeinfo>

namespace weft::gc::detail {

struct field_name {
  uint32_t offset;
  const char* name;
};

struct type_info {
  const char* mangled;                  // typeid(T).name(): identity across shared objects
  uint32_t size, align;                 // of one object, or element of an array
  const uint64_t* mask = nullptr;       // bit i: word i may hold a reference; null: no references
  uint32_t mask_words = 0;              // 64-bit words of the mask
  bool conservative = false;            // scan every word (closures, coroutine frames)
  bool weak_words = false;              // mask_weak is not null
  const uint64_t* mask_weak = nullptr;  // words that hold weak cells
  void (*destroy)(void* object) noexcept = nullptr;  // null: nothing runs when it dies
  const field_name* fields = nullptr;
  uint32_t field_count = 0;
  mutable std::atomic<uint32_t> id{0};  // 0: not yet registered with the heap
};

// One per T. Every word is taken for a reference unless T cannot hold one.
template <class T>
const type_info& type_of() noexcept {
  static const type_info info{typeid(T).name(),
                              sizeof(T),
                              alignof(T),
                              nullptr,
                              0,
                              !std::is_arithmetic_v<T> && !std::is_enum_v<T>,
                              false,
                              nullptr,
                              std::is_trivially_destructible_v<T>
                                  ? nullptr
                                  : +[](void* p) noexcept { static_cast<T*>(p)->~T(); },
                              nullptr,
                              0};
  return info;
}

}  // namespace weft::gc::detail
