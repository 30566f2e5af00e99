#include "examples/load/options.h"

#include <algorithm>
#include <string_view>

#include "examples/common/flags.h"

namespace load {
namespace {

using example::parse_number;
using example::usage_error;

std::string host_and_port(std::string_view target) {
  constexpr std::string_view scheme = "http://";
  if (target.starts_with(scheme)) target.remove_prefix(scheme.size());
  if (target.ends_with('/')) target.remove_suffix(1);
  if (target.find('/') != std::string_view::npos || target.find(':') == std::string_view::npos) {
    throw usage_error("'" + std::string(target) + "' is not of the form HOST:PORT");
  }
  return std::string(target);
}

// "create=2,resolve=90,stats=8"; kinds left out get weight 0.
std::array<unsigned, kind_count> parse_mix(std::string_view text) {
  std::array<unsigned, kind_count> weights{};
  while (!text.empty()) {
    std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(item.size() + 1, text.size()));
    size_t equals = item.find('=');
    auto kind = std::find(kind_names.begin(), kind_names.end(), item.substr(0, equals));
    if (equals == std::string_view::npos || kind == kind_names.end()) {
      throw usage_error("'" + std::string(item) + "' is not create=N, resolve=N or stats=N");
    }
    weights[static_cast<size_t>(kind - kind_names.begin())] =
        parse_number<unsigned>(item.substr(equals + 1), 0, 1'000'000);
  }
  if (weights == decltype(weights){}) throw usage_error("all weights are 0");
  return weights;
}

}  // namespace

options parse_options(int argc, char** argv) {
  options o;
  example::flags f("load", "Puts the example service shortlink under load and reports latencies.");
  f.add("--target", "HOST:PORT", "the service (default 127.0.0.1:8080)",
        [&](std::string_view v) { o.target = host_and_port(v); });
  f.add("--connections", "N", "connections, each with one request at a time (default 64)",
        [&](std::string_view v) { o.connections = parse_number(v, 1u, 100'000u); });
  f.add("--duration", "TIME", "how long, e.g. 10s or 2m; 0: until interrupted (default 10s)",
        [&](std::string_view v) { o.duration = example::parse_duration(v); });
  f.add("--rate", "N",
        "requests per second in all, sent when due and measured from then (default: as many as go)",
        [&](std::string_view v) { o.rate = parse_number(v, 1u, 10'000'000u); });
  f.add("--mix", "WEIGHTS", "kinds of requests (default create=2,resolve=90,stats=8)",
        [&](std::string_view v) { o.weights = parse_mix(v); });
  f.add("--links", "N", "links to create before the measurement (default 1000)",
        [&](std::string_view v) { o.links = parse_number(v, 1u, 10'000'000u); });
  f.add("--timeout", "TIME", "for one request, also for connecting (default 5s)",
        [&](std::string_view v) {
          o.timeout = example::parse_duration(v);
          if (o.timeout.count() == 0) throw usage_error("must be more than 0");
        });
  f.add("--progress", "WHEN", "a line per second on stderr: auto (a terminal), always, never",
        [&](std::string_view v) {
          if (v != "auto" && v != "always" && v != "never") {
            throw usage_error("'" + std::string(v) + "' is not auto, always or never");
          }
          o.show = v == "auto"     ? progress::automatic
                   : v == "always" ? progress::lines
                                   : progress::never;
        });
  f.add_switch("--json", "print the summary as JSON", o.json);
  f.parse(argc, argv);
  return o;
}

}  // namespace load
