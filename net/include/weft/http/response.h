#pragma once
// The answer a handler writes. Nothing leaves before 8 KB are buffered, flush() is called or the
// handler returns, so a short answer costs one send and carries its exact Content-Length; a longer
// one of unknown length is chunked (HTTP/1.0: ended by closing).
//
//   w.header("Content-Type", "text/plain; charset=utf-8");
//   w.write("hello\n");
//
// Date and the framing fields are set here; no Content-Type is guessed. Thread-safety: one task.
#include <weft/http/error.h>
#include <weft/http/status.h>

#include <cstdint>
#include <string_view>

namespace weft::http {

class raw_stream;

namespace detail {
class response_state;
struct access;
}  // namespace detail

class response_writer {
 public:
  response_writer(const response_writer&) = delete;
  response_writer& operator=(const response_writer&) = delete;

  // Status of the answer, 200 if never called; 100 to 999 except 100, 102 and 103 (101 belongs to
  // hijack()), else std::invalid_argument. std::logic_error after the first write() or flush(): the
  // head is decided then.
  void status(int code);
  int status() const noexcept;

  // Sets a field, replacing earlier ones of the name; add_header() appends one (Set-Cookie).
  // std::invalid_argument if the name is not a token or the value holds CR, LF, NUL or another
  // control character; also for Transfer-Encoding, which only the server sets, and for a
  // Content-Length that is no number. std::logic_error after the first write() or flush().
  void header(std::string_view name, std::string_view value);
  void add_header(std::string_view name, std::string_view value);
  void remove_header(std::string_view name);
  // First value set so far under this name, "" if none.
  std::string_view header(std::string_view name) const noexcept;

  // Announces the exact body length: no chunking then. Writing more fails with
  // error::content_length_exceeded; writing less answers 500, or resets if the head has left.
  void content_length(std::uint64_t length);

  // Appends to the body. Blocks (parks a task) while the peer does not read; a peer that reads
  // slower than the write clock of server_options allows gives errc::deadline_exceeded, a closed
  // connection its error: nothing can be delivered any more then. On HEAD the bytes are only
  // counted.
  result<void> write(std::string_view bytes);

  // Sends what is buffered, head included.
  result<void> flush();

  // Status, Content-Type, exact length and body in one call.
  result<void> respond(int code, std::string_view content_type, std::string_view body);

  // Body bytes written so far; whether the first byte of the head has left for the peer.
  std::uint64_t bytes_written() const noexcept;
  bool head_sent() const noexcept;
  // Closes the connection after this answer.
  void close_connection() noexcept;

  // Takes the connection over (WebSocket, own protocols): after status(101) the head is sent first,
  // otherwise nothing of a response is. std::logic_error after the first write().
  raw_stream& hijack();

 private:
  friend struct detail::access;
  explicit response_writer(detail::response_state* state) noexcept : state_(state) {}

  detail::response_state* state_;
};

// Answers with a plain-text message and a newline, marked nosniff: the form every error page has.
void error_page(response_writer& w, int code, std::string_view message);

// Answers with a redirect; unsafe bytes of `location` are percent-encoded.
void redirect(response_writer& w, int code, std::string_view location);

}  // namespace weft::http
