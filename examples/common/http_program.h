#pragma once
// http_program: what the programs here that serve HTTP have in common: where they listen, what they
// print, how they end.
//
//   int serve(const options& o, const weft::context& stop) {
//     weft::net::tcp_listener listener = example::open_ports(o.listen, o.debug);
//     weft::http::server server(handler);
//     return example::report_end(example::serve_until(stop, server, std::move(listener)));
//   }
//   int main(int argc, char** argv) {
//     return example::run_program("name", [&] { return parse_options(argc, argv); }, serve);
//   }
#include <weft/context.h>
#include <weft/http/server.h>
#include <weft/net/tcp.h>
#include <weft/run.h>

#include <cstdio>
#include <exception>
#include <string>

#include "examples/common/flags.h"
#include "examples/common/stop_signal.h"

namespace example {

// "--listen" and "--debug". The address that `listen` has already is named as the default.
void add_listen_flag(flags& f, std::string& listen);
void add_debug_flag(flags& f, std::string& debug);

// Listens, and starts a debug server unless `debug` is "" (WEFT_DEBUG_ADDR works all the same).
// Throws what weft::net::listen() and weft::debug::serve() throw.
weft::net::tcp_listener open_ports(const std::string& listen, const std::string& debug);

// Serves until `stop` is cancelled and then waits for the requests under way, 10 seconds at most.
// False if some had to be cut off: the server's destructor waits for their handlers.
bool serve_until(const weft::context& stop, weft::http::server& server,
                 weft::net::tcp_listener listener);

// Says how it ended; the program's exit status.
int report_end(bool orderly);

// serve(parse(), stop) as the main task, where SIGINT and SIGTERM cancel `stop`. Returns what it
// returns; 1 if it throws, 2 for a command line that cannot be obeyed, with a line on stderr.
template <class Parse, class Serve>
int run_program(const char* name, Parse parse, Serve serve) {
  try {
    const auto options = parse();
    stop_signal stop;
    return weft::run([&]() -> int {
      try {
        return serve(options, stop.context());
      } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", name, error.what());
        return 1;
      }
    });
  } catch (const usage_error& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 2;
  }
}

}  // namespace example
