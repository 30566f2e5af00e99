#pragma once
// What a handler sees of the request. Views point into the connection's buffer and are valid until
// the handler returns; own() makes a copy that lives on.
//
//   void hello(weft::http::response_writer& w, weft::http::request& r) {
//     w.write("hello ");
//     w.write(r.path_value("name"));
//   }
//
// Thread-safety: one task at a time.
#include <weft/context.h>
#include <weft/http/error.h>
#include <weft/http/params.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::http {

namespace detail {
struct exchange;
struct exchange_deleter {
  void operator()(exchange* x) const noexcept;
};
struct access;
}  // namespace detail

// The request body as a stream. Reading it the first time sends "100 Continue" if the client waits
// for that. Blocks (parks a task) until bytes arrive; a client that sends slower than the body
// clock of server_options allows gets errc::deadline_exceeded.
class body_reader {
 public:
  explicit body_reader(detail::exchange* x) noexcept : x_(x) {}

  // Reads 1 to into.size() bytes. errc::eof after the last byte (and at once if there is no body);
  // error::malformed_body, error::body_truncated and transport errors end the connection after the
  // response. `into` must not be empty.
  result<std::size_t> read(std::span<char> into);

  // Bytes still to come when the client announced them; nullopt for a chunked body.
  std::optional<std::uint64_t> remaining() const noexcept;

 private:
  detail::exchange* x_;
};

class request {
 public:
  request(request&&) noexcept = default;
  request& operator=(request&&) noexcept = default;

  std::string_view method() const noexcept;
  // The target exactly as sent ("/a%20b?c=d", "http://host/…", "*").
  std::string_view target() const noexcept;
  // Path of the target, still percent-encoded; never empty ("/" for "http://host"), "*" for "*".
  std::string_view raw_path() const noexcept;
  // The path decoded. An encoded slash becomes a plain one here; segments() keeps it apart.
  std::string_view path();
  // The decoded segments between slashes: "/a/b%2Fc/" gives {"a", "b/c", ""}.
  std::span<const std::string_view> segments();
  // What mux::mount left over, percent-encoded, starting with '/'. Without a mount: raw_path().
  std::string_view raw_subpath() const noexcept;
  // The same decoded, without the leading slash: "heap" for /debug/pprof/heap under /debug/pprof.
  std::string subpath() const;
  // Raw query without '?'.
  std::string_view query() const noexcept;
  const params& query_params();
  // First value of a query parameter, "" if absent.
  std::string_view query_value(std::string_view name) { return query_params().get(name); }

  // 10 or 11.
  int version() const noexcept;
  // Authority of an absolute target, else the Host field; "" possible on HTTP/1.0 only.
  std::string_view host() const noexcept;
  // Address of the peer as the listener prints it ("192.0.2.1:5312").
  std::string_view remote_address() const noexcept;

  // First field of this name in any case, "" if absent.
  std::string_view header(std::string_view name) const noexcept;
  bool has_header(std::string_view name) const noexcept;
  std::vector<std::string_view> header_values(std::string_view name) const;
  std::size_t header_count() const noexcept;
  // Name (as sent) and value of field i < header_count(), in the order sent.
  std::pair<std::string_view, std::string_view> header_at(std::size_t i) const noexcept;
  // Trailer field of a chunked body; only after the body was read to its end. Names that change
  // framing, routing or credentials never appear here.
  std::string_view trailer(std::string_view name) const noexcept;

  // Value of {name} in the pattern that matched, decoded; "" if there is none of that name.
  std::string_view path_value(std::string_view name) const noexcept;
  // The mux pattern that matched ("GET /users/{id}"), "" before routing.
  std::string_view pattern() const noexcept;

  body_reader body() noexcept { return body_reader(x_); }
  // The rest of the body as one string. error::body_too_large if it is longer than `limit`
  // (default: server_options::max_body), known lengths without reading a byte.
  result<std::string> read_all(std::optional<std::uint64_t> limit = std::nullopt);
  // Parameters of an application/x-www-form-urlencoded body followed by those of the query, so that
  // the body wins; with any other or no body, those of the query. Reads the body at the first call;
  // the error of that reading is thrown as weft::system_error, try_form() returns it.
  const params& form();
  result<const params*> try_form();

  // True once the peer has closed or reset the connection; never blocks. A long computation may
  // look at it between steps.
  bool disconnected() const noexcept;

  // Cancelled when the client closes or resets its side of the connection, when the server is
  // closed or shutdown() gives up waiting, and when the handler returns. Made at the first call, so
  // a handler that does not ask pays nothing; a disconnect is noticed by the connection's standing
  // registration, without a task that watches. Pass it on, or run under it:
  // with_context(r.context(), f). Of a copy made by own(): background(). Where the server runs on
  // plain threads only the handler's return cancels.
  weft::context context();

  // A copy of everything but the body, independent of the connection.
  request own() const;

 private:
  friend struct detail::access;
  explicit request(detail::exchange* x) noexcept : x_(x) {}

  detail::exchange* x_;
  std::unique_ptr<detail::exchange, detail::exchange_deleter> owned_;
};

}  // namespace weft::http
