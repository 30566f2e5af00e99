#include "examples/load/http_client.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <stdexcept>

namespace load {
namespace {

// What the peer sent is not HTTP.
class malformed_response : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

uint64_t parse_length(std::string_view text, int base) {
  uint64_t n = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n, base);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) {
    throw malformed_response("bad length '" + std::string(text.substr(0, 40)) + "'");
  }
  return n;
}

int parse_status(std::string_view line) {
  int status = 0;
  bool shaped = line.size() >= 12 && line.starts_with("HTTP/1.1 ");
  if (shaped) std::from_chars(line.data() + 9, line.data() + 12, status);
  if (status < 100 || status > 999) {
    throw malformed_response("bad status line '" + std::string(line.substr(0, 40)) + "'");
  }
  return status;
}

}  // namespace

response http_client::exchange(std::string_view request, time_point deadline) {
  response r;
  try {
    if (!conn_.is_open()) {
      conn_ = weft::net::dial(target_, deadline);
      begin_ = end_ = 0;
    }
    conn_.set_deadline(deadline);
    conn_.write(request);
    head h = read_head();
    read_body(h);
    if (begin_ != end_) throw malformed_response("bytes after the end of the response");
    if (h.close) conn_.close();
    r.how = outcome::answered;
    r.status = h.status;
    r.location = std::move(h.location);
    return r;
  } catch (const malformed_response& error) {
    r.how = outcome::malformed;
    r.explanation = error.what();
  } catch (const weft::system_error& error) {
    r.how = weft::is_timeout(error.code()) ? outcome::timed_out : outcome::broken;
    r.explanation = error.code().message();
  }
  conn_.close();
  return r;
}

http_client::head http_client::read_head() {
  head h;
  h.status = parse_status(read_line());
  for (std::string_view line = read_line(); !line.empty(); line = read_line()) {
    size_t colon = line.find(':');
    if (colon == std::string_view::npos) throw malformed_response("header line without a colon");
    std::string_view name = line.substr(0, colon), value = trimmed(line.substr(colon + 1));
    if (equal_ignoring_case(name, "Content-Length")) {
      h.length = parse_length(value, 10);
      h.has_length = true;
    } else if (equal_ignoring_case(name, "Transfer-Encoding")) {
      if (!equal_ignoring_case(value, "chunked"))
        throw malformed_response("unknown transfer encoding");
      h.chunked = true;
    } else if (equal_ignoring_case(name, "Connection")) {
      h.close = equal_ignoring_case(value, "close");
    } else if (equal_ignoring_case(name, "Location")) {
      h.location = value;
    }
  }
  return h;
}

void http_client::read_body(const head& h) {
  if (h.status == 204 || h.status == 304) return;
  if (h.chunked) {
    read_chunks();
  } else if (h.has_length) {
    skip(h.length);
  } else {
    throw malformed_response("response with neither Content-Length nor chunks");
  }
}

void http_client::read_chunks() {
  for (;;) {
    std::string_view size = read_line();
    uint64_t length = parse_length(trimmed(size.substr(0, size.find(';'))), 16);
    if (length == 0) break;
    skip(length);
    if (!read_line().empty()) throw malformed_response("chunk longer than announced");
  }
  while (!read_line().empty()) {
  }
}

// Valid until the next read.
std::string_view http_client::read_line() {
  size_t scanned = 0;
  for (;;) {
    std::string_view seen(buffer_.data() + begin_, end_ - begin_);
    size_t newline = seen.find('\n', scanned);
    if (newline != std::string_view::npos) {
      if (newline == 0 || seen[newline - 1] != '\r') throw malformed_response("line without CR");
      begin_ += newline + 1;
      return seen.substr(0, newline - 1);
    }
    scanned = seen.size();
    fill();
  }
}

void http_client::skip(uint64_t bytes) {
  for (;;) {
    uint64_t here = std::min<uint64_t>(bytes, end_ - begin_);
    begin_ += here;
    bytes -= here;
    if (bytes == 0) return;
    fill();
  }
}

void http_client::fill() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == buffer_.size()) throw malformed_response("line of more than 16 KiB");
  end_ += conn_.read(std::span(buffer_).subspan(end_));
}

}  // namespace load
