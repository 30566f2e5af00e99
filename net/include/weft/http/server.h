#pragma once
// An HTTP/1.1 server.
//
//   weft::http::mux m;
//   m.handle("GET /hello/{name}", hello);
//   weft::http::server s(m);
//   weft::go([&] { wait_for_signal(); s.shutdown(weft::now() + 30s); });
//   s.listen_and_serve(":8080");                    // returns after the shutdown
//
// Each burst of requests on a connection runs in a task of its own, so handlers may block. A
// connection between requests has neither task nor buffer and costs well under 1 KB.
#include <weft/http/handler.h>
#include <weft/http/mux.h>
#include <weft/http/server_options.h>
#include <weft/net/tcp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace weft::http {

struct server_stats {
  // Connections now, by state.
  std::uint64_t idle = 0;    // without a task: between requests, new, or with an incomplete head
  std::uint64_t active = 0;  // in work
  // Since the start.
  std::uint64_t accepted = 0;
  std::uint64_t turned_away = 0;  // answered 503 because of max_connections
  std::uint64_t requests = 0;
  std::uint64_t refused_heads = 0;  // malformed or oversized
  std::uint64_t limits_hit = 0;     // 408, 413, 414, 431
  std::uint64_t handler_exceptions = 0;
  std::uint64_t broken_responses = 0;
  std::uint64_t timeouts = 0;  // head, idle, body and write clocks that ran out
};

class server {
 public:
  // The mux is referred to and must outlive the server. Throws std::invalid_argument for options
  // that make no sense.
  explicit server(handler h, const server_options& options = {});
  explicit server(const mux& m, const server_options& options = {});
  // close(), then waits until every handler has returned.
  ~server();
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  // Accepts and serves until shutdown() has ended the last connection, or close(). Several may run
  // at a time. Call from a task (or any thread while the runtime runs). listen_and_serve throws
  // weft::system_error naming an address it cannot listen on; both throw it when accepting fails
  // for good. After shutdown() or close() both return at once.
  void listen_and_serve(std::string_view address, const net::listen_options& options = {});
  void serve(net::tcp_listener listener);

  // Ends gracefully: the listeners close after taking the connections that wait in their queues;
  // idle connections close at once; requests in work are answered with "Connection: close". Waits
  // for the last connection. At `deadline` it closes the rest, whose handlers see errc::closed, and
  // returns false.
  bool shutdown(std::chrono::steady_clock::time_point deadline);

  // Closes listeners and connections at once. Handlers in work go on; their I/O fails with
  // errc::closed.
  void close();

  // Where the serve calls in progress listen.
  std::vector<net::address> addresses() const;
  // Thread-safe; walks the connections.
  server_stats stats() const;

 private:
  struct impl;
  std::shared_ptr<impl> impl_;
};

}  // namespace weft::http
