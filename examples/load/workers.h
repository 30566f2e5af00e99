#pragma once
// The tasks that send requests.
#include <weft/context.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "examples/load/options.h"
#include "examples/load/results.h"

namespace load {

// The service did not do what the measurement needs beforehand.
class preparation_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Creates options.links links over all connections and returns their codes. Throws
// preparation_error.
std::vector<std::string> prepare_links(const options& o);

struct run_summary {
  std::chrono::nanoseconds elapsed{0};
  uint64_t unsent =
      0;  // due within the time, but all connections were busy (with options.rate only)
};

// Sends requests until options.duration is over or `stop` is cancelled; returns when the last
// answer is in.
//
// Without a rate each connection sends its next request when the last one is answered (closed
// loop). With a rate each connection has a timetable, and a latency runs from the moment the
// request was due, not from when it could be sent: a service that stalls for a second is charged
// with every request that would have come in that second, instead of one (coordinated omission).
run_summary run_workers(const options& o, const std::vector<std::string>& codes,
                        const weft::context& stop, results& out);

}  // namespace load
