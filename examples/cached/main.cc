// cached: a cache with an HTTP interface whose values live on the collected heap. README.md has the
// endpoints.
//
// Exit status: 0 after SIGTERM or SIGINT and an orderly end, 1 if it could not start or had to cut
// requests off, 2 for a command line that cannot be obeyed.
#include <weft/http/server.h>
#include <weft/net/tcp.h>

#include <string>
#include <utility>

#include "examples/cached/service.h"
#include "examples/common/flags.h"
#include "examples/common/http_program.h"

namespace {

struct options {
  std::string listen = "127.0.0.1:8081";
  std::string debug;
  cached::service_options service;
};

options parse_options(int argc, char** argv) {
  options o;
  example::flags f("cached", "A cache of byte strings by key, in memory.");
  example::add_listen_flag(f, o.listen);
  example::add_debug_flag(f, o.debug);
  f.add("--memory", "MIB", "keys and values kept, in MiB (default 256)", [&](std::string_view v) {
    o.service.memory = example::parse_number<size_t>(v, 1, 1 << 20) << 20;
  });
  f.add("--largest", "BYTES", "largest value (default 8388608)", [&](std::string_view v) {
    o.service.largest_item = example::parse_number<size_t>(v, 1, size_t{1} << 30);
  });
  f.parse(argc, argv);
  return o;
}

int serve(const options& o, const weft::context& stop) {
  weft::net::tcp_listener listener = example::open_ports(o.listen, o.debug);
  cached::service service(o.service);
  weft::http::mux mux;
  service.add_routes(mux);
  weft::http::server_options limits;
  limits.max_body = o.service.largest_item;
  weft::http::server server(mux, limits);
  return example::report_end(example::serve_until(stop, server, std::move(listener)));
}

}  // namespace

int main(int argc, char** argv) {
  return example::run_program(
      "cached", [&] { return parse_options(argc, argv); }, serve);
}
