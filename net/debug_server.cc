// The debug server: the endpoints on OS threads of their own.
#include <weft/debug/debug.h>

#include <memory>
#include <mutex>
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

}  // namespace

std::string serve(std::string_view address) {
  net::blocking_server_options options;
  options.thread_name = "weft-debug";
  auto server = std::make_unique<net::blocking_server>(routes().as_handler(),
                                                       loopback_by_default(address), options);
  std::string at = server->address();
  running_servers& all = servers();
  std::lock_guard hold(all.lock);
  all.list.push_back(std::move(server));
  return at;
}

void serve_from_environment() {
  std::string_view address = base::option_value(base::option::WEFT_DEBUG_ADDR);
  if (address.empty()) return;
  try {
    std::string at = serve(address);
    base::log_line("debug server on %s", at.c_str());
  } catch (const std::exception& e) {
    base::fatalf("WEFT_DEBUG_ADDR=%.*s: %s", static_cast<int>(address.size()), address.data(),
                 e.what());
  }
}

}  // namespace weft::debug
