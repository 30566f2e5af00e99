#pragma once
// chan<T>: typed channels with Go's semantics.
//
//   weft::chan<int> c(8);                      // capacity 8; chan<int> c(0) is unbuffered
//   weft::go([c] { for (int i = 0; i < 3; ++i) c.send(i); c.close(); });
//   for (int v : c) use(v);                    // until closed and drained
//
// A chan is a handle: copies refer to the same channel, which lives as long as one of them. A
// default-constructed handle is the nil channel: sending and receiving block forever, select
// ignores it. Waiting senders and receivers are served in FIFO order. A task that waits is parked
// ("chan receive", "chan send"); a thread that is no task blocks. All operations are thread-safe.
//
// Objects of the collected heap travel as weft::gc::ref<T>: the collector sees the buffers of such
// channels, but not raw pointers in those of others (gc/detail/slot.h, gc::buffered_refs).
#include <weft/detail/chan_core.h>
#include <weft/error.h>
#include <weft/gc/detail/slot.h>

#include <chrono>
#include <cstddef>
#include <iterator>
#include <optional>
#include <type_traits>
#include <utility>

namespace weft {

namespace detail {
template <class T>
inline constexpr element_ops element_ops_for = {
    sizeof(T),
    alignof(T),
    std::is_trivially_copyable_v<T>,
    gc::buffered_refs<T>,
    [](void* to, void* from) noexcept { ::new (to) T(std::move(*static_cast<T*>(from))); },
    [](void* p) noexcept { static_cast<T*>(p)->~T(); }};
}  // namespace detail

template <class T>
class recv_chan;
template <class T>
class send_chan;

template <class T>
class chan {
  static_assert(
      std::is_nothrow_move_constructible_v<T>,
      "weft::chan<T> needs a nothrow move constructor: values move under the channel's lock. "
      "Send a std::unique_ptr<T> instead");
  static_assert(!std::is_reference_v<T> && !std::is_const_v<T>,
                "weft::chan<T>: T must be an object");
  static_assert(!gc::buffered_refs<T> || alignof(T) <= 16,
                "weft::chan<T>: a T with references must not be over-aligned");

 public:
  // The nil channel.
  chan() noexcept = default;

  // Makes a channel that buffers up to `capacity` values. Throws panic_error ("makechan: size out
  // of range") when that many cannot be addressed.
  explicit chan(size_t capacity)
      : core_(detail::chan_core::make(detail::element_ops_for<T>, capacity)) {}

  // Waits until a receiver or buffer space takes v. Throws panic_error ("send on closed channel")
  // if the channel is closed, also while waiting.
  void send(T v) const { core().send(&v); }

  // Waits for a value; nullopt once the channel is closed and drained.
  std::optional<T> recv() const {
    slot s;
    if (!core().recv(&s)) return std::nullopt;
    return s.take();
  }

  // As send and recv, but false / nullopt instead of waiting. To tell "empty" from "closed", see
  // the overload with `open`.
  bool try_send(T v) const { return core().try_send(&v); }
  std::optional<T> try_recv() const {
    bool open;
    return try_recv(open);
  }
  // `open` becomes false when the channel is closed and drained.
  std::optional<T> try_recv(bool& open) const {
    slot s;
    if (!core().try_recv(&s, open)) return std::nullopt;
    return s.take();
  }

  // With a limit. Errors: errc::channel_closed (recv: and drained), errc::timed_out, or the
  // context's, errc::canceled or errc::context_deadline_exceeded. On an error nothing has happened:
  // a value to send is still the caller's (it is moved from on success only), and none was taken.
  // What is possible at once is done even if the time has passed; but not if the context is
  // cancelled.
  [[nodiscard]] result<void> send_for(T&& v, std::chrono::nanoseconds d) const {
    return send_within(v, d);
  }
  [[nodiscard]] result<void> send_until(T&& v, std::chrono::steady_clock::time_point t) const {
    return send_within(v, t);
  }
  [[nodiscard]] result<void> send(const context& ctx, T&& v) const { return send_within(v, ctx); }
  [[nodiscard]] result<void> send_for(const T& v, std::chrono::nanoseconds d) const {
    return send_for(T(v), d);
  }
  [[nodiscard]] result<void> send_until(const T& v, std::chrono::steady_clock::time_point t) const {
    return send_until(T(v), t);
  }
  [[nodiscard]] result<void> send(const context& ctx, const T& v) const { return send(ctx, T(v)); }
  [[nodiscard]] result<T> recv_for(std::chrono::nanoseconds d) const { return recv_within(d); }
  [[nodiscard]] result<T> recv_until(std::chrono::steady_clock::time_point t) const {
    return recv_within(t);
  }
  [[nodiscard]] result<T> recv(const context& ctx) const { return recv_within(ctx); }

  // No more values will be sent: receivers drain the buffer and then get nullopt, blocked senders
  // throw. Throws panic_error for a closed ("close of closed channel") or nil channel.
  void close() const { core().close(); }

  size_t size() const noexcept { return core_ ? core_->size() : 0; }          // values buffered now
  size_t capacity() const noexcept { return core_ ? core_->capacity() : 0; }  // as constructed
  bool is_nil() const noexcept { return !core_; }
  friend bool operator==(const chan&, const chan&) noexcept = default;

  // Range-for receives until the channel is closed and drained.
  class iterator {
   public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;
    T& operator*() const noexcept { return *current_; }
    iterator& operator++() {
      current_ = from_->recv();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const noexcept { return !current_.has_value(); }

   private:
    friend chan;
    explicit iterator(const chan* from) : from_(from), current_(from->recv()) {}
    const chan* from_;
    mutable std::optional<T> current_;
  };
  iterator begin() const { return iterator(this); }
  std::default_sentinel_t end() const noexcept { return {}; }

  // For the runtime.
  explicit chan(detail::chan_ref core) noexcept : core_(std::move(core)) {}
  const detail::chan_ref& ref() const noexcept { return core_; }

 private:
  friend recv_chan<T>;
  friend send_chan<T>;

  // Raw room for one value.
  struct slot {
    alignas(T) std::byte room[sizeof(T)];
    std::optional<T> take() {
      T* v = std::launder(reinterpret_cast<T*>(room));
      std::optional<T> out(std::move(*v));
      v->~T();
      return out;
    }
  };

  template <class Limit>
  result<void> send_within(T& v, const Limit& limit) const {
    if (error_code e = detail::send_limited(core(), &v, limit)) return e;
    return {};
  }
  template <class Limit>
  result<T> recv_within(const Limit& limit) const {
    slot s;
    if (error_code e = detail::recv_limited(core(), &s, limit))
      return result<T>(boost::system::in_place_error, e);  // T may be error_code
    return result<T>(boost::system::in_place_value, *s.take());
  }

  detail::chan_core& core() const { return core_ ? *core_ : detail::chan_core::nil(); }
  detail::chan_ref core_;
};

// The receiving end only. Default-constructed: the nil channel.
template <class T>
class recv_chan {
 public:
  recv_chan() noexcept = default;
  recv_chan(const chan<T>& c) noexcept
      : chan_(c) {}  // NOLINT: as in Go, a channel converts to its ends
  std::optional<T> recv() const { return chan_.recv(); }
  std::optional<T> try_recv() const { return chan_.try_recv(); }
  std::optional<T> try_recv(bool& open) const { return chan_.try_recv(open); }
  [[nodiscard]] result<T> recv_for(std::chrono::nanoseconds d) const { return chan_.recv_for(d); }
  [[nodiscard]] result<T> recv_until(std::chrono::steady_clock::time_point t) const {
    return chan_.recv_until(t);
  }
  [[nodiscard]] result<T> recv(const context& ctx) const { return chan_.recv(ctx); }
  size_t size() const noexcept { return chan_.size(); }
  size_t capacity() const noexcept { return chan_.capacity(); }
  bool is_nil() const noexcept { return chan_.is_nil(); }
  auto begin() const { return chan_.begin(); }
  auto end() const noexcept { return chan_.end(); }
  const detail::chan_ref& ref() const noexcept { return chan_.ref(); }

 private:
  chan<T> chan_;
};

// The sending end only. Default-constructed: the nil channel.
template <class T>
class send_chan {
 public:
  send_chan() noexcept = default;
  send_chan(const chan<T>& c) noexcept
      : chan_(c) {}  // NOLINT: as in Go, a channel converts to its ends
  void send(T v) const { chan_.send(std::move(v)); }
  bool try_send(T v) const { return chan_.try_send(std::move(v)); }
  [[nodiscard]] result<void> send_for(T&& v, std::chrono::nanoseconds d) const {
    return chan_.send_for(std::move(v), d);
  }
  [[nodiscard]] result<void> send_until(T&& v, std::chrono::steady_clock::time_point t) const {
    return chan_.send_until(std::move(v), t);
  }
  [[nodiscard]] result<void> send(const context& ctx, T&& v) const {
    return chan_.send(ctx, std::move(v));
  }
  [[nodiscard]] result<void> send_for(const T& v, std::chrono::nanoseconds d) const {
    return chan_.send_for(v, d);
  }
  [[nodiscard]] result<void> send_until(const T& v, std::chrono::steady_clock::time_point t) const {
    return chan_.send_until(v, t);
  }
  [[nodiscard]] result<void> send(const context& ctx, const T& v) const {
    return chan_.send(ctx, v);
  }
  void close() const { chan_.close(); }
  size_t size() const noexcept { return chan_.size(); }
  size_t capacity() const noexcept { return chan_.capacity(); }
  bool is_nil() const noexcept { return chan_.is_nil(); }
  const detail::chan_ref& ref() const noexcept { return chan_.ref(); }

 private:
  chan<T> chan_;
};

}  // namespace weft
