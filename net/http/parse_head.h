#pragma once
// The seam behind which the HTTP/1 request head is understood: bytes in, views or an error out. The
// parser copies nothing and keeps no pointer, so the bytes may move between calls; the remembered
// scan position makes a head that dribbles in cost O(n) in total.
//
//   detail::head h;                                    // or h.reset() for the next message
//   auto r = parse_head(bytes_so_far, h, limits);      // the same bytes plus what arrived since
//   if (r.state == parse_state::need_more) ...         // read on, call again
//   if (r.state == parse_state::error) ...             // answer r.status, close
//   std::string_view target = h.target.of(bytes_so_far);
#include <cstdint>
#include <string_view>

#include "net/http/header_names.h"

namespace weft::http::detail {

// A piece of the head, relative to its first byte.
struct span16 {
  std::uint16_t offset = 0;
  std::uint16_t length = 0;
  std::string_view of(std::string_view bytes) const { return bytes.substr(offset, length); }
  std::string_view of(const char* base) const { return {base + offset, length}; }
};

struct field_view {
  span16 name;   // as sent, case kept
  span16 value;  // without surrounding white space
  known_header id;
};

// How many fields a head can hold at most; head_limits::fields may only be lower.
inline constexpr unsigned max_field_capacity = 128;
// 16-bit offsets reach this far; head_limits::head may only be lower.
inline constexpr std::uint32_t max_head_capacity = 65536;

struct head_limits {
  std::uint32_t request_line = 8192;  // bytes without CRLF; over it: 414
  std::uint32_t field = 16384;        // bytes of one field line without CRLF; over it: 431
  std::uint32_t head = 65536;         // bytes of the whole head; over it: 431
  std::uint32_t fields = 100;         // number of field lines; over it: 431
  bool allow_high_target = false;  // bytes >= 0x80 in the target (never valid, some clients send)
};

enum class target_form : std::uint8_t { origin, absolute, asterisk };
enum class body_framing : std::uint8_t { none, length, chunked };
enum class method_id : std::uint8_t { other, get, head, post, put, del, options, patch, trace };

struct head {
  // Request line and what it implies.
  span16 method;
  span16 target;
  span16 path;   // of the target: from its first '/', without the query; empty for '*'
  span16 query;  // without '?'; has_query tells "?" from nothing
  span16 host;   // authority of an absolute target, else the Host field; empty if neither was sent
  method_id method_known;
  target_form form;
  std::uint8_t minor_version;  // HTTP/1.x
  bool has_query;
  bool path_has_percent;
  // Framing and connection.
  body_framing framing;
  bool keep_alive;
  bool expect_continue;
  bool upgrade;  // "Connection: upgrade"
  std::uint64_t content_length;
  std::uint32_t size;  // bytes of the head including the empty line that ends it

  std::uint16_t field_count;
  // Where scanning goes on: start of the line being read, and what of that line is known clean.
  bool request_line_done;
  std::uint8_t host_index, length_index, coding_index;  // index + 1 of the field seen, 0 = none
  std::uint8_t expect_index;
  bool connection_close, connection_keep_alive;  // named by a Connection field
  std::uint32_t line_start;
  std::uint32_t scanned;

  field_view fields[max_field_capacity];  // the first field_count are set; last: it is the bulk

  head() { reset(); }
  // Everything but the fields themselves, which nobody reads beyond field_count.
  void reset();
};

enum class parse_state : std::uint8_t { complete, need_more, error };

struct parse_result {
  parse_state state;
  std::uint16_t status = 0;      // HTTP status to answer, with error
  const char* reason = nullptr;  // static text naming the rule or the limit, with error
};

// Parses the head at the front of `bytes`. `out` must be reset() before the first call for a
// message and is handed back unchanged with a longer `bytes` after need_more; on complete, out.size
// tells where the head ends. After an error no byte of the connection may be read as a request.
parse_result parse_head(std::string_view bytes, head& out, const head_limits& limits);

// Checks one field line (without its CRLF) by the head's rules: token, ':' at once, value without
// controls. On success sets name and value (trimmed); otherwise returns the reason.
const char* parse_field_line(std::string_view line, std::string_view& name,
                             std::string_view& value);

// host [":" port] as RFC 3986 writes it; no user information, not empty, no list.
bool valid_host(std::string_view host);

}  // namespace weft::http::detail
