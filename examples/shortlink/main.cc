// shortlink: a link shortener on weft. README.md describes the endpoints and how the parts fit.
//
// Exit status: 0 after SIGTERM or SIGINT and an orderly end, 1 if it could not start or had to cut
// requests off, 2 for a command line that cannot be obeyed.
#include <weft/http/server.h>
#include <weft/net/tcp.h>

#include <string>
#include <utility>

#include "examples/common/flags.h"
#include "examples/common/http_program.h"
#include "examples/shortlink/service.h"
#include "examples/shortlink/validate.h"

namespace {

struct options {
  std::string listen = "127.0.0.1:8080";
  std::string debug;
  shortlink::service_options service;
};

options parse_options(int argc, char** argv) {
  options o;
  example::flags f("shortlink", "A link shortener that keeps its links in SQLite.");
  example::add_listen_flag(f, o.listen);
  f.add("--db", "FILE",
        "database, created if missing; \":memory:\" keeps nothing (default shortlink.db)",
        [&](std::string_view v) { o.service.database = v; });
  example::add_debug_flag(f, o.debug);
  f.add("--cache", "N", "links kept in memory (default 10000)", [&](std::string_view v) {
    o.service.cache_capacity = example::parse_number<size_t>(v, 0, 100'000'000);
  });
  f.add("--base-url", "URL",
        "what short links begin with (default http:// and the Host of the request)",
        [&](std::string_view v) { o.service.base_url = v; });
  f.parse(argc, argv);
  return o;
}

int serve(const options& o, const weft::context& stop) {
  weft::net::tcp_listener listener = example::open_ports(o.listen, o.debug);
  shortlink::service service(o.service, stop);
  weft::http::mux mux;
  service.add_routes(mux);
  bool orderly = true;
  {
    weft::http::server_options limits;
    limits.max_body = shortlink::max_body_bytes;
    weft::http::server server(mux, limits);
    service.report_connections_of(server);
    orderly = example::serve_until(stop, server, std::move(listener));
    // The server's destructor waits for handlers that were cut off: nobody counts clicks after it.
  }
  service.finish();
  return example::report_end(orderly);
}

}  // namespace

int main(int argc, char** argv) {
  return example::run_program(
      "shortlink", [&] { return parse_options(argc, argv); }, serve);
}
