#include "bench/load/response.h"

#include <strings.h>

#include <charconv>

namespace bench::load {

response_end find_response_end(std::string_view bytes) {
  using kind = response_end::kind;
  const auto head_end = bytes.find("\r\n\r\n");
  if (head_end == std::string_view::npos) {
    return {bytes.size() > 64 * 1024 ? kind::bad_framing : kind::incomplete, 0};
  }
  if (bytes.substr(0, 9) != "HTTP/1.1 ") return {kind::bad_framing, 0};
  const bool ok = bytes.substr(9, 3) == "200";

  constexpr std::string_view name = "Content-Length:";
  std::size_t body = std::string_view::npos;
  for (std::size_t at = bytes.find("\r\n"); at < head_end; at = bytes.find("\r\n", at + 2)) {
    const std::string_view line = bytes.substr(at + 2, head_end - at - 2);
    if (line.size() <= name.size() || strncasecmp(line.data(), name.data(), name.size()) != 0) {
      continue;
    }
    const char* digits = line.data() + name.size();
    const char* const last = line.data() + line.size();
    while (digits != last && *digits == ' ') ++digits;
    std::size_t value = 0;
    if (std::from_chars(digits, last, value).ec != std::errc{}) return {kind::bad_framing, 0};
    body = value;
    break;
  }
  if (body == std::string_view::npos) return {kind::bad_framing, 0};
  const std::size_t size = head_end + 4 + body;
  if (bytes.size() < size) return {kind::incomplete, 0};
  return {ok ? kind::complete : kind::bad_status, size};
}

}  // namespace bench::load
