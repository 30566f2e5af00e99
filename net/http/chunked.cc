// See chunked.h. Framing bytes are taken one at a time (they are few, and counted: a body of tiny
// chunks with long extensions is an attack on the receiver's CPU), data in runs.
#include "net/http/chunked.h"

#include <algorithm>

#include "net/http/ascii.h"
#include "net/http/scan.h"

namespace weft::http::detail {
namespace {

// Fields that decided something before the body began; a trailer must not rewrite them.
bool forbidden_in_trailers(known_header id) {
  switch (id) {
    case known_header::authorization:
    case known_header::cache_control:
    case known_header::connection:
    case known_header::content_encoding:
    case known_header::content_length:
    case known_header::content_range:
    case known_header::content_type:
    case known_header::cookie:
    case known_header::expect:
    case known_header::forwarded:
    case known_header::host:
    case known_header::keep_alive:
    case known_header::max_forwards:
    case known_header::origin:
    case known_header::pragma:
    case known_header::proxy_authorization:
    case known_header::proxy_connection:
    case known_header::range:
    case known_header::set_cookie:
    case known_header::te:
    case known_header::trailer:
    case known_header::transfer_encoding:
    case known_header::upgrade:
    case known_header::via:
    case known_header::x_forwarded_for:
    case known_header::x_forwarded_host:
    case known_header::x_forwarded_proto:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool chunk_decoder::fail(int code, const char* reason) {
  state_ = state::failed;
  error_status_ = static_cast<std::uint16_t>(code);
  reason_ = reason;
  return false;
}

bool chunk_decoder::end_of_trailer_line() {
  std::string_view name, value;
  if (const char* reason = parse_field_line(line_, name, value)) return fail(400, reason);
  if (++trailer_count_ > limits_.trailer_fields) return fail(431, "too many trailer fields");
  if (!forbidden_in_trailers(find_known_header(name))) {
    trailers_.append(name).append(": ").append(value).push_back('\n');
  }
  line_.clear();
  return true;
}

bool chunk_decoder::framing_byte(char c) {
  ++overhead_bytes_;
  if (overhead_bytes_ > limits_.overhead_free &&
      overhead_bytes_ / limits_.overhead_factor > body_bytes_) {
    return fail(400, "more chunk framing than the body justifies");
  }
  switch (state_) {
    case state::size: {
      int digit = hex_value(c);
      if (digit >= 0) {
        if (++digits_ > 16) return fail(400, "chunk size longer than 16 digits");
        chunk_left_ = chunk_left_ * 16 + static_cast<std::uint64_t>(digit);
        return true;
      }
      if (digits_ == 0) return fail(400, "chunk size is not a hexadecimal number");
      if (c == ';') {
        state_ = state::extension;
        extension_length_ = 1;
        return true;
      }
      if (c != '\r') return fail(400, "forbidden byte after a chunk size");
      state_ = state::size_lf;
      return true;
    }
    case state::extension:
      if (c == '\r') {
        state_ = state::size_lf;
        return true;
      }
      if (!is_value_byte(c)) return fail(400, "control character in a chunk extension");
      if (++extension_length_ > limits_.extension) {
        return fail(400, "chunk extension over the limit");
      }
      return true;
    case state::size_lf:
      if (c != '\n') return fail(400, "chunk size line not ended by CRLF");
      state_ = chunk_left_ > 0 ? state::data : state::trailer_start;
      return true;
    case state::data_cr:
      if (c != '\r') return fail(400, "chunk data not followed by CRLF");
      state_ = state::data_lf;
      return true;
    case state::data_lf:
      if (c != '\n') return fail(400, "chunk data not followed by CRLF");
      state_ = state::size;
      digits_ = 0;
      chunk_left_ = 0;
      return true;
    case state::trailer_start:
      if (c == '\r') {
        state_ = state::final_lf;
        return true;
      }
      state_ = state::trailer_line;
      [[fallthrough]];
    case state::trailer_line:
      if (c == '\r') {
        state_ = state::trailer_lf;
        return true;
      }
      if (!is_value_byte(c)) return fail(400, "control character in the trailers");
      if (line_.size() >= limits_.trailer_field || ++trailer_bytes_ > limits_.trailers) {
        return fail(431, "trailers over the limit");
      }
      line_.push_back(c);
      return true;
    case state::trailer_lf:
      if (c != '\n') return fail(400, "CR that is not followed by LF in the trailers");
      state_ = state::trailer_start;
      return end_of_trailer_line();
    case state::final_lf:
      if (c != '\n') return fail(400, "last chunk not ended by CRLF");
      state_ = state::done;
      return true;
    case state::data:
    case state::done:
    case state::failed:
      break;
  }
  return false;
}

chunk_decoder::step_result chunk_decoder::step(std::string_view input) {
  std::size_t at = 0;
  for (;;) {
    if (state_ == state::done) return {status::done, at};
    if (state_ == state::failed) return {status::error, at};
    if (at == input.size()) return {status::need_more, at};
    if (state_ == state::data) {
      std::size_t run =
          static_cast<std::size_t>(std::min<std::uint64_t>(chunk_left_, input.size() - at));
      chunk_left_ -= run;
      body_bytes_ += run;
      if (chunk_left_ == 0) state_ = state::data_cr;
      return {status::data, at + run, at, run};
    }
    if (!framing_byte(input[at])) return {status::error, at};
    ++at;
  }
}

}  // namespace weft::http::detail
