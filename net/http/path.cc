#include "net/http/path.h"

#include <weft/http/params.h>

#include "net/http/ascii.h"

namespace weft::http::detail {
namespace {

// 1 for ".", 2 for "..", in plain or percent-encoded spelling, else 0.
int dot_segment(std::string_view segment) {
  int dots = 0;
  while (!segment.empty()) {
    if (segment.front() == '.') {
      segment.remove_prefix(1);
    } else if (segment.size() >= 3 && segment[0] == '%' && segment[1] == '2' &&
               lower(segment[2]) == 'e') {
      segment.remove_prefix(3);
    } else {
      return 0;
    }
    if (++dots > 2) return 0;
  }
  return dots;
}

}  // namespace

bool is_clean_path(std::string_view raw) {
  if (raw.empty() || raw.front() != '/') return false;
  for (;;) {
    raw.remove_prefix(1);
    std::size_t slash = raw.find('/');
    std::string_view segment = raw.substr(0, slash);
    if (segment.empty() && slash != std::string_view::npos) return false;
    if (!segment.empty() && (segment.front() == '.' || segment.front() == '%') &&
        dot_segment(segment) != 0) {
      return false;
    }
    if (slash == std::string_view::npos) return true;
    raw.remove_prefix(slash);
  }
}

std::string clean_path(std::string_view raw) {
  std::string out;
  bool directory = true;  // the last segment ended in a slash or was a dot segment
  while (!raw.empty()) {
    std::size_t slash = raw.find('/');
    std::string_view segment = raw.substr(0, slash);
    raw.remove_prefix(slash == std::string_view::npos ? raw.size() : slash + 1);
    directory = slash != std::string_view::npos;
    int dots = segment.empty() ? 0 : dot_segment(segment);
    if (dots != 0) {
      directory = true;
      if (dots == 2) out.resize(out.empty() ? 0 : out.rfind('/'));
    } else if (!segment.empty()) {
      out.append("/").append(segment);
    }
  }
  if (directory || out.empty()) out.push_back('/');
  return out;
}

std::string encode_location(std::string_view location) {
  static constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(location.size());
  for (char c : location) {
    auto u = static_cast<unsigned char>(c);
    bool unsafe = u <= 0x20 || u >= 0x7f || c == '\\' || c == '"' || c == '<' || c == '>';
    if (!unsafe) {
      out.push_back(c);
    } else {
      out.push_back('%');
      out.push_back(digits[u >> 4]);
      out.push_back(digits[u & 15]);
    }
  }
  return out;
}

}  // namespace weft::http::detail
