#pragma once
// A queue with two ends on the collected heap: a ring that grows.
#include <weft/gc/detail/forget.h>
#include <weft/gc/fields.h>
#include <weft/gc/gc.h>

#include <bit>
#include <compare>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace weft::gc {

// What std::deque is used for most: elements are added and removed at both ends in constant time
// (amortized), and reached by index. Unlike there, growing moves the elements. For elements the
// rules of gc::vector; functions that grow throw std::bad_alloc. Not thread-safe.
template <class T>
class deque {
  WEFT_GC_FIELDS(ring_)

  template <class D, class E>
  class position {
   public:
    using iterator_category = std::random_access_iterator_tag;
    using value_type = T;
    using difference_type = ptrdiff_t;
    using reference = E&;
    using pointer = E*;

    position() noexcept = default;
    position(D* of, size_t at) noexcept : of_(of), at_(at) {}
    operator position<const D, const E>() const noexcept { return {of_, at_}; }

    reference operator*() const noexcept { return (*of_)[at_]; }
    pointer operator->() const noexcept { return &(*of_)[at_]; }
    reference operator[](ptrdiff_t n) const noexcept { return *(*this + n); }
    position& operator+=(ptrdiff_t n) noexcept {
      at_ += static_cast<size_t>(n);
      return *this;
    }
    position& operator-=(ptrdiff_t n) noexcept { return *this += -n; }
    position& operator++() noexcept { return *this += 1; }
    position& operator--() noexcept { return *this += -1; }
    position operator++(int) noexcept { return {of_, at_++}; }
    position operator--(int) noexcept { return {of_, at_--}; }
    friend position operator+(position p, ptrdiff_t n) noexcept { return p += n; }
    friend position operator+(ptrdiff_t n, position p) noexcept { return p += n; }
    friend position operator-(position p, ptrdiff_t n) noexcept { return p -= n; }
    friend ptrdiff_t operator-(const position& a, const position& b) noexcept {
      return static_cast<ptrdiff_t>(a.at_ - b.at_);
    }
    friend bool operator==(const position& a, const position& b) noexcept { return a.at_ == b.at_; }
    friend auto operator<=>(const position& a, const position& b) noexcept {
      return a.at_ <=> b.at_;
    }

   private:
    D* of_ = nullptr;
    size_t at_ = 0;
  };

 public:
  using value_type = T;
  using size_type = size_t;
  using reference = T&;
  using const_reference = const T&;
  using iterator = position<deque, T>;
  using const_iterator = position<const deque, const T>;

  deque() noexcept = default;
  deque(std::initializer_list<T> values) {
    for (const T& value : values) push_back(value);
  }
  deque(const deque& other) {
    if (other.size_ != 0) grow(other.size_);
    for (const T& value : other) push_back(value);
  }
  deque(deque&& other) noexcept { take(other); }
  ~deque() = default;
  deque& operator=(const deque& other) {
    if (this != &other) {
      deque copy(other);
      take(copy);
    }
    return *this;
  }
  deque& operator=(deque&& other) noexcept {
    if (this != &other) take(other);
    return *this;
  }

  iterator begin() noexcept { return {this, 0}; }
  iterator end() noexcept { return {this, size_}; }
  const_iterator begin() const noexcept { return {this, 0}; }
  const_iterator end() const noexcept { return {this, size_}; }

  bool empty() const noexcept { return size_ == 0; }
  size_t size() const noexcept { return size_; }

  T& operator[](size_t i) noexcept { return *place(i); }
  const T& operator[](size_t i) const noexcept { return *place(i); }
  // Throws std::out_of_range.
  T& at(size_t i) {
    check(i);
    return *place(i);
  }
  const T& at(size_t i) const {
    check(i);
    return *place(i);
  }
  T& front() noexcept { return *place(0); }
  const T& front() const noexcept { return *place(0); }
  T& back() noexcept { return *place(size_ - 1); }
  const T& back() const noexcept { return *place(size_ - 1); }

  void push_back(T value) { emplace_back(std::move(value)); }
  void push_front(T value) { emplace_front(std::move(value)); }
  template <class... Args>
  T& emplace_back(Args&&... args) {
    T made(std::forward<Args>(args)...);  // of our own elements, perhaps, which may move
    if (size_ == capacity_) grow(size_ + 1);
    T* p = ::new (static_cast<void*>(place(size_))) T(std::move(made));
    ++size_;
    return *p;
  }
  template <class... Args>
  T& emplace_front(Args&&... args) {
    T made(std::forward<Args>(args)...);
    if (size_ == capacity_) grow(size_ + 1);
    head_ = (head_ - 1) & (capacity_ - 1);
    ++size_;
    return *::new (static_cast<void*>(place(0))) T(std::move(made));
  }
  void pop_back() noexcept {
    T* p = place(size_ - 1);
    detail::forget_elements(p, p + 1);
    --size_;
  }
  void pop_front() noexcept {
    T* p = place(0);
    detail::forget_elements(p, p + 1);
    head_ = (head_ + 1) & (capacity_ - 1);
    --size_;
  }
  // Gives the storage up.
  void clear() noexcept {
    ring_ = nullptr;
    head_ = size_ = capacity_ = 0;
  }

  friend bool operator==(const deque& a, const deque& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  T* place(size_t i) const noexcept { return ring_.get() + ((head_ + i) & (capacity_ - 1)); }

  void grow(size_t least) {
    detail::require_storable<T>();
    static_assert(std::is_trivially_destructible_v<T>,
                  "weft::gc: elements of collected containers must be trivially destructible. Use "
                  "weft::gc::string for strings, or weft::gc::ref to an object that holds it");
    const size_t n = std::bit_ceil(least < 8 ? size_t{8} : least);
    T* fresh = static_cast<T*>(detail::allocate_array(detail::type_of<T>(), n));
    for (size_t i = 0; i < size_; ++i)
      ::new (static_cast<void*>(fresh + i)) T(std::move_if_noexcept(*place(i)));
    ring_ = fresh;
    head_ = 0;
    capacity_ = n;
  }
  void take(deque& other) noexcept {
    ring_ = other.ring_;
    head_ = other.head_;
    size_ = other.size_;
    capacity_ = other.capacity_;
    other.clear();
  }
  void check(size_t i) const {
    if (i >= size_) throw std::out_of_range("weft::gc::deque::at: no such element");
  }

  ref<T> ring_;
  size_t head_ = 0;
  size_t size_ = 0;
  size_t capacity_ = 0;  // a power of two
};

}  // namespace weft::gc
