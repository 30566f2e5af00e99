#pragma once
// What the service accepts from outside, and what it answers when it does not.
#include <stdexcept>
#include <string>
#include <string_view>

namespace shortlink {

// Leaves a handler as an answer with this status and {"error": what()}.
class http_error : public std::runtime_error {
 public:
  http_error(int status, const std::string& message)
      : std::runtime_error(message), status_(status) {}
  int status() const noexcept { return status_; }

 private:
  int status_;
};

inline constexpr size_t max_url_length = 2048;
inline constexpr size_t min_code_length = 3, max_code_length = 32;
inline constexpr size_t max_body_bytes = 8192;

// The body of POST /links.
struct link_request {
  std::string url;
  std::string code;  // empty: the service chooses one
};

// From {"url": "...", "code": "..."}. Throws http_error 400 naming what is wrong: no JSON, no
// object, a member that is missing, unknown or no string.
link_request parse_json(std::string_view body);

// Throws http_error 400 naming the rule: http or https, a host, printable ASCII without spaces, at
// most max_url_length bytes.
void check_url(std::string_view url);

// Throws http_error 400 unless the code has the right length, consists of A-Z a-z 0-9 - _ and is
// not the name of one of the service's own pages.
void check_code(std::string_view code);

// Seven random characters that check_code accepts.
std::string random_code();

// With & < > " ' replaced by character references.
std::string escape_html(std::string_view text);

}  // namespace shortlink
