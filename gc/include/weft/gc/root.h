#pragma once
// References from outside the collected heap: from members of ordinary objects, and from globals.
//
//   class session {                       // lives in malloc memory
//     weft::gc::root<node> current_;
//   };
//   constinit weft::gc::global<config> the_config;
//
// On stacks of tasks neither is needed: raw pointers there are found.
#include <weft/gc/detail/heap.h>
#include <weft/gc/ref.h>

#include <atomic>
#include <cstddef>
#include <utility>

namespace weft::gc {

// Keeps an object alive. A slot in a table of the collector's holds the reference, so that a root
// may live anywhere, and be moved. 5 ns to make or destroy. Different roots may be used by
// different threads; one root is used by one at a time, as an ordinary pointer.
template <class T>
class root {
 public:
  using element_type = T;

  root() noexcept = default;
  root(std::nullptr_t) noexcept {}
  // Throws std::bad_alloc.
  explicit(false) root(T* p) : slot_(p != nullptr ? detail::new_root(untyped(p)) : nullptr) {}
  root(const ref<T>& r) : root(r.get()) {}
  root(const root& other) : root(other.get()) {}
  root(root&& other) noexcept : slot_(std::exchange(other.slot_, nullptr)) {}
  ~root() {
    if (slot_ != nullptr) detail::delete_root(slot_);
  }
  root& operator=(const root& other) {
    reset(other.get());
    return *this;
  }
  root& operator=(root&& other) noexcept {
    std::swap(slot_, other.slot_);
    return *this;
  }
  root& operator=(T* p) {
    reset(p);
    return *this;
  }

  T* get() const noexcept {
    return slot_ != nullptr ? static_cast<T*>(slot_->load(std::memory_order_relaxed)) : nullptr;
  }
  operator T*() const noexcept { return get(); }
  T* operator->() const noexcept { return get(); }
  T& operator*() const noexcept { return *get(); }

  // Refers to p from now on. Throws std::bad_alloc.
  void reset(T* p = nullptr) {
    if (slot_ == nullptr) {
      if (p != nullptr) slot_ = detail::new_root(untyped(p));
      return;
    }
    void* old = slot_->load(std::memory_order_relaxed);
    slot_->store(untyped(p), std::memory_order_release);
    detail::overwritten(old);
  }

 private:
  static void* untyped(T* p) noexcept {
    return const_cast<void*>(static_cast<const volatile void*>(p));
  }
  std::atomic<void*>* slot_ = nullptr;
};

// A variable of static storage duration that keeps an object alive; one word and a flag, constant-
// initialized. Loads and stores are atomic (acquire, release).
template <class T>
class global {
 public:
  constexpr global() noexcept = default;
  global(const global&) = delete;
  global& operator=(const global&) = delete;

  T* get() const noexcept { return static_cast<T*>(word_.load(std::memory_order_acquire)); }
  operator T*() const noexcept { return get(); }
  T* operator->() const noexcept { return get(); }
  T& operator*() const noexcept { return *get(); }
  void operator=(T* p) noexcept {
    if (!added_.load(std::memory_order_acquire)) detail::add_global(&word_, &added_);
    void* old = word_.exchange(const_cast<void*>(static_cast<const volatile void*>(p)),
                               std::memory_order_acq_rel);
    detail::overwritten(old);
  }

 private:
  std::atomic<void*> word_{nullptr};
  std::atomic<bool> added_{false};
};

}  // namespace weft::gc
