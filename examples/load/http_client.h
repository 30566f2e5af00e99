#pragma once
// http_client: one keep-alive connection that sends a request and reads the whole answer. Just
// enough HTTP/1.1 for measuring; it distinguishes what went wrong, so that the report can.
#include <weft/net/tcp.h>

#include <array>
#include <chrono>
#include <string>
#include <string_view>

namespace load {

enum class outcome {
  answered,   // a complete response, whatever its status
  timed_out,  // not within the deadline
  broken,     // refused, reset, or closed in the middle
  malformed,  // what came is not HTTP/1.1
};

struct response {
  outcome how = outcome::broken;
  int status = 0;           // of an answered one
  std::string location;     // its Location header
  std::string explanation;  // for the other outcomes
};

// Used by one task at a time.
class http_client {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  explicit http_client(std::string target) : target_(std::move(target)) {}

  // Connects if necessary, sends `request` (which must not be HEAD) and reads the answer. After
  // anything but `answered`, and after an answer that ends the connection, the next call connects
  // anew.
  response exchange(std::string_view request, time_point deadline);

 private:
  // What the head of a response says about the rest.
  struct head {
    int status = 0;
    std::string location;
    bool chunked = false, close = false, has_length = false;
    uint64_t length = 0;
  };

  head read_head();
  void read_body(const head& h);
  void read_chunks();
  std::string_view read_line();
  void skip(uint64_t bytes);
  void fill();

  std::string target_;
  weft::net::tcp_conn conn_;
  // Received and not yet used: [begin_, end_) of buffer_.
  std::array<char, 16384> buffer_;
  size_t begin_ = 0, end_ = 0;
};

}  // namespace load
