// /metrics: what Prometheus scrapes.
#include <weft/debug/debug.h>

#include "net/poller.h"
#include "profiler/prometheus_text.h"

namespace weft::debug {

void handle_metrics(http::mux& m, std::string_view path) {
  m.handle("GET " + std::string(path), [](http::response_writer& w, http::request&) {
    prof::prometheus_writer out;
    prof::write_process_metrics(out);
    if (const std::string_view poller = net::poller_name(); !poller.empty()) {
      out.family("weft_io_poller_info", "gauge", "Which poller serves the sockets, and why.");
      out.value(1, {{"poller", poller}, {"reason", net::poller_reason()}});
    }
    static_cast<void>(w.respond(200, prof::prometheus_content_type, out.take()));
  });
}

}  // namespace weft::debug
