#include "examples/shortlink/validate.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cstdint>

namespace shortlink {
namespace {

constexpr std::string_view code_alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

[[noreturn]] void reject(const std::string& message) { throw http_error(400, message); }

std::string as_string(const boost::json::key_value_pair& member) {
  const boost::json::string* text = member.value().if_string();
  if (text == nullptr) reject("\"" + std::string(member.key()) + "\" must be a string");
  return std::string(*text);
}

}  // namespace

link_request parse_json(std::string_view body) {
  namespace json = boost::json;
  boost::system::error_code error;
  json::value document = json::parse({body.data(), body.size()}, error);
  if (error) reject("the body is not valid JSON: " + error.message());
  const json::object* object = document.if_object();
  if (object == nullptr)
    reject("the body must be a JSON object such as {\"url\": \"https://example.com/\"}");

  link_request request;
  for (const json::key_value_pair& member : *object) {
    if (member.key() == "url") {
      request.url = as_string(member);
    } else if (member.key() == "code") {
      request.code = as_string(member);
    } else {
      reject("unknown member \"" + std::string(member.key()) + "\" (known: url, code)");
    }
  }
  return request;
}

void check_url(std::string_view url) {
  if (url.empty()) reject("url is missing");
  if (url.size() > max_url_length) {
    reject("url has " + std::to_string(url.size()) + " bytes, at most " +
           std::to_string(max_url_length) + " are allowed");
  }
  auto printable = [](char c) { return c > 0x20 && c < 0x7f; };
  if (!std::all_of(url.begin(), url.end(), printable)) {
    reject("url must consist of printable ASCII without spaces; percent-encode the rest");
  }
  size_t colon = url.find("://");
  if (colon == std::string_view::npos) reject("url must begin with http:// or https://");
  std::string scheme(url.substr(0, colon));
  std::transform(scheme.begin(), scheme.end(), scheme.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  if (scheme != "http" && scheme != "https") {
    reject("url has the scheme '" + scheme.substr(0, 20) + "', only http and https are allowed");
  }
  std::string_view rest = url.substr(colon + 3);
  std::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
  if (size_t at = authority.rfind('@'); at != std::string_view::npos)
    authority.remove_prefix(at + 1);
  if (authority.empty() || authority.front() == ':') reject("url has no host");
}

void check_code(std::string_view code) {
  if (code.size() < min_code_length || code.size() > max_code_length) {
    reject("code has " + std::to_string(code.size()) + " characters, " +
           std::to_string(min_code_length) + " to " + std::to_string(max_code_length) +
           " are allowed");
  }
  if (code.find_first_not_of(code_alphabet) != std::string_view::npos) {
    reject("code may consist of A-Z a-z 0-9 - and _ only");
  }
  constexpr std::array<std::string_view, 4> reserved = {"links", "stats", "healthz", "debug"};
  if (std::find(reserved.begin(), reserved.end(), code) != reserved.end()) {
    reject("code '" + std::string(code) + "' is reserved");
  }
}

std::string random_code() {
  std::array<unsigned char, 7> random;
  // At most 256 bytes once the pool is initialised: neither blocks nor comes back short.
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    throw std::runtime_error("getrandom failed");
  }
  std::string code;
  for (unsigned char byte : random) code += code_alphabet[byte % code_alphabet.size()];
  return code;
}

std::string escape_html(std::string_view text) {
  std::string safe;
  for (char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

}  // namespace shortlink
