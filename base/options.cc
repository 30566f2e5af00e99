#include "base/options.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace weft::base {
namespace {

struct row {
  const char* name;
  const char* default_value;
  const char* sentence;
};

constexpr row rows[] = {
#define WEFT_OPTION(name, default_value, sentence) {#name, default_value, sentence},
#include "base/options.def"
#undef WEFT_OPTION
};

// Copied, because a program may call setenv after the runtime has started.
const std::array<std::string, std::size(rows)>& values() {
  static const auto* const v = [] {
    auto* made = new std::array<std::string, std::size(rows)>;
    for (size_t i = 0; i < std::size(rows); ++i) {
      const char* e = std::getenv(rows[i].name);
      (*made)[i] = e != nullptr ? e : rows[i].default_value;
    }
    return made;
  }();
  return *v;
}

}  // namespace

std::string_view option_value(option o) noexcept { return values()[static_cast<size_t>(o)]; }

std::string_view debug_switch(std::string_view name) noexcept {
  std::string_view rest = option_value(option::WEFT_DEBUG);
  while (!rest.empty()) {
    size_t comma = rest.find(',');
    std::string_view item = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    size_t equals = item.find('=');
    if (item.substr(0, equals) == name)
      return equals == std::string_view::npos ? std::string_view{"1"} : item.substr(equals + 1);
  }
  return {};
}

void print_options() {
  for (const row& r : rows) {
    std::printf("%-18s %s%s%s\n", r.name, r.sentence, *r.default_value != 0 ? "; default: " : "",
                r.default_value);
  }
}

}  // namespace weft::base
