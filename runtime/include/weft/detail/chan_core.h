#pragma once
// The channel behind every chan<T>, independent of T.
#include <weft/detail/waiter.h>
#include <weft/result.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>

namespace weft::detail {

struct element_ops {
  size_t size;
  size_t align;
  bool trivial;
  bool traced;                                  // buffered values are seen by the collector
  void (*move)(void* to, void* from) noexcept;  // constructs *to; *from stays to be destroyed
  void (*destroy)(void* p) noexcept;
};

class chan_core;

// What feeds a channel of <weft/time.h>: its only sender, which holds no reference to it.
class chan_source {
 public:
  // The channel's last handle has gone. Outside critical sections; may end the source's life.
  virtual void abandoned() noexcept = 0;

 protected:
  ~chan_source() = default;
};

// Intrusive counted reference.
class chan_ref {
 public:
  chan_ref() noexcept = default;
  explicit chan_ref(chan_core* adopted) noexcept : core_(adopted) {}
  chan_ref(const chan_ref& o) noexcept;
  chan_ref(chan_ref&& o) noexcept : core_(o.core_) { o.core_ = nullptr; }
  chan_ref& operator=(chan_ref o) noexcept {
    chan_core* mine = core_;
    core_ = o.core_;
    o.core_ = mine;
    return *this;
  }
  ~chan_ref();
  explicit operator bool() const noexcept { return core_ != nullptr; }
  chan_core& operator*() const noexcept { return *core_; }
  chan_core* operator->() const noexcept { return core_; }
  chan_core* get() const noexcept { return core_; }
  friend bool operator==(const chan_ref&, const chan_ref&) noexcept = default;

 private:
  chan_core* core_ = nullptr;
};

class chan_core {
 public:
  static chan_ref make(const element_ops& ops, size_t capacity);
  static chan_core& nil() noexcept;

  // `from`: a value, moved from on success. `to`: room for one.
  void send(void* from);
  bool recv(void* to);  // false: closed and drained
  enum class wait_outcome : uint8_t { done, closed, expired };
  wait_outcome send_within(void* from, const wait_limit& limit) noexcept;
  wait_outcome recv_within(void* to, const wait_limit& limit) noexcept;
  bool try_send(void* from);
  bool try_recv(void* to, bool& open);
  void close();
  bool close_inside() noexcept;  // inside a critical section; false: it was closed already
  // A channel with a source has room for one value, but shows itself as unbuffered, as in Go.
  size_t size() const noexcept {
    return source_ == nullptr ? count_.load(std::memory_order_relaxed) : 0;
  }
  size_t capacity() const noexcept { return source_ == nullptr ? capacity_ : 0; }

  void add_ref() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }
  void drop_ref() noexcept;

  // For select, which locks several channels. All with the lock held.
  void lock() noexcept { lock_.lock(); }
  void unlock() noexcept { lock_.unlock(); }
  enum class outcome : uint8_t { would_block, done, closed };
  outcome send_locked(void* from, waiter** to_wake);
  outcome recv_locked(void* to, waiter** to_wake);
  waiter_list& receivers() noexcept { return receivers_; }
  waiter_list& senders() noexcept { return senders_; }

  // For the source, before anybody else knows the channel.
  void set_source(chan_source* s) noexcept { source_ = s; }
  chan_source* source() const noexcept { return source_; }
  // Drops what is buffered; true if there was something. For the source, with the lock held.
  bool discard_locked() noexcept;

 private:
  friend struct debug_offsets;

  chan_core(const element_ops& ops, size_t capacity, std::byte* buffer) noexcept
      : capacity_(capacity), ops_(ops), buffer_(buffer) {}
  ~chan_core() = default;

  wait_outcome wait_locked(waiter& me, waiter_list& list, const wait_limit& limit,
                           sched::wait_reason reason) noexcept;
  void* at(size_t i) noexcept { return buffer_ + i * ops_.size; }
  void move(void* to, void* from) noexcept;
  void empty(void* slot) noexcept;  // ends the life of the value there
  waiter* pop_receiver() noexcept;
  waiter* pop_sender() noexcept;
  static waiter* pop_claimed(waiter_list& list) noexcept;

  small_lock lock_;
  bool closed_ = false;
  bool nil_ = false;
  std::atomic<uint32_t> refs_{1};
  std::atomic<size_t> count_{0};
  size_t capacity_;
  size_t head_ = 0;
  chan_source* source_ = nullptr;
  const element_ops& ops_;
  std::byte* buffer_;
  waiter_list receivers_;
  waiter_list senders_;
};

// send and recv with a limit: no error, errc::channel_closed, errc::timed_out or the context's.
error_code send_limited(chan_core& c, void* from, std::chrono::nanoseconds d);
error_code send_limited(chan_core& c, void* from, std::chrono::steady_clock::time_point t);
error_code send_limited(chan_core& c, void* from, const context& ctx);
error_code recv_limited(chan_core& c, void* to, std::chrono::nanoseconds d);
error_code recv_limited(chan_core& c, void* to, std::chrono::steady_clock::time_point t);
error_code recv_limited(chan_core& c, void* to, const context& ctx);

inline chan_ref::chan_ref(const chan_ref& o) noexcept : core_(o.core_) {
  if (core_ != nullptr) core_->add_ref();
}
inline chan_ref::~chan_ref() {
  if (core_ != nullptr) core_->drop_ref();
}

}  // namespace weft::detail
