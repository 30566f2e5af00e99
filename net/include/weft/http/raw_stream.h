#pragma once
// The byte stream behind a connection after response_writer::hijack().
#include <weft/result.h>

#include <chrono>
#include <span>
#include <string_view>

namespace weft::http {

// Bytes that arrived behind the request head come out first. Valid until the handler that called
// hijack() returns; then the connection is closed. One reader and one writer at a time may use it.
class raw_stream {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  virtual ~raw_stream() = default;
  // Reads 1 to into.size() bytes; errc::eof when the peer has ended the stream. Blocks or parks.
  virtual result<std::size_t> read(std::span<char> into) = 0;
  // Writes all of `bytes`. Blocks or parks while the peer does not read.
  virtual result<void> write(std::string_view bytes) = 0;
  // Absolute, for pending and later calls; time_point::max() means none. A passed deadline gives
  // errc::deadline_exceeded.
  virtual void set_read_deadline(time_point at) = 0;
  virtual void set_write_deadline(time_point at) = 0;
};

}  // namespace weft::http
