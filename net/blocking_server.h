#pragma once
// An HTTP server on plain OS threads, which answers when every worker of the scheduler is stuck.
#include <weft/http/handler.h>
#include <weft/http/server_options.h>

#include <memory>
#include <string>
#include <string_view>

namespace weft::net {

struct blocking_server_options {
  int max_connections = 16;               // each has a thread; further ones are answered 503
  const char* thread_name = "weft-http";  // at most 15 characters
  http::server_options http;
};

class blocking_server {
 public:
  // Listens on `address` ("host:port" or "unix:/path") and starts to serve. A Unix socket is made
  // with mode 0600; a file of that name that is a socket nobody listens on is replaced. Throws
  // weft::system_error naming an address that does not work, std::invalid_argument for bad options.
  blocking_server(http::handler h, std::string_view address,
                  const blocking_server_options& options = {});
  // stop(), then waits until every handler has returned.
  ~blocking_server();
  blocking_server(const blocking_server&) = delete;
  blocking_server& operator=(const blocking_server&) = delete;

  // In the form of the constructor's argument, with the port that the system chose.
  const std::string& address() const noexcept;

  // Closes the listener and all connections. Thread-safe.
  void stop() noexcept;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace weft::net
