#pragma once
// What the collected heap knows of a type. Not for programs.
#include <weft/gc/detail/layout.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <typeinfo>

namespace weft::gc::detail {

// Constant-initialized, so that make() needs no guard to reach it. Which words hold references is
// found out at run time, by describe(), before the first object of the type is made.
struct type_info {
  const std::type_info* type;  // its name is the identity across shared objects
  uint32_t size, align;        // of one object, or element of an array
  uint64_t* mask = nullptr;    // bit i: word i may hold a reference; null: no references
  uint32_t mask_words = 0;     // 64-bit words of the mask
  bool conservative = false;   // scan every word (closures, coroutine frames)
  void (*destroy)(void* object) noexcept = nullptr;       // null: nothing runs when it dies
  void (*describe)(const type_info&) noexcept = nullptr;  // null: nothing to find out
  mutable std::atomic<bool> described{false};
  mutable std::atomic<uint32_t> id{0};  // 0: not yet registered with the heap

  const char* mangled() const noexcept { return type->name(); }
};

// Stores the mask that describe() found, once.
void set_mask(const type_info& t, const uint64_t* found) noexcept;

inline void ensure_described(const type_info& t) noexcept {
  if (t.describe != nullptr && !t.described.load(std::memory_order_acquire)) t.describe(t);
}

template <class T>
void describe_type(const type_info& t) noexcept {
  // An object that nobody constructs: only addresses of its members are taken.
  alignas(T) static std::byte stand_in[sizeof(T)];
  uint64_t mask[mask_words_of<T>] = {};
  layout_builder builder(stand_in, mask);
  builder.describe(*reinterpret_cast<T*>(stand_in));
  set_mask(t, mask);
}

template <class T>
struct type_storage {
  static constexpr bool refers = trace_kind_of<T>() != trace_kind::plain;
  static inline constinit uint64_t mask[mask_words_of<T>] = {};
  static inline constinit type_info info{
      .type = &typeid(T),
      .size = sizeof(T),
      .align = alignof(T),
      .mask = refers ? mask : nullptr,
      .mask_words = refers ? mask_words_of<T> : 0,
      .destroy = std::is_trivially_destructible_v<T>
                     ? nullptr
                     : +[](void* p) noexcept { std::destroy_at(static_cast<T*>(p)); },
      .describe = refers ? &describe_type<T> : nullptr,
  };
};

// One per T. A T that is not storable does not compile, and the message says why.
template <class T>
const type_info& type_of() noexcept {
  require_storable<T>();
  return type_storage<std::remove_cv_t<T>>::info;
}

}  // namespace weft::gc::detail
