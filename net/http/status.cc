#include <weft/http/error.h>
#include <weft/http/status.h>

#include <string>

namespace weft::http {

std::string_view status_text(int code) noexcept {
  switch (code) {
#define WEFT_HTTP_STATUS_TEXT(number, name, text) \
  case number:                                    \
    return text;
    WEFT_HTTP_STATUS_CODES(WEFT_HTTP_STATUS_TEXT)
#undef WEFT_HTTP_STATUS_TEXT
    default:
      return {};
  }
}

namespace {

// boost's base has a protected, non-virtual destructor on purpose: categories are static objects.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wnon-virtual-dtor"
class category final : public boost::system::error_category {
 public:
  const char* name() const noexcept override { return "http"; }
  std::string message(int value) const override {
    switch (static_cast<error>(value)) {
      case error::body_too_large:
        return "request body over the limit";
      case error::malformed_body:
        return "malformed chunked request body";
      case error::trailers_too_large:
        return "request trailers over the limit";
      case error::body_truncated:
        return "request body ended before its announced length";
      case error::body_not_available:
        return "request body not available: already read, or a copied request";
      case error::body_not_allowed:
        return "a response with this status has no body";
      case error::content_length_exceeded:
        return "response body longer than its announced Content-Length";
      case error::hijacked:
        return "connection was taken over by hijack()";
    }
    return "unknown http error";
  }
};
#pragma GCC diagnostic pop

}  // namespace

const boost::system::error_category& http_category() noexcept {
  static const category instance;
  return instance;
}

}  // namespace weft::http
