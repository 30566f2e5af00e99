// The debug server: the endpoints on OS threads of their own.
#include <weft/debug/debug.h>

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/options.h"
#include "net/blocking_server.h"
#include "net/debug_endpoints.h"

namespace weft::debug {
namespace {

struct running_servers {
  std::mutex lock;
  std::vector<std::unique_ptr<net::blocking_server>> list;
};

// Never destroyed: a profile may be on its way out while the process's statics are torn down.
running_servers& servers() {
  static auto* const s = new running_servers;
  return *s;
}

const http::mux& routes() {
  static const http::mux* const m = [] {
    auto* made = new http::mux;
    handle(*made);
    handle_metrics(*made);
    made->handle("GET /{$}", [](http::response_writer& w, http::request&) {
      http::redirect(w, 302, "/debug/pprof/");
    });
    return made;
  }();
  return *m;
}

// ":6060" means this machine only; every interface has to be asked for with 0.0.0.0 or [::].
std::string loopback_by_default(std::string_view address) {
  if (!address.empty() && address[0] == ':') return "localhost" + std::string(address);
  return std::string(address);
}

// Only users of this machine can get there.
bool is_private(std::string_view listening_at) {
  for (std::string_view start : {"127.", "[::1]", "unix:"}) {
    if (listening_at.starts_with(start)) return true;
  }
  return false;
}

}  // namespace

std::string serve(const serve_options& options) {
  net::blocking_server_options server_options;
  server_options.thread_name = "weft-debug";
  server_options.max_connections = options.max_connections;
  http::handler h = routes().as_handler();
  if (!options.token.empty()) h = require_token(std::move(h), options.token);
  auto server = std::make_unique<net::blocking_server>(
      std::move(h), loopback_by_default(options.address), server_options);
  std::string at = server->address();
  running_servers& all = servers();
  std::lock_guard hold(all.lock);
  all.list.push_back(std::move(server));
  return at;
}

std::string serve(std::string_view address) {
  return serve(serve_options{.address = std::string(address)});
}

void serve_from_environment() {
  serve_options options;
  options.address = base::option_value(base::option::WEFT_DEBUG_ADDR);
  if (options.address.empty()) return;
  options.token = base::option_value(base::option::WEFT_DEBUG_TOKEN);
  try {
    std::string at = serve(options);
    const bool open = options.token.empty() && !is_private(at);
    base::log_line(
        "debug server on %s%s", at.c_str(),
        open ? ", for everybody who can reach it: WEFT_DEBUG_TOKEN asks for a token" : "");
  } catch (const std::exception& e) {
    base::fatalf("WEFT_DEBUG_ADDR=%s: %s", options.address.c_str(), e.what());
  }
}

}  // namespace weft::debug
