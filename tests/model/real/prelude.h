#pragma once
// Included before everything else in each source that knows weft: turns every std::atomic of the
// code under test into one whose operations are steps that the explorer schedules. The standard
// headers come first, so that the name is exchanged in weft's sources only.
#include <algorithm>
#include <any>
#include <array>
#include <atomic>
#include <barrier>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace weft::model {

enum class op : uint8_t { load, store, exchange, cas, add, fence, other };

// Called before the operation: other actors may run first.
void point(op what, const void* address) noexcept;
// After a load or a failed compare-and-swap of an actor that may be waiting for a change.
void observed(const void* address, uint64_t value, unsigned size) noexcept;

}  // namespace weft::model

namespace std {

// Sequentially consistent, because actors execute one at a time; orders are ignored.
template <class T>
class weft_model_atomic {
 public:
  constexpr weft_model_atomic() noexcept = default;
  constexpr weft_model_atomic(T v) noexcept : value_(v) {}
  weft_model_atomic(const weft_model_atomic&) = delete;
  weft_model_atomic& operator=(const weft_model_atomic&) = delete;

  T load(memory_order = memory_order_seq_cst) const noexcept {
    point(weft::model::op::load);
    observed();
    return value_;
  }
  operator T() const noexcept { return load(); }
  void store(T v, memory_order = memory_order_seq_cst) noexcept {
    point(weft::model::op::store);
    value_ = v;
  }
  T operator=(T v) noexcept {
    store(v);
    return v;
  }
  T exchange(T v, memory_order = memory_order_seq_cst) noexcept {
    point(weft::model::op::exchange);
    return std::exchange(value_, v);
  }
  bool compare_exchange_strong(T& expected, T desired, memory_order = memory_order_seq_cst,
                               memory_order = memory_order_seq_cst) noexcept {
    point(weft::model::op::cas);
    if (value_ == expected) {
      value_ = desired;
      return true;
    }
    observed();
    expected = value_;
    return false;
  }
  bool compare_exchange_weak(T& expected, T desired, memory_order = memory_order_seq_cst,
                             memory_order = memory_order_seq_cst) noexcept {
    return compare_exchange_strong(expected, desired);
  }
  T fetch_add(T n, memory_order = memory_order_seq_cst) noexcept {
    point(weft::model::op::add);
    return std::exchange(value_, static_cast<T>(value_ + n));
  }
  T fetch_sub(T n, memory_order = memory_order_seq_cst) noexcept {
    point(weft::model::op::add);
    return std::exchange(value_, static_cast<T>(value_ - n));
  }
  T fetch_and(T n, memory_order = memory_order_seq_cst) noexcept {
    point(weft::model::op::add);
    return std::exchange(value_, static_cast<T>(value_ & n));
  }
  T fetch_or(T n, memory_order = memory_order_seq_cst) noexcept {
    point(weft::model::op::add);
    return std::exchange(value_, static_cast<T>(value_ | n));
  }
  T operator++(int) noexcept { return fetch_add(1); }
  T operator++() noexcept { return fetch_add(1) + 1; }

  // What is there now, without a step.
  T peek() const noexcept { return value_; }

 private:
  void point(weft::model::op what) const noexcept { weft::model::point(what, &value_); }
  void observed() const noexcept {
    uint64_t bits = 0;
    static_assert(sizeof(T) <= sizeof bits);
    std::memcpy(&bits, &value_, sizeof(T));
    weft::model::observed(&value_, bits, sizeof(T));
  }
  T value_{};
};

inline void weft_model_fence(memory_order) noexcept {
  weft::model::point(weft::model::op::fence, nullptr);
}

}  // namespace std

#define atomic weft_model_atomic
#define atomic_thread_fence weft_model_fence
