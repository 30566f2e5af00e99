#pragma once
// Strict incremental decoder of the chunked transfer coding (RFC 9112 section 7.1). It copies no
// data: each step() says how much input it took and which part of that is body.
//
//   chunk_decoder d(limits);
//   for (;;) {
//     auto s = d.step(input);
//     use(input.substr(s.data_offset, s.data_length));
//     input.remove_prefix(s.consumed);
//     if (s.state != chunk_decoder::status::data) break;   // need_more, done or error
//   }
#include <cstdint>
#include <string>
#include <string_view>

#include "net/http/parse_head.h"

namespace weft::http::detail {

struct chunk_limits {
  std::uint32_t extension = 256;         // bytes of extension per chunk
  std::uint32_t overhead_free = 102400;  // framing bytes that are never counted against the body
  std::uint32_t overhead_factor = 16;    // framing bytes allowed per body byte beyond that
  std::uint32_t trailer_field = 16384;   // bytes of one trailer line
  std::uint32_t trailers = 16384;        // bytes of all trailers
  std::uint32_t trailer_fields = 100;
};

class chunk_decoder {
 public:
  enum class status : std::uint8_t { data, need_more, done, error };
  struct step_result {
    status state;
    std::size_t consumed = 0;
    std::size_t data_offset = 0;
    std::size_t data_length = 0;
  };

  explicit chunk_decoder(const chunk_limits& limits = {}) : limits_(limits) {}

  // Decodes the front of `input`. `data` means: call again with the rest. After done nothing more
  // is consumed; after error the decoder stays in error.
  step_result step(std::string_view input);

  // Why the last step failed, and with which HTTP status to answer; static text.
  const char* reason() const { return reason_; }
  int error_status() const { return error_status_; }
  bool done() const { return state_ == state::done; }

  // Accepted trailer fields as "Name: value\n" lines. Names that would change framing, routing or
  // credentials after the fact are left out. Complete once done.
  const std::string& trailers() const { return trailers_; }

 private:
  // What the next byte belongs to.
  //  size -> extension  ';'            size, extension -> size_lf   CR
  //  size_lf -> data    size > 0       size_lf -> trailer_start     size == 0
  //  data -> data_cr    chunk read     data_cr -> data_lf -> size   CR, LF
  //  trailer_start -> trailer_line     any byte but CR; line ends -> trailer_lf -> trailer_start
  //  trailer_start -> final_lf -> done CR, LF
  enum class state : std::uint8_t {
    size,
    extension,
    size_lf,
    data,
    data_cr,
    data_lf,
    trailer_start,
    trailer_line,
    trailer_lf,
    final_lf,
    done,
    failed
  };

  bool framing_byte(char c);
  bool end_of_trailer_line();
  bool fail(int code, const char* reason);

  chunk_limits limits_;
  state state_ = state::size;
  std::uint8_t digits_ = 0;
  std::uint16_t error_status_ = 0;
  std::uint32_t extension_length_ = 0;
  std::uint32_t trailer_bytes_ = 0;
  std::uint32_t trailer_count_ = 0;
  std::uint64_t chunk_left_ = 0;
  std::uint64_t body_bytes_ = 0;
  std::uint64_t overhead_bytes_ = 0;
  const char* reason_ = nullptr;
  std::string line_;  // the trailer line being read
  std::string trailers_;
};

}  // namespace weft::http::detail
