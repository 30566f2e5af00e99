#pragma once
// std::variant as a member of collected objects.
//
//   struct value {
//     weft::gc::variant<int64_t, weft::gc::string, weft::gc::ref<list>> is;
//   };
//   v->is = weft::gc::string("text");
//   if (auto* text = v->is.get_if<weft::gc::string>()) print(*text);
//   v->is.visit([](auto& x) { show(x); });
//
// What a std::variant holds changes under the collector, which may be looking at it: it would take
// an integer for a reference, and a reference that an integer replaces would not be told of. Here
// alternatives with references have a place of their own, and changing the alternative clears them
// as an assignment of null would.
#include <weft/gc/detail/forget.h>
#include <weft/gc/fields.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace weft::gc {

namespace detail {

template <class T>
inline constexpr bool has_references = trace_kind_of<T>() != trace_kind::plain;

// Which alternative there is, and where.
template <class... Ts>
class variant_storage {
 public:
  static constexpr uint8_t none = UINT8_MAX;
  template <class T>
  static constexpr size_t count = (size_t{std::is_same_v<T, Ts>} + ...);
  template <class T>
  static constexpr uint8_t index_of = [] {
    uint8_t at = 0;
    static_cast<void>(((std::is_same_v<T, Ts> ? false : (++at, true)) && ...));
    return at;
  }();

  template <class T>
  T* place() noexcept {
    return std::launder(reinterpret_cast<T*>(has_references<T> ? traced_ : plain_));
  }
  // Calls f(alternative&); not if there is none.
  template <class F>
  void with(F f) {
    static_cast<void>(((index_ == index_of<Ts> ? (f(*place<Ts>()), true) : false) || ...));
  }
  void end() noexcept {
    with([]<class T>(T& value) { std::destroy_at(std::addressof(value)); });
  }
  // As end(), for storage that stays in use.
  void clear() noexcept {
    with([]<class T>(T& value) {
      std::destroy_at(std::addressof(value));
      if constexpr (has_references<T>) {
        const type_info& t = type_of<T>();
        ensure_described(t);
        forget(std::addressof(value), t);
      }
    });
    index_ = none;
  }

  template <class V>
  void trace(V& v) {
    (trace_one<Ts>(v), ...);
  }

  alignas(Ts...) std::byte traced_[std::max({size_t{1}, (has_references<Ts> ? sizeof(Ts) : 1)...})];
  alignas(Ts...) std::byte plain_[std::max({size_t{1}, (has_references<Ts> ? 1 : sizeof(Ts))...})];
  uint8_t index_ = none;

 private:
  template <class T, class V>
  void trace_one(V& v) {
    if constexpr (has_references<T>) v(*reinterpret_cast<T*>(traced_));
  }
};

template <bool Trivial, class... Ts>
struct variant_lifetime : variant_storage<Ts...> {};
template <class... Ts>
struct variant_lifetime<false, Ts...> : variant_storage<Ts...> {
  variant_lifetime() = default;
  variant_lifetime(const variant_lifetime&) = delete;
  ~variant_lifetime() { this->end(); }
};

}  // namespace detail

// Holds a value of one of the types, which all differ; of none only after a constructor has thrown.
// Takes the room of the largest with references plus that of the largest without. Changed by one
// task at a time, as other members are.
template <class... Ts>
class variant {
  static_assert(sizeof...(Ts) > 0 && sizeof...(Ts) < 255);
  static constexpr size_t referring = (size_t{detail::has_references<Ts>} + ...);
  static_assert(referring <= 1 ||
                    ((!detail::has_references<Ts> || std::is_trivially_destructible_v<Ts>)&&...),
                "weft::gc::variant: of several alternatives with references none may have a "
                "destructor, because references are null when it runs. Use weft::gc::ref<T> to it");
  using storage = detail::variant_lifetime<(std::is_trivially_destructible_v<Ts> && ...), Ts...>;
  template <class T>
  static constexpr bool is_alternative = storage::template count<std::remove_cvref_t<T>> == 1;

 public:
  // The first alternative, value-initialized.
  variant() { emplace<std::tuple_element_t<0, std::tuple<Ts...>>>(); }
  template <class T>
  requires is_alternative<T> variant(T&& value) {
    emplace<std::remove_cvref_t<T>>(std::forward<T>(value));
  }
  variant(const variant& other) { take(other); }
  ~variant() = default;
  variant& operator=(const variant& other) {
    if (this != &other) take(other);
    return *this;
  }
  template <class T>
  requires is_alternative<T> variant& operator=(T&& value) {
    using U = std::remove_cvref_t<T>;
    if (U* held = get_if<U>())
      *held = std::forward<T>(value);
    else
      emplace<U>(std::forward<T>(value));
    return *this;
  }

  // The value is made before the one that is held ends, so an exception changes nothing.
  template <class T, class... Args>
  requires is_alternative<T> T& emplace(Args&&... args) {
    T made(std::forward<Args>(args)...);
    s_.clear();
    T* at = ::new (static_cast<void*>(s_.template place<T>())) T(std::move(made));
    s_.index_ = storage::template index_of<T>;
    return *at;
  }

  // Of the types as they are listed.
  size_t index() const noexcept {
    return s_.index_ == storage::none ? std::variant_npos : s_.index_;
  }
  template <class T>
  requires is_alternative<T>
  bool holds() const noexcept { return s_.index_ == storage::template index_of<T>; }
  // Null if it holds another type. Good until the alternative changes.
  template <class T>
  requires is_alternative<T> T* get_if() noexcept {
    return holds<T>() ? s_.template place<T>() : nullptr;
  }
  template <class T>
  requires is_alternative<T>
  const T* get_if() const noexcept { return const_cast<variant*>(this)->template get_if<T>(); }
  // Throws std::bad_variant_access.
  template <class T>
  requires is_alternative<T> T& get() {
    if (T* held = get_if<T>()) return *held;
    throw std::bad_variant_access();
  }
  template <class T>
  requires is_alternative<T>
  const T& get() const { return const_cast<variant*>(this)->template get<T>(); }

  // Calls f with what it holds. Throws std::bad_variant_access if that is nothing.
  template <class F>
  void visit(F&& f) {
    if (s_.index_ == storage::none) throw std::bad_variant_access();
    s_.with([&](auto& value) { std::invoke(f, value); });
  }
  template <class F>
  void visit(F&& f) const {
    const_cast<variant*>(this)->visit([&](const auto& value) { std::invoke(f, value); });
  }

  friend bool operator==(const variant& a, const variant& b) {
    bool equal = a.index() == b.index();
    if (equal && a.s_.index_ != storage::none) {
      a.visit([&]<class T>(const T& value) { equal = value == b.template get<T>(); });
    }
    return equal;
  }

  template <class V>
  void trace(V& v) {
    s_.trace(v);
  }

 private:
  void take(const variant& other) {
    if (other.s_.index_ == storage::none) return s_.clear();
    other.visit([this]<class T>(const T& value) { *this = value; });
  }

  storage s_;
};

}  // namespace weft::gc
