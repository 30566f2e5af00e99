#pragma once
// The state behind one `request`: the parsed head, what routing added, and what was decoded on
// demand. It lives in the connection's workspace block and is reset, not rebuilt, per request.
#include <weft/context.h>
#include <weft/http/request.h>
#include <weft/http/response.h>

#include <deque>
#include <optional>
#include <string>

#include "net/http/parse_head.h"

namespace weft::http::detail {

// Where body bytes come from; the connection implements it.
class body_source {
 public:
  virtual result<std::size_t> read_body(std::span<char> into) = 0;
  virtual std::optional<std::uint64_t> body_remaining() const = 0;
  // "Name: value\n" lines, complete once the body ended.
  virtual std::string_view trailers() const = 0;
  virtual std::uint64_t default_body_limit() const = 0;
  virtual bool peer_closed() const = 0;
  virtual weft::context request_context() = 0;

 protected:
  ~body_source() = default;
};

struct path_param {
  std::string_view name;   // in the mux's pattern
  std::string_view value;  // decoded: in the head, or in decoded_parts::values
};

// Go's limit is none; a pattern with more wildcards is refused at registration.
inline constexpr unsigned max_path_params = 16;

// What only some handlers ask for; made at the first question.
struct decoded_parts {
  std::optional<std::string> path;
  bool have_segments = false;
  std::vector<std::string_view> segments;
  std::optional<params> query;
  std::optional<params> form;
  std::deque<std::string> values;  // decoded pieces that views point to; a deque never moves them
};

struct exchange {
  head h;
  const char* base = nullptr;  // first byte of the head
  body_source* body = nullptr;
  std::string_view remote;
  std::string_view pattern;
  std::uint32_t mounted = 0;  // bytes of the raw path consumed by mux::mount
  std::uint32_t param_count = 0;
  path_param path_params[max_path_params];
  std::unique_ptr<decoded_parts> decoded;
  std::unique_ptr<char[]> owned_text;  // the head's bytes, for a copy made by own()

  decoded_parts& parts() {
    if (!decoded) decoded = std::make_unique<decoded_parts>();
    return *decoded;
  }
  std::string_view raw_path() const {
    std::string_view path = h.path.of(base);
    if (!path.empty()) return path;
    return h.form == target_form::asterisk ? std::string_view("*") : std::string_view("/");
  }
  // Forgets the last request's routing and decoded parts; the head is reset by the parser's caller.
  void reset_routing() {
    pattern = {};
    mounted = 0;
    param_count = 0;
    if (decoded) decoded.reset();
  }
};

// The door from public objects to their state.
struct access {
  static exchange& state(request& r) { return *r.x_; }
  static response_state& state(response_writer& w) { return *w.state_; }
  static request make_request(exchange* x) { return request(x); }
  static response_writer make_writer(response_state* s) { return response_writer(s); }
};

}  // namespace weft::http::detail
