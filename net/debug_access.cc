// Who may use the debug endpoints: a token, asked for in the two forms that clients can send.
#include <weft/debug/debug.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace weft::debug {
namespace {

constexpr size_t shortest_token = 8, longest_token = 256;

// In time that does not depend on where they differ.
bool equal(std::string_view given, std::string_view token) {
  unsigned difference = given.size() == token.size() ? 0 : 1;
  for (size_t i = 0; i < token.size(); ++i) {
    const char c = i < given.size() ? given[i] : '\0';
    difference |= static_cast<unsigned char>(c) ^ static_cast<unsigned char>(token[i]);
  }
  return difference == 0;
}

// Base64 up to the first character that is none.
std::string decode_base64(std::string_view text) {
  static constexpr std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  unsigned bits = 0;
  int have = 0;
  for (char c : text) {
    const size_t value = digits.find(c);
    if (value == std::string_view::npos) break;
    bits = bits << 6 | static_cast<unsigned>(value);
    if ((have += 6) < 8) continue;
    have -= 8;
    out += static_cast<char>(bits >> have & 0xff);
  }
  return out;
}

// The rest of a header value after its scheme, "" if it has another one. Schemes have no case.
std::string_view after_scheme(std::string_view value, std::string_view scheme) {
  if (value.size() <= scheme.size() || value[scheme.size()] != ' ') return {};
  for (size_t i = 0; i < scheme.size(); ++i) {
    if ((value[i] | 0x20) != scheme[i]) return {};
  }
  value.remove_prefix(scheme.size());
  while (value.starts_with(' ')) value.remove_prefix(1);
  return value;
}

bool carries(const http::request& r, std::string_view token) {
  const std::string_view value = r.header("Authorization");
  if (std::string_view bearer = after_scheme(value, "bearer"); !bearer.empty())
    return equal(bearer, token);
  const std::string pair = decode_base64(after_scheme(value, "basic"));
  const size_t colon = pair.find(':');
  return colon != std::string::npos && equal(std::string_view(pair).substr(colon + 1), token);
}

}  // namespace

http::handler require_token(http::handler h, std::string token) {
  bool visible = true;
  for (char c : token) visible = visible && c > ' ' && c < '\x7f';
  if (!visible || token.size() < shortest_token || token.size() > longest_token) {
    throw std::invalid_argument(
        "debug token: it must have 8 to 256 visible ASCII characters, this "
        "one has " +
        std::to_string(token.size()) + (visible ? "" : ", not all visible"));
  }
  return [h = std::move(h), token = std::move(token)](http::response_writer& w, http::request& r) {
    if (carries(r, token)) {
      h(w, r);
      return;
    }
    w.header("WWW-Authenticate", "Bearer realm=\"weft debug\"");
    w.add_header("WWW-Authenticate", "Basic realm=\"weft debug\"");
    w.header("X-Content-Type-Options", "nosniff");
    w.header("X-Go-Pprof", "1");
    static_cast<void>(w.respond(401, "text/plain; charset=utf-8", "a token is needed\n"));
  };
}

}  // namespace weft::debug
