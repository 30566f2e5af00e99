#pragma once
// store: the links on disk. Every function parks the calling task until a connection is free and
// runs SQLite inside weft::blocking, so that a slow disk holds up nobody else. Thread-safe.
#include <weft/chan.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shortlink {

struct link {
  int64_t id = 0;
  std::string code, url;
  int64_t created_ms = 0;  // Unix time in milliseconds
  int64_t clicks = 0;
  std::optional<int64_t> last_click_ms;
};

// Clicks of one link, summed up.
struct click_sum {
  int64_t link_id = 0;
  int64_t clicks = 0;
  int64_t last_ms = 0;
};

class store {
 public:
  // `path`: a file, created if missing, or ":memory:". Throws sqlite_error.
  explicit store(const std::string& path);
  ~store();

  // The new link, or nullopt if the code is taken.
  std::optional<link> create(std::string_view code, std::string_view url);
  std::optional<link> find(std::string_view code);
  // False if there is no such link.
  bool remove(std::string_view code);
  // Adds the sums in one transaction; those of removed links vanish.
  void add_clicks(std::span<const click_sum> sums);

  int64_t link_count() const noexcept { return link_count_.load(std::memory_order_relaxed); }

 private:
  struct connection;
  class lease;
  using pool = weft::chan<connection*>;

  std::vector<std::unique_ptr<connection>> connections_;
  // Idle connections. SQLite has one writer at a time anyway, so one connection writes: a task that
  // waits for its turn is parked in the channel instead of polling in SQLite's busy handler.
  pool readers_, writer_;
  std::atomic<int64_t> link_count_{0};
};

}  // namespace shortlink
