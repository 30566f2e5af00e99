#pragma once
// What the workers record and the reports show.
#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include <weft/mutex.h>

#include "examples/common/log_histogram.h"
#include "examples/load/http_client.h"
#include "examples/load/options.h"

namespace load {

// Sums at one moment.
struct totals {
  std::array<example::latency_counts, kind_count> latency;  // of complete responses
  example::latency_counts all;                              // of all kinds together
  uint64_t bad_status = 0;                                  // complete, but neither 2xx nor 3xx
  uint64_t timeouts = 0, broken = 0, malformed = 0;

  uint64_t answered() const noexcept { return all.count(); }
  uint64_t errors() const noexcept { return bad_status + timeouts + broken + malformed; }
};

// Thread-safe.
class results {
 public:
  // `worker` only spreads the counters over cache lines.
  void record(unsigned worker, request_kind kind, const response& r, example::nanoseconds latency);
  totals sum() const;
  // Of the first request that went wrong, "" if none did.
  std::string first_error() const;

 private:
  static constexpr size_t shard_count = 8;
  struct alignas(64) shard {
    std::array<example::log_histogram, kind_count> latency;
    std::atomic<uint64_t> bad_status{0}, timeouts{0}, broken{0}, malformed{0};
  };
  void remember(request_kind kind, const std::string& what);

  std::array<shard, shard_count> shards_;
  mutable weft::mutex mutex_;
  std::string first_error_;  // guarded by mutex_
};

}  // namespace load
