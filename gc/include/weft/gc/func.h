#pragma once
// std::function on the collected heap: a closure whose captures may refer to collected objects.
//
//   node* n = ...;
//   weft::gc::func<int()> f = [n] { return n->value; };
#include <weft/gc/detail/heap.h>
#include <weft/gc/fields.h>
#include <weft/gc/ref.h>

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <type_traits>
#include <typeinfo>
#include <utility>

namespace weft::gc {

namespace detail {

// The closure's captures have no declared layout: each of its words is taken for a reference.
template <class F>
const type_info& closure_type() noexcept {
  struct closure_of;  // a name of its own, as an F made by make<F>() has another layout
  static constinit const type_info info{
      .type = &typeid(closure_of*),
      .size = sizeof(F),
      .align = alignof(F),
      .conservative = true,
      .destroy = std::is_trivially_destructible_v<F>
                     ? nullptr
                     : +[](void* p) noexcept { std::destroy_at(static_cast<F*>(p)); },
  };
  return info;
}

}  // namespace detail

template <class Signature>
class func;

// Copies share the closure. Calling an empty one throws std::bad_function_call. As with
// std::function, concurrent calls are as safe as the closure is.
template <class R, class... Args>
class func<R(Args...)> {
  WEFT_GC_FIELDS(closure_)

 public:
  func() noexcept = default;
  func(std::nullptr_t) noexcept {}
  // Throws what F's copy or move does, and std::bad_alloc.
  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, func> &&
           std::is_invocable_r_v<R, std::decay_t<F>&, Args...>) func(F&& f) {
    using closure = std::decay_t<F>;
    void* p = ::new (detail::allocate(detail::closure_type<closure>())) closure(std::forward<F>(f));
    if constexpr (!std::is_trivially_destructible_v<closure>) detail::arm(p);
    closure_ = p;
    call_ = [](void* c, Args... args) -> R {
      return std::invoke(*static_cast<closure*>(c), std::forward<Args>(args)...);
    };
  }

  explicit operator bool() const noexcept { return call_ != nullptr; }
  R operator()(Args... args) const {
    if (call_ == nullptr) throw std::bad_function_call();
    return call_(closure_.get(), std::forward<Args>(args)...);
  }

 private:
  ref<void> closure_;
  R (*call_)(void*, Args...) = nullptr;
};

}  // namespace weft::gc
