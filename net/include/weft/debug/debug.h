#pragma once
// The debug endpoints: Go's net/http/pprof under the same URLs.
//
//   weft::debug::serve("localhost:6060");     // or, with no code at all,
//   WEFT_DEBUG_ADDR=localhost:6060 ./program
//
//   /debug/pprof/            index
//   /debug/pprof/cmdline     command line
//   /debug/pprof/profile     CPU profile (?seconds=)
//   /debug/pprof/symbol      names of program counters
//   /debug/pprof/goroutine   all tasks (?debug=0|1|2)
//   /debug/weft/deadlocks    tasks that wait for each other, with their stacks (<weft/deadlock.h>)
//   /metrics                 counts of the process for Prometheus
#include <weft/http/mux.h>

#include <string>
#include <string_view>

namespace weft::debug {

// Mounts the endpoints on m under /debug/pprof/ and /debug/weft/. Requests then run as tasks of the
// program's own server.
void handle(http::mux& m);
// Those of /debug/pprof/ under another prefix: prefix + "/", prefix + "/profile", …
void handle(http::mux& m, std::string_view prefix);

// Mounts what Prometheus scrapes: the names of Go's client library (go_goroutines,
// process_cpu_seconds_total, …) and weft's own (weft_…), so that dashboards for Go programs work.
// The debug server has it as /metrics.
void handle_metrics(http::mux& m, std::string_view path = "/metrics");

// Starts the debug server on its own OS threads, so that it answers when every worker is stuck.
// `address`: "host:port" ("localhost:0" picks a port; an empty host means loopback, not every
// interface) or "unix:/path". Returns the address it listens on. Throws weft::system_error when it
// cannot listen. Read-only; at most 16 connections at a time, further ones get 503. There is no
// authentication: whoever can reach it can read stacks, labels and the command line. Thread-safe;
// may be called more than once.
std::string serve(std::string_view address);

}  // namespace weft::debug
