#pragma once
// context: carries a cancellation, a deadline and request-scoped values down a tree of calls and
// tasks. Go's package context.
//
//   auto [ctx, cancel] = weft::with_timeout(weft::this_task::context(), 2s);
//   weft::cancel_guard on_exit(cancel);
//   weft::result<reply> r = replies.recv(ctx);      // or until cancelled
//   if (!r) return r.error();                       // context canceled, context deadline exceeded
//
// A context is a handle: copies refer to the same node of the tree. Deriving makes a child; when a
// node is cancelled, so are all nodes below it, before the cancelling call returns; nothing above
// it is touched. All functions are thread-safe and callable from any task or thread, with or
// without a running runtime (deadlines pass only while it runs).
//
// Life: a node lives as long as a handle, a cancel function or a child of it. Nothing leaks when a
// cancel function is dropped without being called: unlike in Go the node leaves its parent, and its
// timer the heap, with the last handle. Call it all the same as soon as the work is over, so that
// tasks which still use the context end.
#include <weft/chan.h>
#include <weft/result.h>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

namespace weft {

namespace detail {
struct context_node;
struct after_node;

void keep(context_node* n) noexcept;
void drop(context_node* n) noexcept;

// The value of one with_value().
struct context_value {
  explicit context_value(const void* k) noexcept : key(k) {}
  virtual ~context_value() = default;
  const void* const key;
};
template <class T>
struct context_value_of final : context_value {
  static_assert(!gc::detail::needs_root<T>,
                "weft::with_value: values of contexts lie in memory that the collector does not "
                "look at, and T holds references into the collected heap. Use weft::gc::root<...> "
                "in it");
  template <class V>
  context_value_of(const void* k, V&& v) : context_value(k), value(std::forward<V>(v)) {}
  T value;
};
}  // namespace detail

// Names a value of type T in contexts. Its address is its identity, so keys of independent
// libraries never collide: define one as an inline or static constant.
//
//   inline const weft::context_key<std::string> user_key;
template <class T>
class context_key {
 public:
  constexpr context_key() noexcept = default;
  context_key(const context_key&) = delete;
};

class context {
 public:
  // Refers to no node. Every use but copying, is_nil() and comparison throws panic_error ("cannot
  // create context from nil parent", "nil context").
  context() noexcept = default;
  context(const context& o) noexcept : node_(o.node_) { detail::keep(node_); }
  context(context&& o) noexcept : node_(std::exchange(o.node_, nullptr)) {}
  context& operator=(context o) noexcept {
    std::swap(node_, o.node_);
    return *this;
  }
  ~context() { detail::drop(node_); }

  // A channel that is closed when the context is cancelled; the same one at every call. The nil
  // channel if it can never be. For a select use on_done(ctx), which needs no channel.
  recv_chan<std::monostate> done() const;

  // No error until the context is cancelled; then errc::canceled ("context canceled") or, if its
  // deadline passed, errc::context_deadline_exceeded ("context deadline exceeded"), for good. Set
  // before done() is closed, and done() is closed before anybody sees it here.
  error_code err() const;

  // Why it was cancelled: what with_cancel_cause's function or with_timeout_cause were given, of
  // the nearest cancellation above; without a cause, system_error with err(). Null while not
  // cancelled.
  std::exception_ptr cause() const;

  // When it will be cancelled by itself at the latest; nullopt if never.
  std::optional<std::chrono::steady_clock::time_point> deadline() const;

  // The value that the nearest with_value(…, key, …) above gave, null if there is none. Lives as
  // long as the context.
  template <class T>
  const T* value(const context_key<T>& key) const {
    const detail::context_value* v = find(&key);
    return v != nullptr ? &static_cast<const detail::context_value_of<T>*>(v)->value : nullptr;
  }

  bool is_nil() const noexcept { return node_ == nullptr; }
  friend bool operator==(const context&, const context&) noexcept = default;

  // For the runtime: adopts one reference.
  explicit context(detail::context_node* adopted) noexcept : node_(adopted) {}
  detail::context_node* node() const noexcept { return node_; }
  detail::context_node* exchange_node(detail::context_node* n) noexcept {
    return std::exchange(node_, n);
  }

 private:
  const detail::context_value* find(const void* key) const;
  detail::context_node* node_ = nullptr;
};

// Cancels a context: that node and all below it are cancelled, tasks that wait under them are
// awake, when the call returns. Later calls change nothing; they too return only when that is done.
// Copyable; any task or thread. Dropping it does not cancel (see cancel_guard). Default-constructed
// it does nothing.
class cancel_function {
 public:
  cancel_function() noexcept = default;
  cancel_function(const cancel_function& o) noexcept;
  cancel_function(cancel_function&& o) noexcept : node_(std::exchange(o.node_, nullptr)) {}
  cancel_function& operator=(cancel_function o) noexcept {
    std::swap(node_, o.node_);
    return *this;
  }
  ~cancel_function();

  void operator()() const noexcept;

  // For the runtime: adopts one reference and one right to cancel.
  explicit cancel_function(detail::context_node* adopted) noexcept : node_(adopted) {}

 protected:
  void cancel(std::exception_ptr cause) const noexcept;

 private:
  detail::context_node* node_ = nullptr;
};

// As cancel_function, and records why. The cause is an exception or an error code; null or success
// means none. The first cancellation's stays.
class cancel_cause_function : public cancel_function {
 public:
  using cancel_function::cancel_function;
  using cancel_function::operator();
  void operator()(std::exception_ptr cause) const noexcept { cancel(std::move(cause)); }
  void operator()(const error_code& cause) const {
    cancel(cause ? std::make_exception_ptr(system_error(cause)) : nullptr);
  }
  template <std::derived_from<std::exception> E>
  void operator()(E cause) const {
    cancel(std::make_exception_ptr(std::move(cause)));
  }
};

// Cancels when its scope ends, however it ends: Go's `defer cancel()`.
class [[nodiscard]] cancel_guard {
 public:
  explicit cancel_guard(cancel_function f) noexcept : cancel_(std::move(f)) {}
  ~cancel_guard() { cancel_(); }
  cancel_guard(const cancel_guard&) = delete;

 private:
  cancel_function cancel_;
};

// The root: never cancelled, no deadline, no values. todo() says that the right context is not
// known yet; it behaves the same.
context background() noexcept;
context todo() noexcept;

// Children of `parent`. They throw panic_error ("cannot create context from nil parent") for a
// default-constructed one. A child of a cancelled context is cancelled at once, with the parent's
// error and cause. A deadline that is not before the parent's has no effect; one that has passed
// cancels at once; a duration too long to represent is no deadline.
[[nodiscard]] std::pair<context, cancel_function> with_cancel(const context& parent);
[[nodiscard]] std::pair<context, cancel_cause_function> with_cancel_cause(const context& parent);
[[nodiscard]] std::pair<context, cancel_function> with_deadline(
    const context& parent, std::chrono::steady_clock::time_point t);
[[nodiscard]] std::pair<context, cancel_function> with_timeout(const context& parent,
                                                               std::chrono::nanoseconds d);
// `cause` is what cause() gives if the deadline passes.
[[nodiscard]] std::pair<context, cancel_function> with_deadline_cause(
    const context& parent, std::chrono::steady_clock::time_point t, std::exception_ptr cause);
[[nodiscard]] std::pair<context, cancel_function> with_timeout_cause(const context& parent,
                                                                     std::chrono::nanoseconds d,
                                                                     std::exception_ptr cause);

// The parent's values without its cancellation and deadline: for work that outlives the request.
[[nodiscard]] context without_cancel(const context& parent);

namespace detail {
context with_value_node(const context& parent, std::unique_ptr<context_value> v);
}

// A child that carries `v` under `key` and hides an outer value of the same key. For data of a
// request that passes through many layers, not for optional parameters. Values are destroyed with
// the last handle, on whichever task drops it.
template <class T, class V>
requires std::constructible_from<T, V>
[[nodiscard]] context with_value(const context& parent, const context_key<T>& key, V&& v) {
  return detail::with_value_node(
      parent, std::make_unique<detail::context_value_of<T>>(&key, std::forward<V>(v)));
}

// What after_func() returns. Calling it takes the function back: true if it has not run and never
// will; false if it runs, has run, or was taken back before. Does not wait for it. Dropping the
// handle changes nothing.
class stop_function {
 public:
  stop_function() noexcept = default;
  stop_function(const stop_function& o) noexcept;
  stop_function(stop_function&& o) noexcept : node_(std::exchange(o.node_, nullptr)) {}
  stop_function& operator=(stop_function o) noexcept {
    std::swap(node_, o.node_);
    return *this;
  }
  ~stop_function();
  bool operator()() const;

  explicit stop_function(detail::after_node* adopted) noexcept : node_(adopted) {}

 private:
  detail::after_node* node_ = nullptr;
};

namespace detail {
stop_function after_func_node(const context& ctx, std::function<void()> f);
}

// Runs f() in a task of its own once `ctx` is cancelled; at once if it is already. The task runs
// under background(). If nobody can cancel ctx any more, f will not run and is destroyed with the
// last copy of the stop_function.
template <std::invocable F>
stop_function after_func(const context& ctx, F f) {
  if constexpr (std::is_copy_constructible_v<F>)
    return detail::after_func_node(ctx, std::move(f));
  else
    return detail::after_func_node(ctx, [p = std::make_shared<F>(std::move(f))] { (*p)(); });
}

namespace this_task {
// The context that the calling task runs under: the one that the innermost with_context() or
// task_group around it set, else its creator's at the time of its creation, else background().
// Being run under a context ends no call by itself; one ends early only if it is passed:
// `c.recv(this_task::context())`. A task that is to outlive what it was started for runs under
// without_cancel(). HTTP handlers run under background() and ask for http::request::context(),
// which costs nothing until then.
weft::context context();
}  // namespace this_task

namespace detail {
class context_scope {
 public:
  explicit context_scope(const context& ctx);
  ~context_scope();
  context_scope(const context_scope&) = delete;

 private:
  context previous_;
};
}  // namespace detail

// Runs f() with `ctx` as this_task::context() and restores the previous one afterwards, also when f
// throws. Tasks started in f inherit it.
template <class F>
auto with_context(const context& ctx, F&& f) -> std::invoke_result_t<F> {
  detail::context_scope scope(ctx);
  return std::invoke(std::forward<F>(f));
}

}  // namespace weft
