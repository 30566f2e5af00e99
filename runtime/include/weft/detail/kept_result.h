#pragma once
// A task's result between its end and join(): in ordinary memory, which the collector does not look
// at. Results that it must see are kept as roots.
#include <weft/gc/detail/heap.h>
#include <weft/gc/detail/slot.h>

#include <atomic>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

namespace weft::detail {

template <class T>
class kept_result {
 public:
  void set(T&& v) { value_.emplace(std::move(v)); }
  T take() { return std::move(*value_); }

 private:
  std::optional<T> value_;
};

template <>
class kept_result<void> {};

// A pointer, which may be one to a collected object or into it.
template <class T>
requires std::is_object_v<T> || std::is_void_v<T>
class kept_result<T*> {
 public:
  kept_result() = default;
  kept_result(const kept_result&) = delete;
  ~kept_result() {
    if (root_ != nullptr) gc::detail::delete_root(root_);
  }
  // Throws std::bad_alloc.
  void set(T* v) {
    value_ = v;
    void* p = const_cast<void*>(static_cast<const volatile void*>(v));
    if (gc::detail::is_heap_address(p)) root_ = gc::detail::new_root(p);
  }
  T* take() noexcept { return value_; }

 private:
  T* value_ = nullptr;
  std::atomic<void*>* root_ = nullptr;
};

// With references in it (gc/detail/refers.h).
template <class T>
requires gc::buffered_refs<T>
class kept_result<T> {
  static_assert(alignof(T) <= 16,
                "weft::spawn: a result with references into the collected heap must not be "
                "over-aligned");

 public:
  kept_result() = default;
  kept_result(const kept_result&) = delete;
  ~kept_result() {
    if (value_ != nullptr) value_->~T();
    if (room_ != nullptr) gc::detail::free_traced(room_);
  }
  // Throws std::bad_alloc.
  void set(T&& v) {
    room_ = gc::detail::allocate_traced(sizeof(T));
    value_ = ::new (room_) T(std::move(v));
  }
  T take() { return std::move(*value_); }

 private:
  void* room_ = nullptr;
  T* value_ = nullptr;
};

}  // namespace weft::detail
