#pragma once
// Per-endpoint timing: how often each route was served, how long it took, how often it failed.
#include <weft/http/handler.h>
#include <weft/labels.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "examples/common/log_histogram.h"

namespace shortlink {

class timing {
 public:
  // Wraps `inner`: while it runs the task carries the label route=`pattern`, so that profiles and
  // dumps show which endpoint they are looking at; an http_error becomes a JSON answer with its
  // status, any other exception a 500 and a line on stderr. Not thread-safe: wrap before serving.
  weft::http::handler wrap(std::string pattern, weft::http::handler inner);

  struct row {
    std::string_view pattern;
    uint64_t rejected = 0;  // answered 4xx
    uint64_t failed = 0;    // answered 5xx
    example::latency_counts latency;
  };
  // In the order of wrapping. Thread-safe.
  std::vector<row> rows() const;

 private:
  struct endpoint {
    std::string pattern;
    weft::labels labels;
    example::log_histogram latency;
    std::atomic<uint64_t> rejected{0}, failed{0};

    void serve(const weft::http::handler& inner, weft::http::response_writer& w,
               weft::http::request& r);
  };
  std::vector<std::shared_ptr<endpoint>> endpoints_;
};

}  // namespace shortlink
