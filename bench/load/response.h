#pragma once
// Finds the end of one HTTP/1.1 answer. Only sized bodies: a hello server that answers chunked
// sends other bytes than its peers, and is reported as a framing error.

#include <cstddef>
#include <string_view>

namespace bench::load {

struct response_end {
  enum class kind { incomplete, complete, bad_status, bad_framing };
  kind what = kind::incomplete;
  std::size_t size = 0;  // head and body, when complete or bad_status
};

response_end find_response_end(std::string_view bytes);

}  // namespace bench::load
