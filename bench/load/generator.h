#pragma once
// Closed-loop load on one TCP server from one thread: every connection keeps `pipeline` requests in
// flight and sends the next as answers arrive. Everything is checked: each echo byte by byte, each
// HTTP answer for status 200, framing and an unchanged length.

#include <cstdint>
#include <string>
#include <vector>

#include "bench/common/histogram.h"

namespace bench::load {

struct settings {
  bool http = true;
  std::string host = "127.0.0.1";  // dotted IPv4
  int port = 0;
  int connections = 64;
  int pipeline = 1;                // requests in flight per connection
  bool short_connections = false;  // HTTP only: connect, one request, close
  bool hold = false;               // one request per connection, then keep them open and idle
  std::size_t size = 64;           // bytes per echo
  std::string path = "/";
  double warmup_seconds = 0.5;  // after the last connection is open; not measured
  double seconds = 3;           // measured time, unless `requests` is given
  std::uint64_t requests = 0;   // stop after so many measured requests (0 = by time)
  double stall_seconds = 5;     // no answer at all for so long ends the run with time-out errors
  int server_pid = 0;           // read this process's CPU clock around the measured time
};

struct failures {
  std::uint64_t connect = 0;   // could not connect
  std::uint64_t closed = 0;    // peer closed or reset with requests in flight
  std::uint64_t status = 0;    // answer other than 200
  std::uint64_t mismatch = 0;  // wrong bytes, bad framing, or a length that changed
  std::uint64_t timeout = 0;   // never answered

  std::uint64_t total() const { return connect + closed + status + mismatch + timeout; }
};

struct outcome {
  std::uint64_t requests = 0;  // answered within the measured time
  double seconds = 0;
  histogram latency;  // from the send of a request to the arrival of its last byte
  failures errors;    // of the whole run, warm-up included
  std::uint64_t server_cpu_ns = 0;
  std::uint64_t own_cpu_ns = 0;
  std::uint64_t response_bytes = 0;                               // of one answer
  std::uint64_t server_bytes_before = 0, server_bytes_after = 0;  // resident, when settings.hold
};

// Runs to the end of the measured time. Throws std::system_error when the machine refuses (no file
// descriptors left, no such address); faults of the server are counted in outcome.errors instead.
outcome run(const settings& s);

}  // namespace bench::load
