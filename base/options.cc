#include "base/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"

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

struct switch_row {
  const char* name;
  const char* value;
  const char* sentence;
};

constexpr switch_row switches[] = {
#define WEFT_DEBUG_SWITCH(name, value, sentence) {#name, value, sentence},
#include "base/debug_switches.def"
#undef WEFT_DEBUG_SWITCH
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

// The number of insertions, deletions and replacements that make `a` of `b`.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

// The items of WEFT_DEBUG one by one.
template <class F>
void each_switch(F f) {
  std::string_view rest = option_value(option::WEFT_DEBUG);
  while (!rest.empty()) {
    size_t comma = rest.find(',');
    std::string_view item = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    size_t equals = item.find('=');
    f(item.substr(0, equals),
      equals == std::string_view::npos ? std::string_view{"1"} : item.substr(equals + 1));
  }
}

}  // namespace

std::string_view option_value(option o) noexcept { return values()[static_cast<size_t>(o)]; }

std::string_view debug_switch(std::string_view name) noexcept {
  std::string_view found;
  bool first = true;
  each_switch([&](std::string_view n, std::string_view value) {
    if (n == name && std::exchange(first, false)) found = value;
  });
  return found;
}

int64_t debug_number(std::string_view name, int64_t least, int64_t absent) {
  std::string_view text = debug_switch(name);
  if (text.empty()) return absent;
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least)
    fatalf("WEFT_DEBUG: %.*s=%.*s: the value must be a whole number of at least %lld",
           static_cast<int>(name.size()), name.data(), static_cast<int>(text.size()), text.data(),
           static_cast<long long>(least));
  return value;
}

void check_debug_switches() {
  each_switch([](std::string_view name, std::string_view) {
    if (name.empty()) return;
    const char* nearest = "";
    size_t best = SIZE_MAX;
    for (const switch_row& known : switches) {
      size_t d = distance(name, known.name);
      if (d < best) {
        best = d;
        nearest = known.name;
      }
    }
    if (best > 0)
      fatalf(
          "WEFT_DEBUG: unknown switch \"%.*s\"; the nearest known one is \"%s\" "
          "(WEFT_DEBUG=help lists all)",
          static_cast<int>(name.size()), name.data(), nearest);
  });
}

void print_options() {
  for (const row& r : rows) {
    std::printf("%-18s %s%s%s\n", r.name, r.sentence, *r.default_value != 0 ? "; default: " : "",
                r.default_value);
  }
  std::printf("\nSwitches of WEFT_DEBUG=name=value,...\n");
  for (const switch_row& w : switches) {
    std::string form = w.name;
    if (*w.value != 0) form += std::string("=") + w.value;
    std::printf("  %-16s %s\n", form.c_str(), w.sentence);
  }
}

traceback traceback_level() noexcept {
  static const traceback level = [] {
    std::string_view v = option_value(option::WEFT_TRACEBACK);
    if (v == "none" || v == "0") return traceback::none;
    if (v == "single") return traceback::single;
    if (v == "all" || v == "1" || v.empty()) return traceback::all;
    if (v == "system" || v == "2") return traceback::system;
    if (v == "crash") return traceback::crash;
    log_line("WEFT_TRACEBACK=%.*s ignored: it must be none, single, all, system, crash, 0, 1 or 2",
             static_cast<int>(v.size()), v.data());
    return traceback::all;
  }();
  return level;
}

}  // namespace weft::base
