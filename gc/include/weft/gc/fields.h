#pragma once
// How the collector knows where an object's references are.
//
// An aggregate of members that it knows needs nothing:
//
//   struct page { weft::gc::ref<page> next; std::string title; std::array<weft::gc::ref<page>, 4>
//   links; };
//
// A class with constructors, private members or bases lists what it has, once:
//
//   class document : public titled {
//     WEFT_GC_BASES(titled)
//     WEFT_GC_FIELDS(first_, last_)
//    public:
//     explicit document(std::string title);
//    private:
//     weft::gc::ref<page> first_, last_;
//   };
//
// or has a member template, run once per type to see which addresses it visits, never by the
// collector:
//
//     template <class V> void trace(V& v) { v(first_, last_); }
//
// (Classes inside a function cannot: the language forbids templates there.)
//
// Every member that may hold references must be listed; members that cannot may be left out, and a
// class without any says WEFT_GC_FIELDS(). Types that the collector cannot trace (raw pointers,
// std::function, std containers of references, …) do not compile, and the message names the member
// and what to use instead.
#include <weft/gc/detail/layout.h>

namespace weft::gc {

// True for types without references into the collected heap that the collector could not tell to be
// such: specialize it for classes of your own that hold only ordinary memory.
//
//   template <> inline constexpr bool weft::gc::opaque<my::clock> = true;
//
// It is true for the usual ones of std already: strings, chrono, mutexes, smart pointers and
// containers of types without references. (Declared in detail/layout.h.)
//   template <class T> inline constexpr bool opaque;

// Types of which a whole object is known: make<T>(), chan<T>, containers and gc::func take these.
template <class T>
concept storable = detail::is_storable<T>();

// A member that the collector must not look at, and whose owner promises that it never is the only
// way to an object: a raw pointer to ordinary memory, a std::string_view of a literal.
//   weft::gc::untraced<FILE*> log;
template <class T>
class untraced {
 public:
  untraced() = default;
  untraced(const T& value) : value_(value) {}
  untraced(T&& value) noexcept(std::is_nothrow_move_constructible_v<T>)
      : value_(std::move(value)) {}
  T& get() noexcept { return value_; }
  const T& get() const noexcept { return value_; }
  operator T&() noexcept { return value_; }
  operator const T&() const noexcept { return value_; }
  T& operator*() noexcept { return value_; }
  const T& operator*() const noexcept { return value_; }
  T operator->() const noexcept requires std::is_pointer_v<T> { return value_; }

 private:
  T value_{};
};

template <class T>
inline constexpr bool opaque<untraced<T>> = true;

}  // namespace weft::gc

// Inside a class, in its private part or any other: the members that may hold references. Up to 64.
#define WEFT_GC_FIELDS(...)                                                                 \
  friend struct ::weft::gc::detail::layout_access;                                          \
  void weft_gc_fields_of() const {}                                                         \
  template <class Self>                                                                     \
  static constexpr auto weft_gc_fields() {                                                  \
    return ::weft::gc::detail::field_list<WEFT_GC_LIST(WEFT_GC_FIELD_TYPE, __VA_ARGS__)>{}; \
  }                                                                                         \
  template <class Visitor, class Self>                                                      \
  static void weft_gc_visit_fields(Visitor& visitor, [[maybe_unused]] Self& self) {         \
    (visitor WEFT_GC_EACH(WEFT_GC_FIELD_VISIT, __VA_ARGS__));                               \
  }

// Inside a class: its bases that hold references.
#define WEFT_GC_BASES(...)                               \
  friend struct ::weft::gc::detail::layout_access;       \
  void weft_gc_bases_of() const {}                       \
  template <class Self>                                  \
  static constexpr auto weft_gc_bases() {                \
    return ::weft::gc::detail::base_list<__VA_ARGS__>{}; \
  }

#define WEFT_GC_FIELD_TYPE(name) ::weft::gc::detail::field<#name, decltype(Self::name)>
#define WEFT_GC_FIELD_VISIT(name) \
  .template at<#name, decltype(Self::name)>([&]() -> auto& { return self.name; })

// The usual recursion over macro arguments: 4 × 4 × 4 rescans.
#define WEFT_GC_PARENS ()
#define WEFT_GC_EXPAND(...) \
  WEFT_GC_EXPAND3(WEFT_GC_EXPAND3(WEFT_GC_EXPAND3(WEFT_GC_EXPAND3(__VA_ARGS__))))
#define WEFT_GC_EXPAND3(...) \
  WEFT_GC_EXPAND2(WEFT_GC_EXPAND2(WEFT_GC_EXPAND2(WEFT_GC_EXPAND2(__VA_ARGS__))))
#define WEFT_GC_EXPAND2(...) \
  WEFT_GC_EXPAND1(WEFT_GC_EXPAND1(WEFT_GC_EXPAND1(WEFT_GC_EXPAND1(__VA_ARGS__))))
#define WEFT_GC_EXPAND1(...) __VA_ARGS__
#define WEFT_GC_LIST(m, ...) __VA_OPT__(WEFT_GC_EXPAND(WEFT_GC_LIST_STEP(m, __VA_ARGS__)))
#define WEFT_GC_LIST_STEP(m, first, ...) \
  m(first) __VA_OPT__(, WEFT_GC_LIST_AGAIN WEFT_GC_PARENS(m, __VA_ARGS__))
#define WEFT_GC_LIST_AGAIN() WEFT_GC_LIST_STEP
#define WEFT_GC_EACH(m, ...) __VA_OPT__(WEFT_GC_EXPAND(WEFT_GC_EACH_STEP(m, __VA_ARGS__)))
#define WEFT_GC_EACH_STEP(m, first, ...) \
  m(first) __VA_OPT__(WEFT_GC_EACH_AGAIN WEFT_GC_PARENS(m, __VA_ARGS__))
#define WEFT_GC_EACH_AGAIN() WEFT_GC_EACH_STEP
