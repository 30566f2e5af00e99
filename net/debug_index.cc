// The index page: Go's text, and a row for every profile that exists.
#include "net/debug_index.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "profiler/profile_registry.h"

namespace weft::debug {
namespace {

struct entry {
  std::string name;
  int64_t count;
  std::string description;
};

std::vector<entry> entries() {
  std::vector<entry> all = {
      {"cmdline", 0, "The command line invocation of the current program"},
      {"profile", 0,
       "CPU profile. You can specify the duration in the seconds GET parameter. After you get the "
       "profile file, use the go tool pprof command to investigate the profile."},
      {"symbol", 0,
       "Maps given program counters to function names. Counters can be specified in a GET raw "
       "query or POST body, multiple counters are separated by '+'."},
  };
  for (const prof::profile_source* p : prof::all_profiles())
    all.push_back({std::string(p->name()), p->count(), std::string(p->description())});
  std::ranges::sort(all, {}, &entry::name);
  return all;
}

std::string html_escape(std::string_view s) {
  std::string out;
  for (char c : s) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

// A relative reference to `name`. Go leaves these characters of a path as they are; a colon in the
// first segment would make what stands before it a scheme.
std::string path_escape(std::string_view name) {
  static constexpr std::string_view plain = "-._~$&+,/:;=@";
  static constexpr char digits[] = "0123456789ABCDEF";
  std::string out = name.substr(0, name.find('/')).find(':') != std::string_view::npos ? "./" : "";
  for (char c : name) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || plain.find(c) != std::string_view::npos) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += digits[byte >> 4];
      out += digits[byte & 15];
    }
  }
  return out;
}

}  // namespace

std::string index_page() {
  std::string page =
      "<html>\n<head>\n<title>/debug/pprof/</title>\n<style>\n.profile-name{\n"
      "\tdisplay:inline-block;\n\twidth:6rem;\n}\n</style>\n</head>\n<body>\n/debug/pprof/\n<br>\n"
      "<p>Set debug=1 as a query parameter to export in legacy text format</p>\n<br>\n"
      "Types of profiles available:\n<table>\n<thead><td>Count</td><td>Profile</td></thead>\n";
  const std::vector<entry> all = entries();
  for (const entry& e : all) {
    page += "<tr><td>" + std::to_string(e.count) + "</td><td><a href='" +
            html_escape(path_escape(e.name)) + "?debug=1'>" + html_escape(e.name) +
            "</a></td></tr>\n";
  }
  page +=
      "</table>\n<a href=\"goroutine?debug=2\">full goroutine stack dump</a>\n<br>\n<p>\n"
      "Profile Descriptions:\n<ul>\n";
  for (const entry& e : all) {
    page += "<li><div class=profile-name>" + html_escape(e.name) + ": </div> " +
            html_escape(e.description) + "</li>\n";
  }
  page += "</ul>\n</p>\n</body>\n</html>\n";
  return page;
}

}  // namespace weft::debug
