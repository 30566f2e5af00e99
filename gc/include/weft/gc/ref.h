#pragma once
// References from objects of the collected heap to others.
//
//   struct node {
//     weft::gc::ref<node> next;
//     int value = 0;
//   };
//   node* list = nullptr;
//   for (int i = 0; i < 10; ++i) {
//     node* n = weft::gc::make<node>();
//     n->next = list;
//     list = n;
//   }
//
// Raw pointers are for locals, parameters and results; a member that keeps an object alive is a
// ref. A local variable that other tasks overwrite must be one too.
#include <weft/gc/allocator.h>
#include <weft/gc/detail/heap.h>
#include <weft/gc/detail/refers.h>
#include <weft/gc/detail/slot.h>

#include <atomic>
#include <cstddef>
#include <type_traits>

namespace weft::gc {

// One word that refers to a T, or to something inside one, or to nothing. Loads and stores are
// single and untorn; a store makes the object visible with what was written before it (release), a
// load is relaxed: two tasks that hand objects to each other through a ref need what they would
// need for a pointer, or an atomic_ref. Its destructor does nothing.
template <class T>
class ref {
 public:
  using weft_gc_slot = detail::strong_slot;
  using element_type = T;

  constexpr ref() noexcept : ref(nullptr) {}
  constexpr ref(std::nullptr_t) noexcept {
    if (std::is_constant_evaluated())
      word_ = nullptr;
    else
      initialize(nullptr);
  }
  ref(T* p) noexcept { initialize(p); }
  ref(const ref& other) noexcept { initialize(other.get()); }
  template <class U>
  requires std::is_convertible_v<U*, T*> ref(const ref<U>& other)
  noexcept { initialize(other.get()); }
  ~ref() = default;

  ref& operator=(T* p) noexcept {
    store(p);
    return *this;
  }
  ref& operator=(std::nullptr_t) noexcept {
    store(nullptr);
    return *this;
  }
  ref& operator=(const ref& other) noexcept {
    store(other.get());
    return *this;
  }
  template <class U>
  requires std::is_convertible_v<U*, T*> ref& operator=(const ref<U>& other) noexcept {
    store(other.get());
    return *this;
  }

  T* get() const noexcept { return __atomic_load_n(&word_, __ATOMIC_RELAXED); }
  operator T*() const noexcept { return get(); }
  T* operator->() const noexcept { return get(); }
  template <class U = T>
  requires(!std::is_void_v<U>) U& operator*() const noexcept { return *get(); }

 private:
  void store(T* p) noexcept {
    detail::watch_place<T>(this);
    if (detail::stressed_store(&word_, p)) return;
    T* old = get();
    __atomic_store_n(&word_, p, __ATOMIC_RELEASE);
    detail::overwritten(old, p);
  }
  // Placement new over an old reference is an overwrite that no assignment sees: while marking is
  // on, what was there before is read, whatever it is. Fresh memory holds null, or no reference.
  void initialize(T* p) noexcept {
    detail::watch_place<T>(this);
    void* before = nullptr;
    if (detail::marking.load(std::memory_order_relaxed) != 0) [[unlikely]]
      before = detail::made_while_marking(this, p);
    __atomic_store_n(&word_, p, __ATOMIC_RELEASE);
    if (before != nullptr) [[unlikely]]
      detail::overwritten(before);
  }

  T* word_;
};

template <class T, class U>
bool operator==(const ref<T>& a, const ref<U>& b) noexcept {
  return a.get() == b.get();
}
template <class T>
bool operator==(const ref<T>& a, std::nullptr_t) noexcept {
  return a.get() == nullptr;
}
template <class T, class U>
bool operator==(const ref<T>& a, U* b) noexcept {
  return a.get() == b;
}

// A ref that several tasks exchange: all operations are atomic, with the orders of std::atomic.
template <class T>
class atomic_ref {
 public:
  using weft_gc_slot = detail::strong_slot;
  using element_type = T;

  constexpr atomic_ref() noexcept = default;
  constexpr atomic_ref(std::nullptr_t) noexcept {}
  atomic_ref(T* p) noexcept { store(p); }
  atomic_ref(const atomic_ref&) = delete;
  atomic_ref& operator=(const atomic_ref&) = delete;

  T* load(std::memory_order order = std::memory_order_seq_cst) const noexcept {
    return word_.load(order);
  }
  operator T*() const noexcept { return load(); }
  T* operator->() const noexcept { return load(); }

  // An exchange, because what is shaded must be what was overwritten, not what was read before.
  void store(T* p, std::memory_order order = std::memory_order_seq_cst) noexcept {
    exchange(p, order);
  }
  T* operator=(T* p) noexcept {
    store(p);
    return p;
  }
  // Returns what was there before.
  T* exchange(T* p, std::memory_order order = std::memory_order_seq_cst) noexcept {
    detail::watch_place<T>(this);
    T* old = word_.exchange(p, order);
    detail::overwritten(old, p);
    return old;
  }
  bool compare_exchange_strong(T*& expected, T* desired,
                               std::memory_order order = std::memory_order_seq_cst) noexcept {
    detail::watch_place<T>(this);
    if (!word_.compare_exchange_strong(expected, desired, order)) return false;
    detail::overwritten(expected, desired);
    return true;
  }
  bool compare_exchange_weak(T*& expected, T* desired,
                             std::memory_order order = std::memory_order_seq_cst) noexcept {
    detail::watch_place<T>(this);
    if (!word_.compare_exchange_weak(expected, desired, order)) return false;
    detail::overwritten(expected, desired);
    return true;
  }

 private:
  std::atomic<T*> word_{nullptr};
};

}  // namespace weft::gc
