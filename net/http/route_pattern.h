#pragma once
// Mux patterns: their grammar and the relation between two of them, after Go 1.22.
#include <string>
#include <string_view>
#include <vector>

namespace weft::http::detail {

struct pattern_segment {
  std::string text;    // literal (decoded), or the wildcard's name; "/" for {$}
  bool wild = false;   // matches one segment, with multi any rest
  bool multi = false;  // the last one: {name...}, or unnamed for a trailing slash
};

struct route_pattern {
  std::string text;    // as registered
  std::string method;  // "" = any
  std::string host;    // "" = any
  std::vector<pattern_segment> segments;

  // Throws std::invalid_argument naming the pattern and what is wrong with it.
  static route_pattern parse(std::string_view text);
  const pattern_segment& last() const { return segments.back(); }
};

// How the sets of requests two patterns match relate.
enum class relation {
  equivalent,
  more_general,  // the first matches all that the second does, and more
  more_specific,
  disjoint,
  overlaps  // each matches something the other does not, and some request matches both
};

relation compare_methods(const route_pattern& a, const route_pattern& b);
relation compare_paths(const route_pattern& a, const route_pattern& b);
// Method and path together.
relation compare(const route_pattern& a, const route_pattern& b);

// Neither is more specific, yet some request matches both. Different hosts never conflict: the one
// with a host is the more specific.
bool conflict(const route_pattern& a, const route_pattern& b);

// A path that both match, for the message ("/a/x/b").
std::string common_path(const route_pattern& a, const route_pattern& b);

}  // namespace weft::http::detail
