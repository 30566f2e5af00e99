#include "net/http/route_pattern.h"

#include <weft/http/params.h>

#include <algorithm>
#include <stdexcept>

#include "net/http/ascii.h"
#include "net/http/exchange.h"
#include "net/http/path.h"

namespace weft::http::detail {
namespace {

[[noreturn]] void refuse(std::string_view pattern, const std::string& why) {
  throw std::invalid_argument("weft::http::mux: pattern \"" + std::string(pattern) + "\": " + why);
}

bool valid_name(std::string_view name) {
  auto letter = [](char c) { return (lower(c) >= 'a' && lower(c) <= 'z') || c == '_'; };
  if (name.empty() || !letter(name.front())) return false;
  return std::all_of(name.begin(), name.end(),
                     [&](char c) { return letter(c) || is_class(c, class_digit); });
}

relation inverse(relation r) {
  if (r == relation::more_general) return relation::more_specific;
  if (r == relation::more_specific) return relation::more_general;
  return r;
}

// The relation of products, from the relations of their parts.
relation combine(relation a, relation b) {
  if (a == relation::equivalent) return b;
  if (a == relation::disjoint || b == relation::disjoint) return relation::disjoint;
  if (a == relation::overlaps || b == relation::overlaps) return relation::overlaps;
  if (b == relation::equivalent) return a;
  return b == inverse(a) ? relation::overlaps : b;
}

relation compare_segments(const pattern_segment& a, const pattern_segment& b) {
  if (a.multi && b.multi) return relation::equivalent;
  if (a.multi) return relation::more_general;
  if (b.multi) return relation::more_specific;
  if (a.wild && b.wild) return relation::equivalent;
  // A single wildcard needs a non-empty segment; {$} is the empty one.
  if (a.wild) return b.text == "/" ? relation::disjoint : relation::more_general;
  if (b.wild) return a.text == "/" ? relation::disjoint : relation::more_specific;
  return a.text == b.text ? relation::equivalent : relation::disjoint;
}

}  // namespace

route_pattern route_pattern::parse(std::string_view text) {
  route_pattern out;
  out.text = text;
  if (text.empty()) refuse(text, "empty");
  std::string_view rest = text;
  std::size_t blank = rest.find_first_of(" \t");
  if (blank != std::string_view::npos) {
    out.method = rest.substr(0, blank);
    if (!is_token(out.method)) refuse(text, "the method is not a token");
    rest = trim_ows(rest.substr(blank));
  }
  std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos) refuse(text, "the path has to start with '/'");
  out.host = rest.substr(0, slash);
  for (char& c : out.host) {
    if (!is_class(c, class_host) && c != '[' && c != ']' && c != ':') {
      refuse(text, "the host holds a byte that no host has");
    }
    c = lower(c);
  }
  rest.remove_prefix(slash);

  std::vector<std::string> names;
  while (!rest.empty()) {
    rest.remove_prefix(1);  // the slash
    if (rest.empty()) {     // trailing slash: an unnamed rest
      out.segments.push_back({"", true, true});
      break;
    }
    std::size_t end = std::min(rest.find('/'), rest.size());
    std::string_view segment = rest.substr(0, end);
    rest.remove_prefix(end);
    if (segment.find_first_of("{}") == std::string_view::npos) {
      if (segment.empty()) refuse(text, "empty segment");
      if (!is_clean_path("/" + std::string(segment))) refuse(text, "'.' or '..' segment");
      for (char c : segment) {
        if (static_cast<unsigned char>(c) <= 0x20 || c == '?' || c == '#') {
          refuse(text, "space, '?' or '#' in the path");
        }
      }
      out.segments.push_back({percent_decode(segment), false, false});
      continue;
    }
    if (segment.front() != '{' || segment.back() != '}' ||
        segment.find_first_of("{}", 1) != segment.size() - 1) {
      refuse(text, "a wildcard has to fill its whole segment");
    }
    std::string_view name = segment.substr(1, segment.size() - 2);
    if (name == "$") {
      if (!rest.empty()) refuse(text, "{$} not at the end");
      out.segments.push_back({"/", false, false});
      break;
    }
    bool multi = name.size() > 3 && name.substr(name.size() - 3) == "...";
    if (multi) {
      name.remove_suffix(3);
      if (!rest.empty()) refuse(text, "{" + std::string(name) + "...} not at the end");
    }
    if (!valid_name(name)) refuse(text, "wildcard name \"" + std::string(name) + "\"");
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      refuse(text, "wildcard {" + std::string(name) + "} twice");
    }
    names.emplace_back(name);
    if (names.size() > max_path_params) {
      refuse(text, "more than " + std::to_string(max_path_params) + " wildcards");
    }
    out.segments.push_back({std::string(name), true, multi});
  }
  return out;
}

relation compare_methods(const route_pattern& a, const route_pattern& b) {
  if (a.method == b.method) return relation::equivalent;
  if (a.method.empty()) return relation::more_general;
  if (b.method.empty()) return relation::more_specific;
  if (a.method == "GET" && b.method == "HEAD") return relation::more_general;
  if (a.method == "HEAD" && b.method == "GET") return relation::more_specific;
  return relation::disjoint;
}

relation compare_paths(const route_pattern& a, const route_pattern& b) {
  if (a.segments.size() != b.segments.size() && !a.last().multi && !b.last().multi) {
    return relation::disjoint;
  }
  const std::size_t shared = std::min(a.segments.size(), b.segments.size());
  relation r = relation::equivalent;
  for (std::size_t i = 0; i < shared; ++i) {
    r = combine(r, compare_segments(a.segments[i], b.segments[i]));
    if (r == relation::disjoint) return r;
  }
  if (a.segments.size() == b.segments.size()) return r;
  if (a.segments.size() < b.segments.size() && a.last().multi) {
    return combine(r, relation::more_general);
  }
  if (b.segments.size() < a.segments.size() && b.last().multi) {
    return combine(r, relation::more_specific);
  }
  return relation::disjoint;
}

relation compare(const route_pattern& a, const route_pattern& b) {
  relation methods = compare_methods(a, b);
  if (methods == relation::disjoint) return methods;
  return combine(methods, compare_paths(a, b));
}

bool conflict(const route_pattern& a, const route_pattern& b) {
  if (a.host != b.host) return false;
  relation r = compare(a, b);
  return r == relation::equivalent || r == relation::overlaps;
}

std::string common_path(const route_pattern& a, const route_pattern& b) {
  std::string path;
  const std::size_t longer = std::max(a.segments.size(), b.segments.size());
  for (std::size_t i = 0; i < longer; ++i) {
    const pattern_segment* sa = i < a.segments.size() ? &a.segments[i] : nullptr;
    const pattern_segment* sb = i < b.segments.size() ? &b.segments[i] : nullptr;
    const pattern_segment* literal = sa != nullptr && !sa->wild ? sa : nullptr;
    if (literal == nullptr && sb != nullptr && !sb->wild) literal = sb;
    if (literal != nullptr) {
      path += literal->text == "/" ? "/" : "/" + literal->text;
      continue;
    }
    const pattern_segment* wild = sa != nullptr && !sa->multi ? sa : sb;
    if (wild == nullptr || wild->multi) wild = sa;
    path += wild == nullptr || wild->text.empty() ? "/" : "/" + wild->text;
  }
  return path;
}

}  // namespace weft::http::detail
