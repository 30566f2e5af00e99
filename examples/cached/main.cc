// cached: a cache with an HTTP interface whose values live on the collected heap. README.md has the
// endpoints.
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

#include "examples/cached/service.h"
#include "examples/common/flags.h"
#include "examples/common/stop_signal.h"

namespace {

struct options {
  std::string listen = "127.0.0.1:8081";
  std::string debug;  // "": no debug server of our own, WEFT_DEBUG_ADDR still works
  cached::service_options service;
};

options parse_options(int argc, char** argv) {
  options o;
  example::flags f("cached", "A cache of byte strings by key, in memory.");
  f.add("--listen", "HOST:PORT", "where to serve; port 0: any free one (default 127.0.0.1:8081)",
        [&](std::string_view v) { o.listen = v; });
  f.add("--debug", "HOST:PORT", "where to serve profiles and task dumps; port 0: any free one",
        [&](std::string_view v) { o.debug = v; });
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
  weft::net::tcp_listener listener = weft::net::listen("tcp", o.listen);
  std::string address = listener.local_address().to_string();
  if (!o.debug.empty()) {
    std::printf("debug server on http://%s/debug/pprof/\n", weft::debug::serve(o.debug).c_str());
  }

  cached::service service(o.service);
  weft::http::mux mux;
  service.add_routes(mux);
  weft::http::server_options limits;
  limits.max_body = o.service.largest_item;
  weft::http::server server(mux, limits);
  auto serving = weft::spawn({.name = "accept"}, [&] { server.serve(std::move(listener)); });
  std::printf("listening on http://%s/\n", address.c_str());
  std::fflush(stdout);

  stop.done().recv();
  std::printf("stopping\n");
  const bool orderly = server.shutdown(weft::now() + std::chrono::seconds(10));
  serving.join();
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
        std::fprintf(stderr, "cached: %s\n", error.what());
        return 1;
      }
    });
  } catch (const example::usage_error& error) {
    std::fprintf(stderr, "cached: %s\n", error.what());
    return 2;
  }
}
