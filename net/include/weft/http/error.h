#pragma once
// What can go wrong between a handler and its connection, as error codes beside those of
// <weft/result.h>.
#include <weft/result.h>

namespace weft::http {

enum class error {
  body_too_large = 1,       // the request body is over the limit; an unhandled one answers 413
  malformed_body,           // the chunked framing of the request body is broken; 400
  trailers_too_large,       // the trailers of the request are over their limit; 431
  body_truncated,           // the peer closed before the request body was complete; 400
  body_not_available,       // the body was read already, or the request is a copy without one
  body_not_allowed,         // written to a response that has none by its status (1xx, 204, 304)
  content_length_exceeded,  // written more than the Content-Length announced; the excess is dropped
  hijacked,                 // the connection belongs to whoever called hijack()
};

const boost::system::error_category& http_category() noexcept;

inline weft::error_code make_error_code(error e) noexcept {
  return {static_cast<int>(e), http_category()};
}

}  // namespace weft::http

template <>
struct boost::system::is_error_code_enum<weft::http::error> : std::true_type {};
