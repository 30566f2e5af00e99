#pragma once
// One HTTP/1.1 connection over a transport. Small while idle: requests are served inside serve(),
// which borrows its buffers and gives them back before it returns.
//
//   connection c(transport, env, accepted_at);
//   // when bytes have arrived:
//   switch (c.serve()) {
//     case outcome::idle:     arm(c.deadline()); break;   // call serve() again when readable,
//                                                         // expire() when the deadline passes
//     case outcome::closed:
//     case outcome::hijacked: destroy; break;             // the transport is closed
//   }
//
// serve() and expire() run on one task (or thread) at a time and may block in the transport.
#include <cstdint>
#include <memory>

#include "net/http/environment.h"
#include "net/http/transport.h"

namespace weft::http::detail {

class session;

enum class outcome : std::uint8_t { idle, closed, hijacked };

enum class serve_mode : std::uint8_t {
  return_idle,  // return as soon as waiting for a request would block
  block,        // wait for requests in the transport, until the connection ends
};

class connection {
 public:
  using time_point = http_clock::time_point;

  // `t` and `env` must outlive the connection. `accepted`: the head clock of a new connection
  // starts there, not at its first byte.
  connection(transport& t, const environment& env, time_point accepted);
  ~connection();
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;

  // Serves what has arrived: reads, dispatches, answers, until the input is empty. Never returns
  // idle in serve_mode::block.
  outcome serve(serve_mode mode = serve_mode::return_idle);

  // When an idle connection has to go: end of the head clock while a head is incomplete or none was
  // ever seen, of the idle clock otherwise; time_point::max() if that clock is off.
  time_point deadline() const;

  // Ends an idle connection whose deadline has passed: 408 if a head is incomplete, silence
  // otherwise. May block for as long as the write clock allows.
  outcome expire();

  // Between requests with no byte of the next one: may be closed without anybody losing anything.
  bool is_idle() const { return partial_ == nullptr; }
  std::uint64_t requests() const { return requests_; }

  // Heap bytes held while idle.
  std::size_t idle_bytes() const;

 private:
  friend class session;

  transport& transport_;
  const environment& env_;
  // An incomplete head between two serve() calls, in a block of exactly its size: many slow clients
  // cost the bytes they sent, not a buffer each.
  // Parser state, the fields found so far, then partial_text_ bytes as they came.
  std::unique_ptr<char[]> partial_;
  std::uint32_t partial_size_ = 0;
  std::uint32_t partial_text_ = 0;
  std::uint64_t requests_ = 0;
  // Start of the clock that deadline() reports: accept, first byte of a head, or end of a response.
  time_point since_;
  bool head_started_ = false;
};

}  // namespace weft::http::detail
