#pragma once
// select: waits for the first of several channel operations. Go's select statement.
//
//   weft::select(
//       weft::on_recv(jobs, [&](std::optional<job> j) { ... }),     // nullopt: closed
//       weft::on_send(results, r, [&] { ... }),
//       weft::on_timeout(5s, [&] { ... }));
#include <weft/chan.h>
#include <weft/context.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

namespace weft {
namespace detail {

struct select_case {
  enum class kind : uint8_t { recv, send, timeout, otherwise, cancelled, unused };
  kind what;
  chan_core* channel = nullptr;  // null: the nil channel, never ready
  void* element = nullptr;
  int64_t timeout_ns = 0;
  bool success = false;          // out; recv: a value arrived
  const context* ctx = nullptr;  // cancelled
};

// Runs the protocol over cases[0..n) and returns the index of the one that took effect. A chosen
// send on a closed channel throws panic_error.
int select_cases(select_case* cases, int n);

// The channel of a case. A variable's is borrowed, which saves two locked instructions per case and
// call; select_cases() takes references of its own when it has to wait. A temporary's is kept.
class case_channel {
 public:
  template <class Chan>
  static case_channel of(Chan&& c) noexcept {
    case_channel made;
    made.core_ = c.ref().get();
    if constexpr (!std::is_lvalue_reference_v<Chan>) made.keep();
    return made;
  }
  chan_core* get() const noexcept { return core_; }
  void keep() noexcept {
    if (core_ == nullptr || kept_) return;
    core_->add_ref();
    kept_ = chan_ref(core_);
  }

 private:
  chan_core* core_ = nullptr;
  chan_ref kept_;
};

template <class T, class F>
struct recv_clause {
  case_channel ref;
  F f;
  alignas(T) std::byte room[sizeof(T)];

  select_case describe() { return {select_case::kind::recv, ref.get(), room}; }
  void run(bool success) {
    std::optional<T> v;
    if (success) {
      T* p = std::launder(reinterpret_cast<T*>(room));
      v.emplace(std::move(*p));
      p->~T();
    }
    if constexpr (std::is_invocable_v<F&, std::optional<T>>)
      f(std::move(v));
    else
      f();
  }
};

template <class T, class F>
struct send_clause {
  case_channel ref;
  T value;
  F f;
  select_case describe() { return {select_case::kind::send, ref.get(), &value}; }
  void run(bool) { f(); }
};

template <class F>
struct timeout_clause {
  std::chrono::nanoseconds after;
  F f;
  select_case describe() { return {select_case::kind::timeout, nullptr, nullptr, after.count()}; }
  void run(bool) { f(); }
};

template <class F>
struct done_clause {
  context ctx;
  F f;
  select_case describe() {
    return {select_case::kind::cancelled, nullptr, nullptr, 0, false, &ctx};
  }
  void run(bool) { f(); }
};

template <class F>
struct default_clause {
  F f;
  select_case describe() { return {select_case::kind::otherwise}; }
  void run(bool) { f(); }
};

struct nothing {
  void operator()() const noexcept {}
};

}  // namespace detail

// Cases are made in the call of select() or select_set::add(). One that is kept for later must not
// outlive the variable that it took its channel from.

// Receive from c; f(std::optional<T>) or f() runs if this case is chosen (nullopt: closed and
// drained).
template <class Chan, class F = detail::nothing>
auto on_recv(Chan&& c, F f = {}) {
  using T = typename std::decay_t<decltype(c.recv())>::value_type;
  return detail::recv_clause<T, F>{
      detail::case_channel::of(std::forward<Chan>(c)), std::move(f), {}};
}

// Send v (converted to the channel's type now) on c; f() runs if this case is chosen.
template <template <class> class Chan, class T, class V, class F = detail::nothing>
auto on_send(const Chan<T>& c, V&& v, F f = {}) {
  return detail::send_clause<T, F>{detail::case_channel::of(c), T(std::forward<V>(v)),
                                   std::move(f)};
}
template <template <class> class Chan, class T, class V, class F = detail::nothing>
auto on_send(Chan<T>&& c, V&& v, F f = {}) {
  return detail::send_clause<T, F>{detail::case_channel::of(std::move(c)), T(std::forward<V>(v)),
                                   std::move(f)};
}

// Chosen when no channel was ready within d; d <= 0 means: only if none is ready now.
template <class F = detail::nothing>
auto on_timeout(std::chrono::nanoseconds d, F f = {}) {
  return detail::timeout_clause<F>{d, std::move(f)};
}

// Chosen when the context is cancelled. A case like a channel's: if others are ready too, chance
// decides. Costs less than on_recv(ctx.done()), which means the same.
template <class F = detail::nothing>
auto on_done(context ctx, F f = {}) {
  return detail::done_clause<F>{std::move(ctx), std::move(f)};
}

// Chosen at once when no channel is ready.
template <class F = detail::nothing>
auto on_default(F f = {}) {
  return detail::default_clause<F>{std::move(f)};
}

// Waits until one case can go on, carries out exactly that one, runs its function and returns its
// index in the argument list. Among several ready cases the choice is uniformly random. The
// expressions in the arguments are evaluated once, before anything is chosen. Nil channels are
// never ready; a send on a closed channel is, and throws panic_error ("send on closed channel")
// when chosen. select() without any case blocks forever. Parks a task ("select"), blocks a thread.
template <class... Clauses>
int select(Clauses... clauses) {
  constexpr int n = sizeof...(Clauses);
  if constexpr (n == 0) {
    return detail::select_cases(nullptr, 0);
  } else {
    detail::select_case cases[] = {clauses.describe()...};
    int chosen = detail::select_cases(cases, n);
    int i = 0;
    ((i++ == chosen ? clauses.run(cases[chosen].success) : void()), ...);
    return chosen;
  }
}

}  // namespace weft
