#pragma once
// TCP connections and listeners in blocking style: a task that waits is parked ("IO wait") and
// costs no thread; a plain thread blocks.
//
//   weft::net::tcp_listener l = weft::net::listen("tcp", ":7000");
//   for (;;) {
//     weft::go([c = l.accept()]() mutable {
//       char buffer[4096];
//       while (auto n = c.try_read(buffer)) c.write({buffer, *n});
//     });
//   }
//
// Each operation has a form that throws weft::system_error and a try_ form that returns
// weft::result. Errors: errc::eof (the peer has ended its stream; never a zero-byte success),
// errc::closed, errc::deadline_exceeded, else the system's (connection_reset, broken_pipe, …).
//
// What may wait also takes a context as its first argument: it fails with ctx.err() when the
// context is cancelled while it waits, and at once if it was before. That ends this one call; the
// connection or listener stays as usable as after a deadline, and a read that fails so has taken no
// bytes.
//
// Thread-safety: any number of tasks and threads may use one connection or listener at a time;
// readers take turns, and so do writers. close() may come from anywhere. Moving, assigning and
// destroying need the object for themselves. The runtime must be running (weft::run) for anything
// that waits.
#include <weft/net/address.h>
#include <weft/result.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <utility>

namespace weft {
class context;
}
namespace weft::detail {
class cancel_source;
}

namespace weft::net {

class descriptor;

// A deadline. The epoch (a default-constructed one) and max() mean none.
using time_point = std::chrono::steady_clock::time_point;

// Owns a descriptor; moves, never copies.
class descriptor_handle {
 public:
  descriptor_handle() noexcept = default;
  explicit descriptor_handle(descriptor* d) noexcept : d_(d) {}
  descriptor_handle(descriptor_handle&& other) noexcept : d_(std::exchange(other.d_, nullptr)) {}
  descriptor_handle& operator=(descriptor_handle&& other) noexcept {
    if (this != &other) {
      reset();
      d_ = std::exchange(other.d_, nullptr);
    }
    return *this;
  }
  ~descriptor_handle() { reset(); }

  descriptor* get() const noexcept { return d_; }
  void reset() noexcept;

 private:
  descriptor* d_ = nullptr;
};

class tcp_conn {
 public:
  // Not connected: every operation fails with errc::closed.
  tcp_conn() noexcept = default;

  // Takes a connected stream socket over (TCP or Unix) and makes it non-blocking. On an error the
  // caller keeps it.
  static result<tcp_conn> adopt(int fd);

  // Reads 1 to into.size() bytes, waiting for the first; 0 only if `into` is empty.
  std::size_t read(std::span<char> into) { return try_read(into).value(); }
  result<std::size_t> try_read(std::span<char> into);
  std::size_t read(const context& ctx, std::span<char> into) { return try_read(ctx, into).value(); }
  result<std::size_t> try_read(const context& ctx, std::span<char> into);
  // The same without waiting: operation_would_block if nothing is there. Knows without a system
  // call that the last read emptied the socket.
  result<std::size_t> try_read_now(std::span<char> into);
  // Fills `into`. errc::eof if the stream ended before the first byte, boost::system::errc::
  // connection_aborted if it ended in the middle.
  void read_full(std::span<char> into) { try_read_full(into).value(); }
  result<void> try_read_full(std::span<char> into);
  void read_full(const context& ctx, std::span<char> into) { try_read_full(ctx, into).value(); }
  result<void> try_read_full(const context& ctx, std::span<char> into);

  // Writes all bytes, waiting while the peer does not read. After an error some may have been sent;
  // `written`, if given, says how many. Writes of several tasks do not mix. Never raises SIGPIPE.
  void write(std::string_view bytes) { try_write(bytes).value(); }
  result<void> try_write(std::string_view bytes, std::size_t* written = nullptr);
  void write(const context& ctx, std::string_view bytes) { try_write(ctx, bytes).value(); }
  result<void> try_write(const context& ctx, std::string_view bytes,
                         std::size_t* written = nullptr);
  // Writes all pieces in order, gathered into as few system calls as possible.
  void write(std::span<const std::string_view> pieces) { try_write(pieces).value(); }
  void write(std::initializer_list<std::string_view> pieces) {
    write(std::span(pieces.begin(), pieces.size()));
  }
  result<void> try_write(std::span<const std::string_view> pieces, std::size_t* written = nullptr);
  result<void> try_write(const context& ctx, std::span<const std::string_view> pieces,
                         std::size_t* written = nullptr);
  // Writes what the socket takes, at least one byte unless `bytes` is empty.
  result<std::size_t> try_write_some(std::string_view bytes);

  // Absolute; for pending and later calls. One in the past fails them at once with
  // errc::deadline_exceeded, and keeps failing later ones until it is moved. Costs a store most
  // times.
  void set_deadline(time_point t) noexcept;
  void set_read_deadline(time_point t) noexcept;
  void set_write_deadline(time_point t) noexcept;

  // Sends FIN; reading goes on.
  void shutdown_write() { try_shutdown_write().value(); }
  result<void> try_shutdown_write();
  // Ends the connection; pending and later calls fail with errc::closed. False if it was closed
  // already.
  bool close() noexcept;
  // Closes so that the peer sees a reset and unsent data is dropped.
  bool reset() noexcept;
  // False for a default-constructed, moved-from or closed one.
  bool is_open() const noexcept;
  // The peer is known to have closed or reset. Never waits; unread data may still be there.
  bool peer_closed() const noexcept;

  address local_address() const noexcept;
  address remote_address() const noexcept { return remote_; }

  // The file descriptor, -1 when closed. It stays this object's: do not close it, nor make it
  // blocking.
  int native_handle() const noexcept;

  // For the layers above.
  descriptor* handle() const noexcept { return d_.get(); }

 private:
  friend class tcp_listener;
  friend struct tcp_access;
  tcp_conn(descriptor* d, const address& remote) noexcept : d_(d), remote_(remote) {}
  result<std::size_t> read_until(std::span<char> into, detail::cancel_source* stop);
  result<void> read_full_until(std::span<char> into, detail::cancel_source* stop);
  result<void> write_until(std::span<const std::string_view> pieces, std::size_t* written,
                           detail::cancel_source* stop);

  descriptor_handle d_;
  address remote_;
};

struct listen_options {
  int backlog = 4096;  // connections that wait for accept(); the system may allow fewer
  // Accepted connections inherit these.
  bool no_delay = true;                 // send at once instead of gathering small segments
  std::chrono::seconds keep_alive{15};  // probes on a silent connection; 0: none
  bool reuse_port = false;              // let other listeners bind to the same address
};

class tcp_listener {
 public:
  tcp_listener() noexcept = default;

  // Waits for a connection. Running out of file descriptors or memory is no error: the wait goes on
  // with growing pauses, one line on stderr says so.
  tcp_conn accept() { return try_accept().value(); }
  result<tcp_conn> try_accept();
  tcp_conn accept(const context& ctx) { return try_accept(ctx).value(); }
  result<tcp_conn> try_accept(const context& ctx);
  // The same without waiting: operation_would_block if none is there.
  result<tcp_conn> try_accept_now();

  // For pending and later accepts, as tcp_conn's.
  void set_deadline(time_point t) noexcept;

  // Stops listening; pending and later accepts fail with errc::closed. False if it was closed
  // already.
  bool close() noexcept;
  bool is_open() const noexcept;

  // Where it listens, with the port that the system chose for port 0.
  address local_address() const noexcept { return local_; }
  int native_handle() const noexcept;
  descriptor* handle() const noexcept { return d_.get(); }

 private:
  friend struct tcp_access;
  tcp_listener(descriptor* d, const address& local) noexcept : d_(d), local_(local) {}
  result<tcp_conn> accept_until(const context* ctx);

  descriptor_handle d_;
  address local_;
};

// Listens on "host:port" (":8080": all addresses, IPv6 and IPv4; port 0: any free one). network:
// "tcp", "tcp4" or "tcp6"; another one throws std::invalid_argument. The throwing form names the
// address in its message. SO_REUSEADDR is set.
tcp_listener listen(std::string_view network, std::string_view address,
                    const listen_options& options = {});
result<tcp_listener> try_listen(std::string_view network, std::string_view address,
                                const listen_options& options = {});

// Connects to "host:port", trying the host's addresses in order; the error is that of the last one.
// The deadline covers all attempts, but cannot interrupt the resolution of a name. TCP_NODELAY is
// set.
tcp_conn dial(std::string_view address, time_point deadline = {});
result<tcp_conn> try_dial(std::string_view address, time_point deadline = {});
// The same under a context, whose deadline is the limit. An attempt that is cancelled is taken back
// from the system too.
tcp_conn dial(const context& ctx, std::string_view address);
result<tcp_conn> try_dial(const context& ctx, std::string_view address);

}  // namespace weft::net
