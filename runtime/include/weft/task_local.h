#pragma once
// task_local<T>: a variable of which every task has its own. What thread_local is for threads; a
// thread_local itself must not be used across anything that may wait, because the task may continue
// on another thread.
//
//   weft::task_local<request_context> current;        // at namespace scope or as a member
//   current->id = 7;                                  // made by T() when the task first asks
//   weft::task_local<parser> p([] { return parser(limits); });
//
// Any number of keys, made and destroyed at any time; a thread that is no task has values of its
// own too. New tasks start without values, nothing is inherited. get() costs about as much as a
// thread_local in a shared library.
//
// A task's values are destroyed when it ends, on the task itself and in the reverse order of their
// making, after its function has returned and before join() on it does. The destructors may use
// everything, also what waits, and get() in a destructor makes a new value where there is none any
// more, which is destroyed in turn. They must not throw. A task that never ends, because weft::run
// returned before it did, keeps its values. When a key is destroyed, the values that tasks still
// have live on until those tasks end.
#include <weft/gc/detail/slot.h>

#include <atomic>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

namespace weft {
namespace detail {

// One task's value for one key: the head of the allocation that holds it.
struct local_value {
  uint64_t key = 0;
  local_value* older = nullptr;  // the task's value made before this one
  void (*destroy)(local_value* self) noexcept = nullptr;
};

// All of the calling task's, so there is nothing to lock.
class local_key {
 public:
  constexpr local_key() noexcept = default;
  local_key(const local_key&) = delete;
  ~local_key();

  local_value* find() const noexcept;  // null: the calling task has none
  void attach(local_value* v);         // instead of the one there is; takes v over
  void reset() noexcept;               // destroys the calling task's value

 private:
  uint64_t id();

  // 0 until first needed: index in the tasks' tables, and above it a number that is never used
  // again.
  std::atomic<uint64_t> id_{0};
};

}  // namespace detail

template <class T>
class task_local {
  static_assert(!std::is_reference_v<T> && std::is_destructible_v<T>,
                "weft::task_local<T>: T must be an object");
  static_assert(
      !gc::detail::needs_root<T>,
      "weft::task_local<T>: values lie in memory that the collector does not look at, and "
      "T holds references into the collected heap. Use weft::gc::root<...> in it");

 public:
  // Values are made by T().
  constexpr task_local() noexcept requires std::is_default_constructible_v<T>
      : make_([](void* at) { ::new (at) T(); }) {}
  // Values are made by F()(), a function without captures; use get_or() for others.
  template <class F>
  requires std::is_empty_v<F> && std::is_default_constructible_v<F> && std::is_invocable_r_v<T, F>
  constexpr explicit task_local(F) noexcept : make_([](void* at) { ::new (at) T(F()()); }) {}

  // The calling task's value; made now if it has none. What making it throws passes through. The
  // reference is good until reset(), emplace() or the end of the task.
  T& get() {
    if (T* v = get_if()) return *v;
    return make([this](void* at) { make_(at); });
  }
  T& operator*() { return get(); }
  T* operator->() { return &get(); }

  // As get(), but a missing value is f().
  template <class F>
  T& get_or(F&& f) {
    if (T* v = get_if()) return *v;
    return make([&f](void* at) { ::new (at) T(std::forward<F>(f)()); });
  }

  // The value, or null if the task has none.
  T* get_if() noexcept {
    detail::local_value* v = key_.find();
    return v != nullptr ? &static_cast<holder*>(v)->value() : nullptr;
  }

  // Makes a value of these arguments, instead of the one the task may have.
  template <class... Args>
  T& emplace(Args&&... args) {
    return make([&](void* at) { ::new (at) T(std::forward<Args>(args)...); });
  }

  // Destroys the calling task's value, if it has one.
  void reset() noexcept { key_.reset(); }

 private:
  struct holder : detail::local_value {
    T& value() noexcept { return *std::launder(reinterpret_cast<T*>(room)); }
    alignas(T) std::byte room[sizeof(T)];
  };

  template <class Make>
  T& make(Make&& construct) {
    struct unfinished {
      ~unfinished() { delete h; }
      holder* h = new holder;
    } guard;
    construct(guard.h->room);
    holder* h = std::exchange(guard.h, nullptr);
    h->destroy = [](detail::local_value* v) noexcept {
      auto* self = static_cast<holder*>(v);
      self->value().~T();
      delete self;
    };
    key_.attach(h);
    return h->value();
  }

  detail::local_key key_;
  void (*make_)(void* at);
};

}  // namespace weft
