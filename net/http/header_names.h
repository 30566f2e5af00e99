#pragma once
// Header names the code (or most programs) ask for, as small integers: a lookup by a known name is
// a compare of one byte per field. Everything else is compared as text, case-insensitively.
#include <cstdint>
#include <string_view>

namespace weft::http::detail {

// clang-format off
#define WEFT_HTTP_KNOWN_HEADERS(X)                                                                  \
  X(accept, "accept") X(accept_charset, "accept-charset") X(accept_encoding, "accept-encoding")     \
  X(accept_language, "accept-language") X(authorization, "authorization")                           \
  X(cache_control, "cache-control") X(connection, "connection")                                     \
  X(content_disposition, "content-disposition") X(content_encoding, "content-encoding")             \
  X(content_language, "content-language") X(content_length, "content-length")                       \
  X(content_range, "content-range") X(content_type, "content-type") X(cookie, "cookie")             \
  X(date, "date") X(dnt, "dnt") X(expect, "expect") X(forwarded, "forwarded") X(from, "from")       \
  X(host, "host") X(if_match, "if-match") X(if_modified_since, "if-modified-since")                 \
  X(if_none_match, "if-none-match") X(if_range, "if-range")                                         \
  X(if_unmodified_since, "if-unmodified-since") X(keep_alive, "keep-alive")                         \
  X(last_event_id, "last-event-id") X(max_forwards, "max-forwards") X(origin, "origin")             \
  X(pragma, "pragma") X(proxy_authorization, "proxy-authorization")                                 \
  X(proxy_connection, "proxy-connection") X(range, "range") X(referer, "referer")                   \
  X(sec_websocket_extensions, "sec-websocket-extensions")                                           \
  X(sec_websocket_key, "sec-websocket-key") X(sec_websocket_protocol, "sec-websocket-protocol")     \
  X(sec_websocket_version, "sec-websocket-version") X(set_cookie, "set-cookie") X(te, "te")         \
  X(trailer, "trailer") X(transfer_encoding, "transfer-encoding") X(upgrade, "upgrade")             \
  X(user_agent, "user-agent") X(via, "via") X(x_forwarded_for, "x-forwarded-for")                   \
  X(x_forwarded_host, "x-forwarded-host") X(x_forwarded_proto, "x-forwarded-proto")                 \
  X(x_request_id, "x-request-id")
// clang-format on

enum class known_header : std::uint8_t {
  other,
#define WEFT_HTTP_ENUM(id, text) id,
  WEFT_HTTP_KNOWN_HEADERS(WEFT_HTTP_ENUM)
#undef WEFT_HTTP_ENUM
};

// The id of a field name (a token) in any case; known_header::other if it is not in the table.
known_header find_known_header(std::string_view name) noexcept;

}  // namespace weft::http::detail
