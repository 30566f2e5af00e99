#pragma once
// From a type to the words of it that may hold references. Not for programs; <weft/gc/fields.h> has
// the rules.
//
// What a type is, is decided at compile time (trace_kind_of), and so is whether every part of it is
// allowed (is_storable, require_storable). Where its references are is found out at run time, once
// per type, by visiting an object that never was constructed: only addresses of members are taken.
// (Computing offsets at compile time would need offsetof of classes that are not standard-layout,
// or a copy of the ABI's rules.)
#include <weft/gc/detail/aggregate.h>
#include <weft/gc/detail/slot.h>

#include <algorithm>
#include <any>
#include <array>
#include <atomic>
#include <boost/pfr/core.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

namespace weft::gc {

template <class T>
inline constexpr bool opaque = false;

namespace detail {

template <size_t N>
struct fixed_string {
  char text[N];
  consteval fixed_string(const char (&literal)[N]) { std::copy_n(literal, N, text); }
};

template <fixed_string Name, class T>
struct field {
  using type = T;
};
template <class... Fields>
struct field_list {};
template <class... Bases>
struct base_list {};

struct layout_access;

enum class trace_kind : uint8_t {
  plain,      // holds no reference
  slot,       // ref, atomic_ref, weak: one word
  listed,     // WEFT_GC_FIELDS or WEFT_GC_BASES
  traced,     // has trace()
  array,      // T[N], std::array
  optional,   // std::optional of something with references
  pair,       // std::pair, std::tuple
  aggregate,  // taken apart by Boost.PFR
  // Refused, each with its own message.
  raw_pointer,
  reference,
  std_function,
  std_any,
  variant,
  view,
  container,  // of std, with references inside
  owner,      // smart pointer to something with references
  atomic_pointer,
  union_type,
  inherits_listed,
  aggregate_with_base,
  aggregate_with_c_array,
  unknown_class,
};
constexpr bool refused(trace_kind k) { return k >= trace_kind::raw_pointer; }

// Stands for a visitor where only the existence of trace() is asked for.
struct any_visitor {
  template <class... Fields>
  void operator()(Fields&...) {}
};

struct layout_access {
  // Pointers to members tell a class's own macro from one that it inherits.
  template <class T>
  static constexpr bool has_own_fields() {
    if constexpr (requires { &T::weft_gc_fields_of; })
      return std::is_same_v<decltype(&T::weft_gc_fields_of), void (T::*)() const>;
    else
      return false;
  }
  template <class T>
  static constexpr bool has_own_bases() {
    if constexpr (requires { &T::weft_gc_bases_of; })
      return std::is_same_v<decltype(&T::weft_gc_bases_of), void (T::*)() const>;
    else
      return false;
  }
  template <class T>
  static constexpr bool inherits_some() {
    return (requires { &T::weft_gc_fields_of; }) || (requires { &T::weft_gc_bases_of; });
  }
  template <class T>
  static constexpr auto fields() {
    if constexpr (has_own_fields<T>())
      return T::template weft_gc_fields<T>();
    else
      return field_list<>{};
  }
  template <class T>
  static constexpr auto bases() {
    if constexpr (has_own_bases<T>())
      return T::template weft_gc_bases<T>();
    else
      return base_list<>{};
  }
  template <class Visitor, class T>
  static void visit_fields(Visitor& v, T& object) {
    T::weft_gc_visit_fields(v, object);
  }
};

template <class T>
concept has_trace = requires(T& object, any_visitor& v) {
  object.trace(v);
};

template <template <class...> class Template, class T>
inline constexpr bool is_a = false;
template <template <class...> class Template, class... Args>
inline constexpr bool is_a<Template, Template<Args...>> = true;

template <class T>
inline constexpr bool is_std_array = false;
template <class T, size_t N>
inline constexpr bool is_std_array<std::array<T, N>> = true;

template <class T>
inline constexpr bool is_span = false;
template <class T, size_t N>
inline constexpr bool is_span<std::span<T, N>> = true;

template <class T>
inline constexpr bool is_view = is_a<std::basic_string_view, T> || is_span<T>;

template <class T>
inline constexpr bool is_std_container =
    is_a<std::vector, T> || is_a<std::deque, T> || is_a<std::list, T> || is_a<std::map, T> ||
    is_a<std::multimap, T> || is_a<std::set, T> || is_a<std::multiset, T> ||
    is_a<std::unordered_map, T> || is_a<std::unordered_multimap, T> ||
    is_a<std::unordered_set, T> || is_a<std::unordered_multiset, T>;

template <class T>
inline constexpr bool is_std_owner =
    is_a<std::unique_ptr, T> || is_a<std::shared_ptr, T> || is_a<std::weak_ptr, T>;

// Classes of std that hold no reference of the program's.
template <class T>
inline constexpr bool is_std_plain =
    is_a<std::basic_string, T> || is_a<std::chrono::duration, T> ||
    is_a<std::chrono::time_point, T> || std::is_same_v<T, std::atomic_flag> ||
    std::is_same_v<T, std::mutex> || std::is_same_v<T, std::recursive_mutex> ||
    std::is_same_v<T, std::shared_mutex> || std::is_same_v<T, std::once_flag> ||
    std::is_same_v<T, std::error_code> || std::is_same_v<T, std::monostate> ||
    std::is_same_v<T, std::nullptr_t> || std::is_same_v<T, std::byte>;

template <class T>
constexpr bool is_complete = requires {
  sizeof(T);
};

template <class T>
constexpr trace_kind trace_kind_of();

// Whether a T may hold references, or cannot be known: what std's containers and owners must not
// have.
template <class T>
constexpr bool may_refer() {
  if constexpr (std::is_void_v<T> || std::is_function_v<T>)
    return false;
  else if constexpr (!is_complete<T>)
    return false;  // an implementation that is hidden; what it hides is its own affair
  else
    return trace_kind_of<T>() != trace_kind::plain;
}

template <class T>
struct element_of;
template <class T>
struct element_of<T[]> {
  using type = T;
};
template <class T, size_t N>
struct element_of<T[N]> {
  using type = T;
  static constexpr size_t count = N;
};
template <class T, size_t N>
struct element_of<std::array<T, N>> {
  using type = T;
  static constexpr size_t count = N;
};

// What a container of std keeps: its types without comparison, hash and allocator, which are
// classes without members or opaque to us.
template <class C>
struct kept_by {
  template <class T>
  static constexpr bool refers() {
    if constexpr (requires { typename T::mapped_type; })
      return may_refer<typename T::key_type>() || may_refer<typename T::mapped_type>();
    else
      return may_refer<typename T::value_type>();
  }
  static constexpr bool value = refers<C>();
};

template <template <class...> class C, class... Args>
constexpr bool any_refers(const C<Args...>*) {
  return (may_refer<std::remove_cv_t<Args>>() || ...);
}

template <class... Fields>
constexpr bool any_field_refers(field_list<Fields...>) {
  return (may_refer<std::remove_cv_t<typename Fields::type>>() || ...);
}
template <class... Bases>
constexpr bool any_base_refers(base_list<Bases...>) {
  return (may_refer<Bases>() || ...);
}

template <class T, size_t... I>
constexpr bool aggregate_refers(std::index_sequence<I...>) {
  return (may_refer<std::remove_cv_t<boost::pfr::tuple_element_t<I, T>>>() || ...);
}

template <class T>
constexpr trace_kind trace_kind_of() {
  using enum trace_kind;
  using U = std::remove_cv_t<T>;
  if constexpr (!std::is_same_v<T, U>) {
    return trace_kind_of<U>();
  } else if constexpr (std::is_reference_v<T>) {
    return reference;
  } else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T> ||
                       std::is_member_pointer_v<T>) {
    return plain;
  } else if constexpr (std::is_pointer_v<T>) {
    return std::is_function_v<std::remove_pointer_t<T>> ? plain : raw_pointer;
  } else if constexpr (opaque<T> || is_std_plain<T>) {
    return plain;
  } else if constexpr (requires { typename T::weft_gc_slot; }) {
    return slot;
  } else if constexpr (std::is_array_v<T> || is_std_array<T>) {
    constexpr trace_kind of = trace_kind_of<typename element_of<T>::type>();
    return of == plain || refused(of) ? of : array;
  } else if constexpr (is_view<T>) {
    return view;
  } else if constexpr (is_a<std::function, T>) {
    return std_function;
  } else if constexpr (std::is_same_v<T, std::any>) {
    return std_any;
  } else if constexpr (is_a<std::variant, T>) {
    return any_refers(static_cast<const T*>(nullptr)) ? variant : plain;
  } else if constexpr (is_a<std::optional, T>) {
    constexpr trace_kind of = trace_kind_of<typename T::value_type>();
    return of == plain || refused(of) ? of : optional;
  } else if constexpr (is_a<std::pair, T> || is_a<std::tuple, T>) {
    return any_refers(static_cast<const T*>(nullptr)) ? pair : plain;
  } else if constexpr (is_a<std::atomic, T>) {
    constexpr trace_kind of = trace_kind_of<typename T::value_type>();
    return of == plain ? plain : atomic_pointer;
  } else if constexpr (is_std_owner<T>) {
    return may_refer<std::remove_cv_t<std::remove_extent_t<typename T::element_type>>>() ? owner
                                                                                         : plain;
  } else if constexpr (is_std_container<T>) {
    return kept_by<T>::value ? container : plain;
  } else if constexpr (layout_access::has_own_fields<T>() || layout_access::has_own_bases<T>()) {
    return any_field_refers(layout_access::fields<T>()) ||
                   any_base_refers(layout_access::bases<T>())
               ? listed
               : plain;
  } else if constexpr (has_trace<T>) {
    return traced;
  } else if constexpr (layout_access::inherits_some<T>()) {
    return inherits_listed;
  } else if constexpr (std::is_union_v<T>) {
    return union_type;
  } else if constexpr (std::is_empty_v<T>) {
    return plain;
  } else if constexpr (std::is_aggregate_v<T>) {
    if constexpr (only_arithmetic<T>)
      return plain;
    else if constexpr (has_base<T>)
      return aggregate_with_base;
    else if constexpr (has_c_array<T>)
      return aggregate_with_c_array;
    else
      return aggregate_refers<T>(std::make_index_sequence<boost::pfr::tuple_size_v<T>>{})
                 ? aggregate
                 : plain;
  } else {
    return unknown_class;
  }
}

// -- are all parts allowed?

template <class T>
constexpr bool is_storable();

template <class... Fields>
constexpr bool all_storable(field_list<Fields...>) {
  return (is_storable<typename Fields::type>() && ...);
}
template <class... Bases>
constexpr bool all_storable(base_list<Bases...>) {
  return (is_storable<Bases>() && ...);
}
template <template <class...> class C, class... Args>
constexpr bool all_arguments_storable(const C<Args...>*) {
  return (is_storable<std::remove_cv_t<Args>>() && ...);
}
template <class T, size_t... I>
constexpr bool all_elements_storable(std::index_sequence<I...>) {
  return (is_storable<std::remove_cv_t<boost::pfr::tuple_element_t<I, T>>>() && ...);
}

template <class T>
constexpr bool is_storable() {
  using U = std::remove_cv_t<T>;
  constexpr trace_kind k = trace_kind_of<U>();
  if constexpr (refused(k))
    return false;
  else if constexpr (k == trace_kind::listed)
    return all_storable(layout_access::fields<U>()) && all_storable(layout_access::bases<U>());
  else if constexpr (k == trace_kind::array)
    return is_storable<typename element_of<U>::type>();
  else if constexpr (k == trace_kind::optional)
    return is_storable<typename U::value_type>();
  else if constexpr (k == trace_kind::pair)
    return all_arguments_storable(static_cast<const U*>(nullptr));
  else if constexpr (k == trace_kind::aggregate)
    return all_elements_storable<U>(std::make_index_sequence<boost::pfr::tuple_size_v<U>>{});
  else
    return true;
}

// The same with a message. `Where` names the member in the compiler's list of instantiations:
// member<document, "first_", page*>, or element<document, 2, page*>.
template <class Owner, fixed_string Name, class T>
struct member;
template <class Owner, size_t Index, class T>
struct element;
template <class T>
struct whole;

template <class Where, trace_kind K>
constexpr void refuse() {
  using enum trace_kind;
  static_assert(K != raw_pointer,
                "weft::gc: a raw pointer member is not traced. Use weft::gc::ref<T>, or "
                "weft::gc::untraced<T*> if it never points into the collected heap");
  static_assert(K != reference, "weft::gc: a reference member is not traced. Use weft::gc::ref<T>");
  static_assert(K != std_function,
                "weft::gc: what a std::function holds is not traced. Use weft::gc::func<...>");
  static_assert(K != std_any,
                "weft::gc: what a std::any holds is not traced. Use weft::gc::ref<T>");
  static_assert(K != variant,
                "weft::gc: a std::variant with references is not traced, because which of them it "
                "holds changes under the collector. Use weft::gc::variant<...>");
  static_assert(K != view,
                "weft::gc: a std::string_view or std::span member is not traced. Use "
                "weft::gc::string, weft::gc::vector, or weft::gc::untraced<...> if it never points "
                "into the collected heap");
  static_assert(K != container,
                "weft::gc: references in a container of std are not traced, because it keeps them "
                "in malloc's memory. Use weft::gc::vector, weft::gc::map or weft::gc::deque");
  static_assert(K != owner,
                "weft::gc: references in an object that a std smart pointer owns are not traced. "
                "Use weft::gc::ref<T>, or weft::gc::root<T> inside that object");
  static_assert(K != atomic_pointer,
                "weft::gc: a std::atomic of a pointer or reference is not traced. Use "
                "weft::gc::atomic_ref<T>");
  static_assert(
      K != union_type,
      "weft::gc: which member of a union is alive is not known. Use weft::gc::variant<...>, "
      "or specialize weft::gc::opaque<T> if none holds references");
  static_assert(K != inherits_listed,
                "weft::gc: a base of this class lists its fields, the class itself does not. Add "
                "WEFT_GC_BASES(base) and, for its own references, WEFT_GC_FIELDS(...)");
  static_assert(K != aggregate_with_base,
                "weft::gc: an aggregate with a base class cannot be taken apart. Add "
                "WEFT_GC_BASES(base) and WEFT_GC_FIELDS(...)");
  static_assert(
      K != aggregate_with_c_array,
      "weft::gc: an aggregate with a C array cannot be taken apart. Use std::array<T, N>, "
      "or WEFT_GC_FIELDS(...)");
  static_assert(K != unknown_class,
                "weft::gc: it is not known where this class holds references. Add "
                "WEFT_GC_FIELDS(...) or a trace() member to it, or specialize "
                "weft::gc::opaque<T> if it holds none");
}

template <class T, class Where = whole<T>>
constexpr void require_storable();

template <class Owner, class... Fields>
struct require_each;
template <class Owner, fixed_string... Names, class... Types>
struct require_each<Owner, field<Names, Types>...> {
  static constexpr void check() { (require_storable<Types, member<Owner, Names, Types>>(), ...); }
};
template <class Owner, class... Fields>
constexpr void require_fields(field_list<Fields...>) {
  require_each<Owner, Fields...>::check();
}
template <class... Bases>
constexpr void require_bases(base_list<Bases...>) {
  (require_storable<Bases>(), ...);
}
template <class T, size_t... I>
constexpr void require_elements(std::index_sequence<I...>) {
  (require_storable<boost::pfr::tuple_element_t<I, T>,
                    element<T, I, boost::pfr::tuple_element_t<I, T>>>(),
   ...);
}
template <template <class...> class C, class... Args>
constexpr void require_arguments(const C<Args...>*) {
  (require_storable<Args>(), ...);
}

template <class T, class Where>
constexpr void require_storable() {
  using U = std::remove_cv_t<T>;
  constexpr trace_kind k = trace_kind_of<U>();
  refuse<Where, k>();
  if constexpr (k == trace_kind::listed) {
    require_fields<U>(layout_access::fields<U>());
    require_bases(layout_access::bases<U>());
  } else if constexpr (k == trace_kind::array) {
    require_storable<typename element_of<U>::type, Where>();
  } else if constexpr (k == trace_kind::optional) {
    require_storable<typename U::value_type, Where>();
  } else if constexpr (k == trace_kind::pair) {
    require_arguments(static_cast<const U*>(nullptr));
  } else if constexpr (k == trace_kind::aggregate) {
    require_elements<U>(std::make_index_sequence<boost::pfr::tuple_size_v<U>>{});
  }
}

// -- where are they?

// Collects the words of one type. Addresses are those of an object that does not exist.
class layout_builder {
 public:
  layout_builder(const void* object, uint64_t* mask) noexcept
      : base_(static_cast<const std::byte*>(object)), mask_(mask) {}

  template <class T>
  void describe(T& of) {
    using U = std::remove_cv_t<T>;
    constexpr trace_kind k = trace_kind_of<U>();
    auto& object = const_cast<U&>(of);
    if constexpr (k == trace_kind::slot) {
      slot(std::addressof(object));
    } else if constexpr (k == trace_kind::listed) {
      describe_bases(object, layout_access::bases<U>());
      if constexpr (layout_access::has_own_fields<U>()) layout_access::visit_fields(*this, object);
    } else if constexpr (k == trace_kind::traced) {
      object.trace(*this);
    } else if constexpr (k == trace_kind::array) {
      for (auto& each : object) describe(each);
    } else if constexpr (k == trace_kind::optional) {
      // The value is the first member in every implementation; one without a value holds stale
      // words, which are looked at like any others.
      describe(*reinterpret_cast<typename U::value_type*>(std::addressof(object)));
    } else if constexpr (k == trace_kind::pair) {
      std::apply([&](auto&... each) { (describe(each), ...); }, object);
    } else if constexpr (k == trace_kind::aggregate) {
      boost::pfr::for_each_field(object, [&](auto& each) { describe(each); });
    }
  }

  // What a class's trace() calls.
  template <class... Fields>
  void operator()(Fields&... fields) {
    (require_storable<Fields>(), ...);
    (describe(fields), ...);
  }

  // What WEFT_GC_FIELDS calls, one after the other. A field without references may be one whose
  // address cannot be taken.
  template <fixed_string Name, class T, class Get>
  layout_builder& at(Get get) {
    if constexpr (trace_kind_of<T>() != trace_kind::plain) describe(get());
    return *this;
  }

 private:
  template <class T, class... Bases>
  void describe_bases(T& object, base_list<Bases...>) {
    (describe(static_cast<Bases&>(object)), ...);
  }
  void slot(const void* where) noexcept {
    const auto word =
        static_cast<size_t>(static_cast<const std::byte*>(where) - base_) / sizeof(void*);
    mask_[word / 64] |= uint64_t{1} << (word % 64);
  }

  const std::byte* base_;
  uint64_t* mask_;
};

template <class T>
inline constexpr size_t mask_words_of = (sizeof(T) / sizeof(void*) + 64) / 64;

}  // namespace detail
}  // namespace weft::gc
