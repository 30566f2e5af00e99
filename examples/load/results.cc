#include "examples/load/results.h"

#include <mutex>

namespace load {

void results::record(unsigned worker, request_kind kind, const response& r,
                     example::nanoseconds latency) {
  shard& s = shards_[worker % shard_count];
  auto count = [](std::atomic<uint64_t>& counter) {
    counter.fetch_add(1, std::memory_order_relaxed);
  };
  switch (r.how) {
    case outcome::answered:
      s.latency[static_cast<size_t>(kind)].record(latency);
      if (r.status >= 200 && r.status < 400) return;
      count(s.bad_status);
      remember(kind, "answered with status " + std::to_string(r.status));
      return;
    case outcome::timed_out:
      count(s.timeouts);
      break;
    case outcome::broken:
      count(s.broken);
      break;
    case outcome::malformed:
      count(s.malformed);
      break;
  }
  remember(kind, r.explanation);
}

void results::remember(request_kind kind, const std::string& what) {
  std::lock_guard held(mutex_);
  if (first_error_.empty()) {
    first_error_ = std::string(kind_names[static_cast<size_t>(kind)]) + ": " + what;
  }
}

std::string results::first_error() const {
  std::lock_guard held(mutex_);
  return first_error_;
}

totals results::sum() const {
  totals t;
  for (const shard& s : shards_) {
    for (size_t kind = 0; kind < kind_count; ++kind) {
      example::latency_counts seen = s.latency[kind].snapshot();
      t.latency[kind].add(seen);
      t.all.add(seen);
    }
    t.bad_status += s.bad_status.load(std::memory_order_relaxed);
    t.timeouts += s.timeouts.load(std::memory_order_relaxed);
    t.broken += s.broken.load(std::memory_order_relaxed);
    t.malformed += s.malformed.load(std::memory_order_relaxed);
  }
  return t;
}

}  // namespace load
