#include "examples/common/flags.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace example {

flags::flags(std::string program, std::string purpose)
    : program_(std::move(program)), purpose_(std::move(purpose)) {}

void flags::add(std::string name, std::string value_name, std::string help,
                std::function<void(std::string_view)> set) {
  flags_.push_back({std::move(name), std::move(value_name), std::move(help), std::move(set)});
}

void flags::add_switch(std::string name, std::string help, bool& on) {
  flags_.push_back({std::move(name), "", std::move(help), [&on](std::string_view) { on = true; }});
}

const flags::flag& flags::find(std::string_view name) const {
  auto found = std::find_if(flags_.begin(), flags_.end(),
                            [&](const flag& candidate) { return candidate.name == name; });
  if (found == flags_.end()) {
    throw usage_error("unknown argument '" + std::string(name) + "' (--help lists the flags)");
  }
  return *found;
}

void flags::parse(int argc, char** argv) const {
  for (int i = 1; i < argc; ++i) {
    std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      std::fputs(help().c_str(), stdout);
      std::exit(0);
    }
    size_t equals = argument.find('=');
    std::string_view name = argument.substr(0, equals);
    const flag& wanted = find(name);
    bool takes_value = !wanted.value_name.empty();
    std::string_view value;
    if (equals != std::string_view::npos) {
      if (!takes_value) throw usage_error(wanted.name + " takes no value");
      value = argument.substr(equals + 1);
    } else if (takes_value) {
      if (++i == argc) throw usage_error(wanted.name + " needs a value: " + wanted.value_name);
      value = argv[i];
    }
    try {
      wanted.set(value);
    } catch (const usage_error& error) {
      throw usage_error(wanted.name + ": " + error.what());
    }
  }
}

std::string flags::help() const {
  std::string text = "usage: " + program_ + " [flags]\n" + purpose_ + "\n\n";
  for (const flag& each : flags_) {
    std::string left = "  " + each.name + (each.value_name.empty() ? "" : " " + each.value_name);
    left.resize(std::max<size_t>(left.size() + 2, 26), ' ');
    text += left + each.help + "\n";
  }
  return text;
}

std::chrono::milliseconds parse_duration(std::string_view text) {
  constexpr std::pair<std::string_view, int64_t> units[] = {{"ms", 1}, {"s", 1000}, {"m", 60'000}};
  size_t digits = text.find_first_not_of("0123456789");
  std::string_view unit = digits == std::string_view::npos ? "s" : text.substr(digits);
  for (auto [name, scale] : units) {
    if (unit != name) continue;
    return std::chrono::milliseconds(parse_number<int64_t>(text.substr(0, digits), 0, 1'000'000) *
                                     scale);
  }
  throw usage_error("'" + std::string(text) + "' is not a duration such as 250ms, 10s or 2m");
}

}  // namespace example
