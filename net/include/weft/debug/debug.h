#pragma once
// The debug endpoints: Go's net/http/pprof under the same URLs.
//
//   weft::debug::serve("localhost:6060");     // or, with no code at all,
//   WEFT_DEBUG_ADDR=localhost:6060 ./program
//
//   /debug/pprof/             index of all profiles
//   /debug/pprof/cmdline      command line
//   /debug/pprof/profile      CPU profile (?seconds=)
//   /debug/pprof/symbol       names of program counters
//   /debug/pprof/goroutine    all tasks (?debug=0|1|2, ?seconds= for what changed)
//   /debug/pprof/NAME         every profile of <weft/pprof.h>, the program's own too
//   /debug/weft/deadlocks     tasks that wait for each other, with their stacks (<weft/deadlock.h>)
//   /metrics                  counts of the process for Prometheus
//
// Whoever can reach them can read stacks, labels and the command line, and make the program work:
// the server listens on this machine only unless told otherwise, and can ask for a token. Requests
// that need all stacks or symbols wait for each other; one whose client leaves stops its work.
#include <weft/http/mux.h>

#include <string>
#include <string_view>

namespace weft::debug {

// Mounts the endpoints on m under /debug/pprof/ and /debug/weft/. Requests then run as tasks of the
// program's own server.
void handle(http::mux& m);
// Those of /debug/pprof/ under another prefix: prefix + "/", prefix + "/profile", … For text forms
// (debug=1) `go tool pprof` finds /symbol only where the prefix ends in /debug/pprof.
void handle(http::mux& m, std::string_view prefix);

// Mounts what Prometheus scrapes: the names of Go's client library (go_goroutines,
// process_cpu_seconds_total, …) and weft's own (weft_…), so that dashboards for Go programs work.
// The debug server has it as /metrics.
void handle_metrics(http::mux& m, std::string_view path = "/metrics");

struct serve_options {
  // "host:port" ("localhost:0" picks a port; an empty host means loopback, not every interface) or
  // "unix:/path" (made with mode 0600).
  std::string address = "localhost:6060";
  // What requests must carry, as with require_token(); "" asks for nothing.
  std::string token = {};
  // Connections at a time, each with a thread of its own: 1 to 1000. Further ones get 503.
  int max_connections = 16;
};

// Starts the debug server on its own OS threads, so that it answers when every worker is stuck.
// Returns the address it listens on. Throws weft::system_error when it cannot listen,
// std::invalid_argument for options that make no sense. Read-only. Thread-safe; may be called more
// than once. WEFT_DEBUG_ADDR and WEFT_DEBUG_TOKEN are the same without code.
std::string serve(const serve_options& options);
std::string serve(std::string_view address);

// A handler that asks for `token` before `h` sees the request: "Authorization: Bearer TOKEN", or
// TOKEN as the password of any user, which `go tool pprof http://user:TOKEN@host/...` and browsers
// can send. Otherwise 401. The token must have 8 to 256 visible ASCII characters, else
// std::invalid_argument.
//
//   server.handle(weft::debug::require_token(debug_mux.as_handler(), token));
http::handler require_token(http::handler h, std::string token);

}  // namespace weft::debug
