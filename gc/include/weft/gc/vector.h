#pragma once
// std::vector on the collected heap.
//
//   struct page { weft::gc::vector<weft::gc::ref<page>> links; };
//
// Members of collected objects hold their elements with it: a std::vector would keep the references
// in malloc's memory, where nobody looks. On a stack or in a root it works too; in malloc's memory
// it does not (put it into an object that a root holds).
#include <weft/gc/detail/forget.h>
#include <weft/gc/fields.h>
#include <weft/gc/gc.h>

#include <algorithm>
#include <compare>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace weft::gc {

// The interface, complexity and invalidation of std::vector, with these differences. Elements are
// trivially destructible, so that the vector is too and nothing has to run when it dies: instead of
// std::string take gc::string, and hold other things by ref. Old storage stays valid as long as
// something points into it. Functions that grow throw std::bad_alloc. Not thread-safe, as std's.
template <class T>
class vector {
  WEFT_GC_FIELDS(data_)

 public:
  using value_type = T;
  using size_type = size_t;
  using difference_type = ptrdiff_t;
  using reference = T&;
  using const_reference = const T&;
  using pointer = T*;
  using const_pointer = const T*;
  using iterator = T*;
  using const_iterator = const T*;
  using reverse_iterator = std::reverse_iterator<iterator>;
  using const_reverse_iterator = std::reverse_iterator<const_iterator>;

  vector() noexcept = default;
  explicit vector(size_t n) { resize(n); }
  vector(size_t n, const T& value) { assign(n, value); }
  vector(std::initializer_list<T> values) { assign(values.begin(), values.end()); }
  template <std::input_iterator It>
  vector(It first, It last) {
    assign(first, last);
  }
  vector(const vector& other) { assign(other.begin(), other.end()); }
  vector(vector&& other) noexcept { swap(other); }
  ~vector() = default;
  vector& operator=(const vector& other) {
    if (this != &other) assign(other.begin(), other.end());
    return *this;
  }
  vector& operator=(vector&& other) noexcept {
    if (this != &other) {
      data_ = other.data_;
      size_ = other.size_;
      capacity_ = other.capacity_;
      other.let_go();
    }
    return *this;
  }
  vector& operator=(std::initializer_list<T> values) {
    assign(values.begin(), values.end());
    return *this;
  }

  iterator begin() noexcept { return data_.get(); }
  iterator end() noexcept { return data_.get() + size_; }
  const_iterator begin() const noexcept { return data_.get(); }
  const_iterator end() const noexcept { return data_.get() + size_; }
  const_iterator cbegin() const noexcept { return begin(); }
  const_iterator cend() const noexcept { return end(); }
  reverse_iterator rbegin() noexcept { return reverse_iterator(end()); }
  reverse_iterator rend() noexcept { return reverse_iterator(begin()); }
  const_reverse_iterator rbegin() const noexcept { return const_reverse_iterator(end()); }
  const_reverse_iterator rend() const noexcept { return const_reverse_iterator(begin()); }

  bool empty() const noexcept { return size_ == 0; }
  size_t size() const noexcept { return size_; }
  size_t capacity() const noexcept { return capacity_; }
  T* data() noexcept { return data_.get(); }
  const T* data() const noexcept { return data_.get(); }

  T& operator[](size_t i) noexcept { return data_.get()[i]; }
  const T& operator[](size_t i) const noexcept { return data_.get()[i]; }
  // Throws std::out_of_range.
  T& at(size_t i) {
    check(i);
    return (*this)[i];
  }
  const T& at(size_t i) const {
    check(i);
    return (*this)[i];
  }
  T& front() noexcept { return (*this)[0]; }
  const T& front() const noexcept { return (*this)[0]; }
  T& back() noexcept { return (*this)[size_ - 1]; }
  const T& back() const noexcept { return (*this)[size_ - 1]; }

  void reserve(size_t n) {
    if (n > capacity_) reallocate(n);
  }
  void shrink_to_fit() {
    if (size_ == 0)
      let_go();
    else if (size_ < capacity_)
      reallocate(size_);
  }
  // The storage stays, without references to what was in it.
  void clear() noexcept { drop_from(0); }
  void resize(size_t n) {
    if (n < size_) return drop_from(n);
    reserve_for(n);
    while (size_ < n) {
      ::new (static_cast<void*>(end())) T();
      ++size_;
    }
  }
  void resize(size_t n, const T& value) {
    if (n < size_) return drop_from(n);
    const T kept = value;  // may be one of ours
    reserve_for(n);
    while (size_ < n) emplace_back(kept);
  }
  void assign(size_t n, const T& value) {
    const T kept = value;
    clear();
    reserve(n);
    while (size_ < n) emplace_back(kept);
  }
  template <std::input_iterator It>
  void assign(It first, It last) {
    vector fresh;
    if constexpr (std::forward_iterator<It>)
      fresh.reserve(static_cast<size_t>(std::distance(first, last)));
    for (; first != last; ++first) fresh.emplace_back(*first);
    *this = std::move(fresh);
  }

  void push_back(const T& value) { emplace_back(value); }
  void push_back(T&& value) { emplace_back(std::move(value)); }
  template <class... Args>
  T& emplace_back(Args&&... args) {
    if (size_ == capacity_) {
      // The arguments may be our own elements: they stay where they are until the new one is made.
      const size_t n = grown(size_ + 1);
      T* fresh = allocate(n);
      T* made = ::new (static_cast<void*>(fresh + size_)) T(std::forward<Args>(args)...);
      move_to(fresh, n);
      ++size_;
      return *made;
    }
    T* made = ::new (static_cast<void*>(end())) T(std::forward<Args>(args)...);
    ++size_;
    return *made;
  }
  void pop_back() noexcept { drop_from(size_ - 1); }

  iterator insert(const_iterator where, T value) {
    const auto at = static_cast<size_t>(where - begin());
    emplace_back(std::move(value));
    std::rotate(begin() + at, end() - 1, end());
    return begin() + at;
  }
  template <std::input_iterator It>
  iterator insert(const_iterator where, It first, It last) {
    const auto at = static_cast<size_t>(where - begin());
    const size_t before = size_;
    for (; first != last; ++first) emplace_back(*first);
    std::rotate(begin() + at, begin() + before, end());
    return begin() + at;
  }
  template <class... Args>
  iterator emplace(const_iterator where, Args&&... args) {
    return insert(where, T(std::forward<Args>(args)...));
  }
  iterator erase(const_iterator where) { return erase(where, where + 1); }
  iterator erase(const_iterator first, const_iterator last) {
    iterator to = begin() + (first - begin());
    if (first != last)
      drop_from(static_cast<size_t>(std::move(begin() + (last - begin()), end(), to) - begin()));
    return to;
  }

  void swap(vector& other) noexcept {
    ref<T> kept = data_;
    data_ = other.data_;
    other.data_ = kept;
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }
  friend void swap(vector& a, vector& b) noexcept { a.swap(b); }

  friend bool operator==(const vector& a, const vector& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  static T* allocate(size_t n) {
    detail::require_storable<T>();
    static_assert(std::is_trivially_destructible_v<T>,
                  "weft::gc: elements of collected containers must be trivially destructible. Use "
                  "weft::gc::string for strings, or weft::gc::ref to an object that holds it");
    return static_cast<T*>(detail::allocate_array(detail::type_of<T>(), n));
  }
  size_t grown(size_t n) const { return std::max({n, capacity_ + capacity_ / 2, size_t{4}}); }
  void reserve_for(size_t n) {
    if (n > capacity_) reallocate(grown(n));
  }
  void reallocate(size_t n) { move_to(allocate(n), n); }
  void move_to(T* fresh, size_t n) {
    for (size_t i = 0; i < size_; ++i)
      ::new (static_cast<void*>(fresh + i)) T(std::move_if_noexcept((*this)[i]));
    data_ = fresh;
    capacity_ = n;
  }
  void drop_from(size_t n) noexcept {
    if (n < size_) detail::forget_elements(begin() + n, end());
    size_ = n;
  }
  void let_go() noexcept {
    data_ = nullptr;
    size_ = capacity_ = 0;
  }
  void check(size_t i) const {
    if (i >= size_) throw std::out_of_range("weft::gc::vector::at: no such element");
  }

  ref<T> data_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

// Removes what compares equal, or satisfies the predicate; returns how many there were.
template <class T, class U>
size_t erase(vector<T>& v, const U& value) {
  auto kept = std::remove(v.begin(), v.end(), value);
  const auto n = static_cast<size_t>(v.end() - kept);
  v.erase(kept, v.end());
  return n;
}
template <class T, class Predicate>
size_t erase_if(vector<T>& v, Predicate predicate) {
  auto kept = std::remove_if(v.begin(), v.end(), predicate);
  const auto n = static_cast<size_t>(v.end() - kept);
  v.erase(kept, v.end());
  return n;
}

}  // namespace weft::gc
