#pragma once
// Limits and clocks of an HTTP server. Every default is safe for a server on the open Internet.
#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>

namespace weft::http {

// Something the log should know: a refused request, a handler's exception, a broken response.
struct error_event {
  std::string_view remote;  // address of the peer
  int status;               // status answered, 0 if none could be
  std::string_view reason;  // the rule or limit that was broken, or the exception's what()
  std::string_view method;  // "" if the head was not understood
  std::string_view target;
};

struct server_options {
  using milliseconds = std::chrono::milliseconds;

  // -- limits; the status answered when one is passed
  std::uint32_t max_request_line = 8192;   // bytes; 414
  std::uint32_t max_header_field = 16384;  // bytes of one field line; 431
  std::uint32_t max_head = 65536;          // bytes of request line and fields, at most 65536; 431
  std::uint32_t max_header_fields = 100;   // at most 128; 431
  std::uint64_t max_body = 32u << 20;  // bytes read_all() and form() take; streaming has none; 413
  std::uint32_t max_chunk_extension = 256;  // bytes per chunk; 400
  bool allow_high_target = false;           // accept bytes >= 0x80 in the target
  std::uint64_t max_requests = 0;           // requests on one connection, 0 = no limit
  std::uint32_t max_pipelined = 16;         // answers gathered before a flush and a turn for others
  std::uint32_t max_connections = 0;        // open at a time, 0 = no limit; 503 and close beyond it
  std::uint64_t max_drain = 256 << 10;      // unread body bytes skipped to keep a connection alive

  // -- clocks; 0 switches one off
  milliseconds head_timeout{
      10'000};  // whole head, from its first byte (new connection: accept); 408
  milliseconds idle_timeout{
      75'000};                      // between requests; longer than the balancer's, or it sees 502
  milliseconds body_grace{10'000};  // waiting for body bytes is free for this long, then
  std::uint32_t body_min_rate = 1024;  // this many bytes per second are asked for; 408
  milliseconds write_grace{10'000};    // the same for a peer that does not read
  std::uint32_t write_min_rate = 1024;
  milliseconds linger_timeout{1'000};  // reading on after an early close, so that no RST eats it

  // Called for every error_event from the task that met it; must not throw. The views are valid
  // during the call only.
  std::function<void(const error_event&)> on_error;

  // Throws std::invalid_argument naming the option, its value and the range if one makes no sense.
  void check() const;
};

}  // namespace weft::http
