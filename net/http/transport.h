#pragma once
// What an HTTP connection needs from below: a byte stream in blocking style. In a task its calls
// park, on a plain thread they block; HTTP neither knows nor cares. Implementations: TCP and TLS
// connections, the in-memory pipe of the tests.
#include <weft/result.h>

#include <chrono>
#include <span>
#include <string_view>

namespace weft::net {
struct starter;
}

namespace weft::http::detail {

class transport {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr time_point no_deadline = time_point::max();

  virtual ~transport() = default;

  // Reads at least one byte; 0 means that the peer has ended its stream. errc::deadline_exceeded
  // when the read deadline passes. `into` is never empty.
  virtual result<std::size_t> read(std::span<char> into) = 0;
  // The same without ever waiting: operation_would_block if nothing is there. Called before every
  // read(), so it should know without a system call that the last read drained the socket.
  virtual result<std::size_t> read_now(std::span<char> into) = 0;
  // Writes all pieces in order, in one system call if it can.
  virtual result<void> write(std::span<const std::string_view> pieces) = 0;

  // For sending at moments when nothing may wait. hold() keeps the stream from being closed for
  // good until release(), and is false if there is no such way to send; write_now(), between the
  // two, sends what can be sent at once and returns how much: 0 also on an error, which the next
  // write() finds.
  virtual bool hold() { return false; }
  virtual void release() {}
  virtual std::size_t write_now(std::string_view) noexcept { return 0; }

  // Absolute; apply to the calls that follow. A store, not a timer operation: set per request.
  virtual void set_read_deadline(time_point at) = 0;
  virtual void set_write_deadline(time_point at) = 0;

  // Sends FIN and keeps reading possible.
  virtual void shutdown_write() = 0;
  virtual void close() = 0;
  // Closes so that the peer sees a reset: the only way to mark a close-delimited answer as broken.
  virtual void reset() { close(); }

  // The peer is known to have closed or reset. Never waits.
  virtual bool peer_closed() const { return false; }
  // Has `s` started in a task once peer_closed() is true or the transport is closed from elsewhere.
  // False if that is so already, or if this transport cannot tell. Taken back before the transport
  // ends; unwatch_close() is false if `s` was started.
  virtual bool watch_close(net::starter*) { return false; }
  virtual bool unwatch_close(net::starter*) { return false; }
  virtual std::string_view remote_address() const { return {}; }
};

// read_now's "nothing there" as an error.
inline error_code would_block_error() noexcept {
  return {EAGAIN, boost::system::system_category()};
}
inline bool is_would_block(const error_code& e) noexcept {
  return e == boost::system::errc::operation_would_block ||
         e == boost::system::errc::resource_unavailable_try_again;
}

}  // namespace weft::http::detail
