#pragma once
// std containers of references, outside the collected heap.
//
//   std::vector<weft::gc::ref<node>> found;   // a local, or a member of an ordinary object
//
// Their elements are roots: std::allocator<ref<T>>, which std::vector and std::deque allocate them
// with, gives memory that the collector scans. That costs a root for each allocation. Members of
// collected objects are gc::vector and the like instead, because a root in an object that refers
// back to it keeps both for ever. It does not help std::map, std::list and vectors of classes that
// have a ref among others: their nodes are allocated as such.
#include <weft/gc/detail/heap.h>

#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>

namespace weft::gc {

template <class T>
class ref;

namespace detail {

// The requirements of an allocator, with memory whose every word is scanned.
template <class Element>
struct traced_allocator {
  using value_type = Element;
  using size_type = size_t;
  using difference_type = ptrdiff_t;
  using propagate_on_container_move_assignment = std::true_type;
  using is_always_equal = std::true_type;

  // Throws std::bad_array_new_length, and std::bad_alloc when a collection has not made room.
  [[nodiscard]] Element* allocate(size_t n) {
    if (n > std::numeric_limits<size_t>::max() / 2 / sizeof(Element))
      throw std::bad_array_new_length();
    return static_cast<Element*>(allocate_traced(n * sizeof(Element)));
  }
  void deallocate(Element* p, size_t) noexcept { free_traced(p); }
};

}  // namespace detail
}  // namespace weft::gc

template <class T>
struct std::allocator<weft::gc::ref<T>> : weft::gc::detail::traced_allocator<weft::gc::ref<T>> {
  constexpr allocator() noexcept = default;
  template <class U>
  constexpr allocator(const allocator<U>&) noexcept {}
  friend constexpr bool operator==(const allocator&, const allocator&) noexcept { return true; }
};
