#pragma once
// What all connections of one server share, and the ports through which a server supplies it:
// blocks, time, counters, the shutdown flag.
#include <weft/http/handler.h>
#include <weft/http/server_options.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

namespace weft::http::detail {

// Size of every pooled block.
inline constexpr std::size_t block_size = 16384;

// Lends 16 KB blocks, aligned for any object. Called from any task; a server keeps one stack per P.
class buffer_pool {
 public:
  virtual ~buffer_pool() = default;
  virtual char* acquire() = 0;
  virtual void release(char* block) noexcept = 0;
};

// A pool behind one lock that keeps up to `keep` blocks: for the debug server and for tests.
class locked_buffer_pool final : public buffer_pool {
 public:
  explicit locked_buffer_pool(std::size_t keep = 16) : keep_(keep) { free_.reserve(keep); }
  ~locked_buffer_pool() override;
  char* acquire() override;
  void release(char* block) noexcept override;
  // Blocks acquired and not released.
  std::size_t lent() const;

 private:
  mutable std::mutex mutex_;
  const std::size_t keep_;
  std::size_t lent_ = 0;
  std::vector<char*> free_;
};

// Time as HTTP needs it. now() may be the time stamp of the poller's batch.
class http_clock {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  virtual ~http_clock() = default;
  virtual time_point now() const = 0;
  // Writes the 29 bytes "Sun, 06 Nov 1994 08:49:37 GMT".
  virtual void write_date(char* into) const = 0;
};

inline constexpr std::size_t date_length = 29;
// Formats seconds since 1970 as the Date field does, 29 bytes.
void format_date(std::int64_t unix_seconds, char* into);

// Reads the system's clocks; formats a date once per second. Safe from any number of threads.
class system_http_clock final : public http_clock {
 public:
  time_point now() const override { return std::chrono::steady_clock::now(); }
  void write_date(char* into) const override;

 private:
  // A sequence lock over the formatted date: readers copy it without waiting, whoever sees a new
  // second first formats it.
  mutable std::atomic<std::uint32_t> sequence_{0};
  mutable std::atomic<std::int64_t> second_{-1};
  mutable std::atomic<std::uint64_t> words_[4] = {};
};

// Sums over all connections, for metrics. Added once per burst of requests, not per request.
struct http_counters {
  std::atomic<std::uint64_t> requests{0};
  std::atomic<std::uint64_t> refused_heads{0};  // 4xx/5xx answered by the parser
  std::atomic<std::uint64_t> limits_hit{0};     // 408, 413, 414, 431 among the answers of ours
  std::atomic<std::uint64_t> handler_exceptions{0};
  std::atomic<std::uint64_t> broken_responses{0};  // reset after the head had left
  std::atomic<std::uint64_t> timeouts{0};          // head, idle, body or write clock ran out
};

struct environment {
  const server_options& options;
  const handler& handle;
  buffer_pool& pool;
  const http_clock& clock;
  http_counters& counters;
  const std::atomic<bool>& stopping;  // answers carry Connection: close from now on
  void (*yield)() = nullptr;          // lets others run after max_pipelined requests in one go
};

}  // namespace weft::http::detail
