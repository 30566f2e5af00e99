#pragma once
// What an aggregate consists of, as far as it must be known before Boost.PFR is asked to take it
// apart: PFR's own errors about arrays, bases and unions do not say what is wrong. Not for
// programs.
//
// Everything here is learned from which lists of initializers are valid. An `anything` converts to
// every type but an array, so that a field takes one of them, and an array as many as it has
// elements (the braces around them are left out).
#include <cstddef>
#include <type_traits>
#include <utility>

namespace weft::gc::detail {

struct anything {
  template <class T>
  operator T&() const& noexcept;
  template <class T>
  operator T&&() const&& noexcept;
};

// Converts to the proper bases of T only, and a base can only be an aggregate's first element.
template <class T>
struct any_base_of {
  template <class B>
  requires(std::is_base_of_v<B, T> && !std::is_same_v<std::remove_cv_t<B>, std::remove_cv_t<T>>)
  operator B() const noexcept;
};

template <size_t>
using anything_at = anything;

// T{anything × n}
template <class T, size_t... I>
constexpr bool takes(std::index_sequence<I...>) {
  return requires { T{anything_at<I>{}...}; };
}

// T{anything × before, {anything, anything}, anything × after}
template <class T, size_t... Before, size_t... After>
constexpr bool takes_two_at(std::index_sequence<Before...>, std::index_sequence<After...>) {
  return requires {
    T{anything_at<Before>{}..., {anything{}, anything{}}, anything_at<After>{}...};
  };
}

inline constexpr size_t most_initializers = 128;

// The largest number of initializers; that of elements, where no element is an array.
template <class T, size_t N = 0>
constexpr size_t initializers() {
  if constexpr (N < most_initializers && takes<T>(std::make_index_sequence<N + 1>{}))
    return initializers<T, N + 1>();
  else
    return N;
}

// The first initializers may be more than T takes if only fields without default constructor come
// later, so the count goes on until one is refused and starts where one is taken.
template <class T, size_t N = 0>
constexpr size_t least_initializers() {
  if constexpr (N >= most_initializers || takes<T>(std::make_index_sequence<N>{}))
    return N;
  else
    return least_initializers<T, N + 1>();
}

template <class T>
inline constexpr size_t initializer_count = initializers<T, least_initializers<T>()>();

// An element at initializer I that takes a list of two in braces is an array, or a class that is
// made of two values. After the class all initializers that were left can follow; after the array
// fewer.
template <class T, size_t I>
constexpr bool array_at() {
  constexpr size_t total = initializer_count<T>;
  return takes_two_at<T>(std::make_index_sequence<I>{}, std::index_sequence<>{}) &&
         !takes_two_at<T>(std::make_index_sequence<I>{}, std::make_index_sequence<total - I - 1>{});
}

template <class T, size_t... I>
constexpr bool any_array(std::index_sequence<I...>) {
  return (array_at<T, I>() || ...);
}

// Whether some field is a C array of two or more elements.
template <class T>
inline constexpr bool has_c_array = any_array<T>(std::make_index_sequence<initializer_count<T>>{});

// Converts to numbers and enumerations only.
struct any_number {
  template <class T>
  requires(std::is_arithmetic_v<T> || std::is_enum_v<T>) operator T() const noexcept;
};
template <size_t>
using any_number_at = any_number;

template <class T, size_t... I>
constexpr bool takes_numbers(std::index_sequence<I...>) {
  return requires { T{any_number_at<I>{}...}; };
}
template <class T, size_t... I>
constexpr bool takes_more_than_numbers(std::index_sequence<I...>) {
  return requires { T{any_number_at<I>{}..., {}}; };  // {} makes also what cannot be copied
}
template <class T, size_t N = 0>
constexpr size_t numbers() {
  if constexpr (N < most_initializers && takes_numbers<T>(std::make_index_sequence<N + 1>{}))
    return numbers<T, N + 1>();
  else
    return N;
}

// Converts to classes and unions only.
struct any_class {
  template <class T>
  requires(std::is_class_v<T> || std::is_union_v<T>) operator T() const noexcept;
};
template <class T, size_t... I>
constexpr bool takes_class_after(std::index_sequence<I...>) {
  return requires { T{any_number_at<I>{}..., any_class{}}; };
}
template <class T, size_t... I>
constexpr bool class_begins_somewhere(std::index_sequence<I...>) {
  return (takes_class_after<T>(std::make_index_sequence<I>{}) || ...);
}

// Whether T consists of numbers and arrays of numbers: then it may have C arrays and bit fields,
// because nothing in it has to be found. (Of a union's members only the first shows here.)
template <class T>
constexpr bool consists_of_numbers() {
  constexpr size_t n = numbers<T>();
  return takes_numbers<T>(std::make_index_sequence<n>{}) &&
         !takes_more_than_numbers<T>(std::make_index_sequence<n>{}) &&
         !class_begins_somewhere<T>(std::make_index_sequence<n>{});
}
template <class T>
inline constexpr bool only_arithmetic = consists_of_numbers<T>();

template <class T>
inline constexpr bool has_base = requires {
  T{any_base_of<T>{}};
};

}  // namespace weft::gc::detail
