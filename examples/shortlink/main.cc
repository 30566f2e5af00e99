// shortlink: a link shortener on weft. README.md describes the endpoints and how the parts fit.
//
// Exit status: 0 after SIGTERM or SIGINT and an orderly end, 1 if it could not start or had to cut
// requests off, 2 for a command line that cannot be obeyed.
#include <weft/debug/debug.h>
#include <weft/http/server.h>
#include <weft/net/tcp.h>
#include <weft/weft.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>

#include "examples/common/flags.h"
#include "examples/common/stop_signal.h"
#include "examples/shortlink/service.h"
#include "examples/shortlink/validate.h"

namespace {

struct options {
  std::string listen = "127.0.0.1:8080";
  std::string debug;  // "": no debug server of our own, WEFT_DEBUG_ADDR still works
  shortlink::service_options service;
};

options parse_options(int argc, char** argv) {
  options o;
  example::flags f("shortlink", "A link shortener that keeps its links in SQLite.");
  f.add("--listen", "HOST:PORT", "where to serve; port 0: any free one (default 127.0.0.1:8080)",
        [&](std::string_view v) { o.listen = v; });
  f.add("--db", "FILE",
        "database, created if missing; \":memory:\" keeps nothing (default shortlink.db)",
        [&](std::string_view v) { o.service.database = v; });
  f.add("--debug", "HOST:PORT", "where to serve profiles and task dumps; port 0: any free one",
        [&](std::string_view v) { o.debug = v; });
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
  weft::net::tcp_listener listener = weft::net::listen("tcp", o.listen);
  std::string address = listener.local_address().to_string();
  if (!o.debug.empty()) {
    std::printf("debug server on http://%s/debug/pprof/\n", weft::debug::serve(o.debug).c_str());
  }

  shortlink::service service(o.service, stop);
  weft::http::mux mux;
  service.add_routes(mux);
  bool orderly = true;
  {
    weft::http::server_options limits;
    limits.max_body = shortlink::max_body_bytes;
    weft::http::server server(mux, limits);
    service.report_connections_of(server);
    auto serving = weft::spawn({.name = "accept"}, [&] { server.serve(std::move(listener)); });
    std::printf("listening on http://%s/\n", address.c_str());
    std::fflush(stdout);

    stop.done().recv();
    std::printf("stopping\n");
    orderly = server.shutdown(weft::now() + std::chrono::seconds(10));
    serving.join();
    // The server's destructor waits for handlers that were cut off: nobody counts clicks after it.
  }
  service.finish();
  std::printf("stopped%s\n", orderly ? "" : "; requests were cut off");
  return orderly ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    options o = parse_options(argc, argv);
    example::stop_signal stop;
    return weft::run([&]() -> int {
      try {
        return serve(o, stop.context());
      } catch (const std::exception& error) {
        std::fprintf(stderr, "shortlink: %s\n", error.what());
        return 1;
      }
    });
  } catch (const example::usage_error& error) {
    std::fprintf(stderr, "shortlink: %s\n", error.what());
    return 2;
  }
}
