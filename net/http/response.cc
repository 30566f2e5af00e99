// How an answer gets its framing.
//
// The head is formatted at the first write(), with a gap for the lines that depend on the body:
// Connection and Content-Length or Transfer-Encoding. The body follows behind the gap. If the
// handler returns within 8 KB the gap is filled with the exact length and the body moved up against
// it (some bytes of memmove); if the body outgrows 8 KB, or flush() is called, the answer is
// committed as chunked. The bound does not depend on what else is corked, so the framing a client
// sees depends on the handler alone.
#include <weft/http/response.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <stdexcept>

#include "net/http/ascii.h"
#include "net/http/exchange.h"
#include "net/http/path.h"
#include "net/http/response_state.h"
#include "net/http/scan.h"

namespace weft::http {
namespace detail {
namespace {

constexpr std::size_t copy_limit = 8192;  // bodies up to this are copied behind the head
constexpr std::size_t slot_size = 96;     // the longest framing lines and the first chunk's size
constexpr std::size_t chunk_line = 6;     // "1f40\r\n"
constexpr std::size_t max_coalesced = 0xfff0;

char* put(char* p, std::string_view text) {
  std::memcpy(p, text.data(), text.size());
  return p + text.size();
}

void write_chunk_size(char* p, std::size_t n) {
  static constexpr char digits[] = "0123456789abcdef";
  for (int i = 3; i >= 0; --i, n >>= 4) p[i] = digits[n & 15];
  p[4] = '\r';
  p[5] = '\n';
}

// The line without CRLF at the front of `text`.
std::string_view first_line(std::string_view text) { return text.substr(0, text.find('\r')); }

bool line_is(std::string_view line, std::string_view name) {
  return line.size() > name.size() && line[name.size()] == ':' &&
         equals_nocase(line.substr(0, name.size()), name);
}

[[noreturn]] void refuse(std::string_view name, const char* why) {
  throw std::invalid_argument("weft::http: response header '" + std::string(name) + "': " + why);
}

}  // namespace

void field_text::append(std::string_view text) {
  if (!spilled_ && size_ + text.size() <= sizeof inline_) {
    put(inline_ + size_, text);
    size_ += text.size();
    return;
  }
  if (!spilled_) {
    heap_.assign(inline_, size_);
    spilled_ = true;
  }
  heap_.append(text);
}

void field_text::append_line(std::string_view name, std::string_view value) {
  append(name);
  append(": ");
  append(value);
  append("\r\n");
}

std::string_view field_text::find(std::string_view name) const {
  for (std::string_view rest = view(); !rest.empty();) {
    std::string_view line = first_line(rest);
    if (line_is(line, name)) return line.substr(name.size() + 2);
    rest.remove_prefix(line.size() + 2);
  }
  return {};
}

void field_text::remove(std::string_view name) {
  for (std::size_t at = 0; at < view().size();) {
    std::string_view line = first_line(view().substr(at));
    if (!line_is(line, name)) {
      at += line.size() + 2;
      continue;
    }
    const std::size_t n = line.size() + 2;
    if (spilled_) {
      heap_.erase(at, n);
    } else {
      std::memmove(inline_ + at, inline_ + at + n, size_ - at - n);
      size_ -= n;
    }
  }
}

void response_state::begin(bool is_head, int minor_version, bool keep_alive) {
  out_.begin_response();
  phase_ = phase::open;
  framing_ = framing::none;
  is_head_ = is_head;
  http10_ = minor_version == 0;
  close_ = !keep_alive;
  has_date_ = hijacked_ = chunk_open_ = false;
  status_ = status::ok;
  written_ = 0;
  length_.reset();
  length_digits_ = 0;
  fields_.clear();
}

void response_state::require_open(const char* what) const {
  if (phase_ == phase::open) return;
  throw std::logic_error(std::string("weft::http::response_writer::") + what +
                         " after the head was decided by write(), flush() or hijack()");
}

void response_state::set_status(int code) {
  require_open("status()");
  bool informational = code < 200 && code != status::switching_protocols;
  if (code < 100 || code > 999 || informational) {
    throw std::invalid_argument("weft::http: status " + std::to_string(code) +
                                " cannot end a response; allowed are 101 and 200 to 999");
  }
  status_ = code;
}

void response_state::set_field(std::string_view name, std::string_view value, bool replace) {
  require_open("header()");
  if (!is_token(name)) refuse(name, "the name is not a token");
  value = trim_ows(value);
  if (skip_value_bytes(value.data(), value.data() + value.size()) != value.data() + value.size()) {
    refuse(name, "the value holds CR, LF, NUL or another control character");
  }
  switch (find_known_header(name)) {
    case known_header::transfer_encoding:
      refuse(name, "framing is chosen by the server");
    case known_header::content_length: {
      std::uint64_t n = 0;
      auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), n);
      if (problem != std::errc() || end != value.data() + value.size() || value.size() > 18) {
        refuse(name, "the value is not a number of 1 to 18 digits");
      }
      set_length(n);
      return;
    }
    case known_header::connection: {
      // Persistence is ours to announce; what else was named ("upgrade") is kept.
      std::string kept;
      for_each_list_element(value, [&](std::string_view option) {
        if (equals_nocase(option, "close")) {
          close_ = true;
        } else if (!option.empty() && !equals_nocase(option, "keep-alive")) {
          kept.append(kept.empty() ? "" : ", ").append(option);
        }
        return true;
      });
      if (replace) fields_.remove(name);
      if (!kept.empty()) fields_.append_line(name, kept);
      return;
    }
    case known_header::date:
      has_date_ = true;
      break;
    default:
      break;
  }
  if (replace) fields_.remove(name);
  fields_.append_line(name, value);
}

void response_state::remove_field(std::string_view name) {
  require_open("remove_header()");
  known_header id = find_known_header(name);
  if (id == known_header::content_length) {
    length_.reset();
    length_digits_ = 0;
  }
  if (id == known_header::date) has_date_ = false;
  fields_.remove(name);
}

std::string_view response_state::field(std::string_view name) const {
  if (find_known_header(name) == known_header::content_length) {
    return {length_text_, length_digits_};
  }
  return fields_.find(name);
}

void response_state::set_length(std::uint64_t length) {
  require_open("content_length()");
  length_ = length;
  auto [end, problem] = std::to_chars(length_text_, length_text_ + sizeof length_text_, length);
  length_digits_ = problem == std::errc() ? static_cast<std::size_t>(end - length_text_) : 0;
}

void response_state::format_head() {
  std::string_view text = status_text(status_), fields = fields_.view();
  char* start = out_.reserve(text.size() + fields.size() + slot_size + 64);
  char* p = put(start, "HTTP/1.1 ");
  *p++ = static_cast<char>('0' + status_ / 100);
  *p++ = static_cast<char>('0' + status_ / 10 % 10);
  *p++ = static_cast<char>('0' + status_ % 10);
  *p++ = ' ';
  p = put(p, text);
  p = put(p, "\r\n");
  if (!has_date_) {
    p = put(p, "Date: ");
    env_.clock.write_date(p);
    p = put(p + date_length, "\r\n");
  }
  p = put(p, fields);
  slot_ = static_cast<std::size_t>(p - start);
  out_.add(slot_ + slot_size);
  phase_ = phase::buffering;
}

// Fills the gap. `whole`: nothing will follow, so the length is known.
void response_state::commit(bool whole) {
  const std::size_t body_at = slot_ + slot_size;
  const std::size_t body = out_.response_size() - body_at;
  if (!body_allowed()) {
    framing_ = framing::none;
  } else if (length_ || whole) {
    framing_ = framing::length;
  } else {
    framing_ = http10_ ? framing::until_close : framing::chunked;
  }
  if (framing_ == framing::until_close || owner_.body_forces_close() ||
      env_.stopping.load(std::memory_order_relaxed)) {
    close_ = true;
  }

  char lines[slot_size];
  char* p = lines;
  if (status_ != status::switching_protocols) {
    if (close_) {
      p = put(p, "Connection: close\r\n");
    } else if (http10_) {
      p = put(p, "Connection: keep-alive\r\n");
    }
  }
  // A HEAD that wrote nothing may not know the length of GET's body; 304 may repeat it.
  const bool silent_head = is_head_ && whole && written_ == 0;
  const bool announce = framing_ == framing::length ? length_ || !silent_head
                                                    : length_ && status_ == status::not_modified;
  if (announce) {
    p = put(p, "Content-Length: ");
    p = std::to_chars(p, p + 20, length_.value_or(written_)).ptr;
    p = put(p, "\r\n");
  } else if (framing_ == framing::chunked) {
    p = put(p, "Transfer-Encoding: chunked\r\n");
  }
  p = put(p, "\r\n");
  auto n = static_cast<std::size_t>(p - lines);
  if (framing_ == framing::chunked && body > 0) {
    chunk_open_ = true;
    chunk_ = slot_ + n;
    n += chunk_line;  // patched by close_chunk()
  }
  char* response = out_.response();
  std::memcpy(response + slot_, lines, static_cast<std::size_t>(p - lines));
  std::memmove(response + slot_ + n, response + body_at, body);
  out_.truncate_response(slot_ + n + body);
  out_.release_response();
  phase_ = phase::streaming;
}

void response_state::open_chunk() {
  out_.reserve(chunk_line);
  chunk_ = out_.response_size();
  out_.add(chunk_line);
  chunk_open_ = true;
}

void response_state::close_chunk() {
  if (!chunk_open_) return;
  chunk_open_ = false;
  const std::size_t n = out_.response_size() - chunk_ - chunk_line;
  // Size first: append() may have to flush, and what has left cannot be patched.
  write_chunk_size(out_.response() + chunk_, n);
  out_.append("\r\n");
}

void response_state::stream(std::string_view bytes) {
  if (framing_ != framing::chunked) {
    if (bytes.size() <= copy_limit) {
      out_.append(bytes);
    } else {
      out_.flush_with(bytes);
    }
    return;
  }
  if (bytes.size() > copy_limit) {
    close_chunk();
    char line[20];
    char* p = std::to_chars(line, line + 16, bytes.size(), 16).ptr;
    p = put(p, "\r\n");
    out_.append({line, static_cast<std::size_t>(p - line)});
    out_.flush_with(bytes);
    out_.append("\r\n");
    return;
  }
  const bool joins = chunk_open_ && out_.fits(bytes.size() + 2) &&
                     out_.response_size() - chunk_ + bytes.size() < max_coalesced;
  if (!joins) {
    close_chunk();
    if (!out_.fits(bytes.size() + chunk_line + 2)) out_.flush();
    open_chunk();
  }
  out_.append(bytes);
}

result<void> response_state::write(std::string_view bytes) {
  if (phase_ == phase::finished) return make_error_code(error::hijacked);
  if (out_.failure()) return out_.failure();
  if (bytes.empty()) return {};
  if (!body_allowed()) return make_error_code(error::body_not_allowed);
  if (length_ && bytes.size() > *length_ - written_) {
    return make_error_code(error::content_length_exceeded);
  }
  if (phase_ == phase::open) format_head();
  written_ += bytes.size();
  if (phase_ == phase::buffering) {
    if (!length_ && written_ <= copy_limit) {
      if (!is_head_) out_.append(bytes);
      return {};
    }
    commit(false);
  }
  if (!is_head_) stream(bytes);
  if (out_.failure()) return out_.failure();
  out_.announce();
  return {};
}

// Inside the scheduler. A chunk in progress is closed where it is: stream() has left room for its
// end, so nothing is allocated or sent for that.
void response_state::flush_before_wait() noexcept {
  if (phase_ == phase::streaming && out_.fits(2)) close_chunk();
  out_.flush_at_once();
}

void response_state::flush_released() {
  if (phase_ == phase::streaming) close_chunk();
  out_.flush();
}

result<void> response_state::flush() {
  if (phase_ == phase::finished) return make_error_code(error::hijacked);
  if (phase_ == phase::open) format_head();
  if (phase_ == phase::buffering) commit(false);
  flush_released();
  if (out_.failure()) return out_.failure();
  return {};
}

bool response_state::finish() {
  if (length_ && *length_ != written_ && body_allowed() && !is_head_) return false;
  if (status_ == status::switching_protocols) return false;  // promised by nobody: no hijack()
  if (phase_ == phase::open) format_head();
  if (phase_ == phase::buffering) {
    commit(true);
  } else if (framing_ == framing::chunked && !is_head_) {
    close_chunk();
    out_.append("0\r\n\r\n");
  }
  phase_ = phase::finished;
  return true;
}

raw_stream& response_state::hijack() {
  require_open("hijack()");
  if (status_ == status::switching_protocols) {
    format_head();
    commit(true);
  }
  hijacked_ = true;
  phase_ = phase::finished;
  out_.flush();
  return owner_.take_over();
}

}  // namespace detail

void response_writer::status(int code) { state_->set_status(code); }
int response_writer::status() const noexcept { return state_->status(); }
void response_writer::header(std::string_view name, std::string_view value) {
  state_->set_field(name, value, true);
}
void response_writer::add_header(std::string_view name, std::string_view value) {
  state_->set_field(name, value, false);
}
void response_writer::remove_header(std::string_view name) { state_->remove_field(name); }
std::string_view response_writer::header(std::string_view name) const noexcept {
  return state_->field(name);
}
void response_writer::content_length(std::uint64_t length) { state_->set_length(length); }
result<void> response_writer::write(std::string_view bytes) { return state_->write(bytes); }
result<void> response_writer::flush() { return state_->flush(); }
std::uint64_t response_writer::bytes_written() const noexcept { return state_->bytes_written(); }
bool response_writer::head_sent() const noexcept { return state_->head_left(); }
void response_writer::close_connection() noexcept { state_->close_after(); }
raw_stream& response_writer::hijack() { return state_->hijack(); }

result<void> response_writer::respond(int code, std::string_view content_type,
                                      std::string_view body) {
  status(code);
  header("Content-Type", content_type);
  content_length(body.size());
  return write(body);
}

void error_page(response_writer& w, int code, std::string_view message) {
  w.remove_header("Content-Disposition");
  w.remove_header("Content-Encoding");
  w.header("X-Content-Type-Options", "nosniff");
  w.header("Content-Type", "text/plain; charset=utf-8");
  w.status(code);
  w.content_length(message.size() + 1);
  // A dead connection shows at the next read; there is nobody left to tell.
  static_cast<void>(w.write(message));
  static_cast<void>(w.write("\n"));
}

void redirect(response_writer& w, int code, std::string_view location) {
  w.header("Location", detail::encode_location(location));
  w.status(code);
}

}  // namespace weft::http
