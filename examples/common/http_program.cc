#include "examples/common/http_program.h"

#include <weft/debug/debug.h>
#include <weft/task.h>
#include <weft/time.h>

#include <chrono>
#include <string_view>
#include <utility>

namespace example {

void add_listen_flag(flags& f, std::string& listen) {
  f.add("--listen", "HOST:PORT", "where to serve; port 0: any free one (default " + listen + ")",
        [to = &listen](std::string_view v) { *to = v; });
}

void add_debug_flag(flags& f, std::string& debug) {
  f.add("--debug", "HOST:PORT", "where to serve profiles and task dumps; port 0: any free one",
        [to = &debug](std::string_view v) { *to = v; });
}

weft::net::tcp_listener open_ports(const std::string& listen, const std::string& debug) {
  weft::net::tcp_listener listener = weft::net::listen("tcp", listen);
  if (!debug.empty()) {
    std::printf("debug server on http://%s/debug/pprof/\n", weft::debug::serve(debug).c_str());
  }
  return listener;
}

bool serve_until(const weft::context& stop, weft::http::server& server,
                 weft::net::tcp_listener listener) {
  const std::string address = listener.local_address().to_string();
  auto serving = weft::spawn({.name = "accept"}, [&] { server.serve(std::move(listener)); });
  std::printf("listening on http://%s/\n", address.c_str());
  std::fflush(stdout);

  stop.done().recv();
  std::printf("stopping\n");
  const bool orderly = server.shutdown(weft::now() + std::chrono::seconds(10));
  serving.join();
  return orderly;
}

int report_end(bool orderly) {
  std::printf("stopped%s\n", orderly ? "" : "; requests were cut off");
  return orderly ? 0 : 1;
}

}  // namespace example
