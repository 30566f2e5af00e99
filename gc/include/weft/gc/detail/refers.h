#pragma once
// Whether values of a type hold references to collected objects, as far as it can be told, and
// where. For channels, results of tasks, task-locals and values of contexts, which take any type
// but must not hide a reference in memory that the collector does not look at. Not for programs.
#include <weft/gc/detail/layout.h>
#include <weft/gc/detail/slot.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace weft::gc::detail {

enum class references : uint8_t {
  none,    // or nobody can tell: raw pointers, std::function
  inside,  // in words of the value itself
  behind,  // in memory of malloc, which the value owns
};

constexpr references worse(references a, references b) { return a < b ? b : a; }

template <class T>
constexpr references references_of();

template <class... Fields>
constexpr references references_of_fields(field_list<Fields...>) {
  references r = references::none;
  ((r = worse(r, references_of<typename Fields::type>())), ...);
  return r;
}
template <class... Bases>
constexpr references references_of_bases(base_list<Bases...>) {
  references r = references::none;
  ((r = worse(r, references_of<Bases>())), ...);
  return r;
}
template <template <class...> class C, class... Args>
constexpr references references_of_arguments(const C<Args...>*) {
  references r = references::none;
  ((r = worse(r, references_of<Args>())), ...);
  return r;
}
template <class T, size_t... I>
constexpr references references_of_elements(std::index_sequence<I...>) {
  references r = references::none;
  ((r = worse(r, references_of<boost::pfr::tuple_element_t<I, T>>())), ...);
  return r;
}

// Elements of a container of std. Those that are references lie in traced memory if they are
// allocated as such (allocator.h), nodes that have one as a member do not.
template <class C>
constexpr references references_behind() {
  using element = typename C::value_type;
  if constexpr (is_a<std::vector, C> || is_a<std::deque, C>) {
    if constexpr (requires { typename element::weft_gc_slot; }) return references::none;
  }
  return references_of<element>() == references::none ? references::none : references::behind;
}

template <class T>
constexpr references references_of() {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_void_v<U> || std::is_function_v<U> || !is_complete<U>) {
    return references::none;
  } else {
    constexpr trace_kind k = trace_kind_of<U>();
    if constexpr (k == trace_kind::slot || k == trace_kind::traced)
      return references::inside;
    else if constexpr (k == trace_kind::listed)
      return worse(references_of_fields(layout_access::fields<U>()),
                   references_of_bases(layout_access::bases<U>()));
    else if constexpr (k == trace_kind::array)
      return references_of<typename element_of<U>::type>();
    else if constexpr (k == trace_kind::optional)
      return references_of<typename U::value_type>();
    else if constexpr (k == trace_kind::pair || k == trace_kind::variant)
      return references_of_arguments(static_cast<const U*>(nullptr));
    else if constexpr (k == trace_kind::aggregate)
      return references_of_elements<U>(std::make_index_sequence<boost::pfr::tuple_size_v<U>>{});
    else if constexpr (k == trace_kind::container)
      return references_behind<U>();
    else if constexpr (k == trace_kind::owner)
      return references_of<std::remove_extent_t<typename U::element_type>>() == references::none
                 ? references::none
                 : references::behind;
    else
      return references::none;
  }
}

template <class T>
concept refers = references_of<T>()
!= references::none;

template <class T>
constexpr bool buffer_is_traced() {
  static_assert(
      references_of<T>() != references::behind,
      "weft::chan<T>, or spawn() of a function that returns T: T owns ordinary memory with "
      "references into the collected heap, which keep nothing alive. Use weft::gc::vector, "
      "weft::gc::map or weft::gc::ref<T> "
      "in it instead of what std has");
  return true;
}

}  // namespace weft::gc::detail

namespace weft::gc {

template <class T>
requires detail::refers<T>
inline constexpr bool buffered_refs<T> = detail::buffer_is_traced<T>();

template <class T>
requires detail::refers<T>
inline constexpr bool detail::needs_root<T> = true;

}  // namespace weft::gc
