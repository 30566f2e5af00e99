#pragma once
// A scripted transport, a clock that moves only when told, and a reader of responses: what the HTTP
// tests and the fuzz target run connections on.
#include <cstdlib>
#include <deque>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/http/ascii.h"
#include "net/http/chunked.h"
#include "net/http/connection.h"

namespace weft::http::testing {

class fake_clock final : public detail::http_clock {
 public:
  time_point now() const override { return now_; }
  void write_date(char* into) const override { detail::format_date(784111777, into); }
  void advance(std::chrono::nanoseconds by) { now_ += by; }
  void advance_to(time_point t) {
    if (t > now_) now_ = t;
  }

 private:
  time_point now_{std::chrono::hours(1)};
};

// Delivers the given pieces one per read. Between two pieces, and after the last, nothing is there:
// read_now() says so once, read() either lets `on_block` act or gets the next piece or runs into
// its deadline, which moves the clock there.
class memory_transport final : public detail::transport {
 public:
  explicit memory_transport(fake_clock& clock) : clock_(clock) {}

  // -- script
  std::deque<std::string> input;
  bool pause_between = false;  // read_now() finds nothing before each piece but the first
  bool eof_at_end = false;
  bool peer_gone = false;          // once all input was read
  std::function<void()> on_block;  // called when read() would wait
  std::size_t takes_now = 0;       // per write_now(); 0: there is no such way to send
  int fail_write_at = -1;          // this write (0 = first) and later ones fail

  // -- record
  std::string sent;
  std::vector<std::string> writes;
  int blocking_reads = 0;
  int reads = 0;
  bool closed = false, was_reset = false, half_closed = false;
  time_point write_deadline = no_deadline;
  int writes_now = 0;
  int held = 0;

  void allow_next() { ready_ = true; }
  bool peer_closed() const override { return peer_gone && input.empty(); }

  result<std::size_t> read_now(std::span<char> into) override {
    if (closed) return make_error_code(errc::closed);
    if (!input.empty() && (ready_ || !pause_between)) return take(into);
    if (input.empty() && eof_at_end) return std::size_t{0};
    return detail::would_block_error();
  }
  result<std::size_t> read(std::span<char> into) override {
    if (closed) return make_error_code(errc::closed);
    ++blocking_reads;
    if (input.empty() && on_block) on_block();
    if (!input.empty()) return take(into);
    if (eof_at_end) return std::size_t{0};
    if (read_deadline_ == no_deadline) {
      throw std::runtime_error("read without a deadline would wait forever");
    }
    clock_.advance_to(read_deadline_);
    return make_error_code(errc::deadline_exceeded);
  }
  result<void> write(std::span<const std::string_view> pieces) override {
    if (closed || half_closed) return make_error_code(errc::closed);
    if (fail_write_at >= 0 && static_cast<int>(writes.size()) >= fail_write_at) {
      return error_code(EPIPE, boost::system::system_category());
    }
    std::string all;
    for (std::string_view p : pieces) all.append(p);
    sent += all;
    writes.push_back(std::move(all));
    return {};
  }
  bool hold() override {
    if (takes_now == 0) return false;
    ++held;
    return true;
  }
  void release() override { --held; }
  std::size_t write_now(std::string_view bytes) noexcept override {
    if (held != 1) std::abort();
    const std::size_t n = std::min(bytes.size(), takes_now);
    sent.append(bytes.substr(0, n));
    writes_now += 1;
    return n;
  }
  void set_read_deadline(time_point at) override { read_deadline_ = at; }
  void set_write_deadline(time_point at) override { write_deadline = at; }
  void shutdown_write() override { half_closed = true; }
  void close() override { closed = true; }
  void reset() override { closed = was_reset = true; }
  std::string_view remote_address() const override { return "192.0.2.1:1234"; }

 private:
  std::size_t take(std::span<char> into) {
    ++reads;
    std::string& piece = input.front();
    std::size_t n = std::min(into.size(), piece.size());
    piece.copy(into.data(), n);
    piece.erase(0, n);
    if (piece.empty()) {
      input.pop_front();
      ready_ = false;
    }
    return n;
  }

  fake_clock& clock_;
  time_point read_deadline_ = no_deadline;
  bool ready_ = true;
};

struct response {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> fields;
  std::string body;
  bool complete = false;  // framing ended; false also for a body ended by closing
  std::string field(std::string_view name) const {
    for (const auto& [key, value] : fields) {
      if (detail::equals_nocase(key, name)) return value;
    }
    return {};
  }
  bool has(std::string_view name) const {
    for (const auto& f : fields) {
      if (detail::equals_nocase(f.first, name)) return true;
    }
    return false;
  }
};

// Cuts what a server sent into responses, strictly; throws on anything malformed. `heads` tells
// which of the answers (1xx not counted) are to HEAD requests.
inline std::vector<response> parse_responses(std::string_view bytes,
                                             const std::vector<bool>& heads = {}) {
  std::vector<response> out;
  std::size_t final_ones = 0;
  auto line = [&bytes]() {
    std::size_t end = bytes.find("\r\n");
    if (end == std::string_view::npos) throw std::runtime_error("response line without CRLF");
    std::string_view l = bytes.substr(0, end);
    bytes.remove_prefix(end + 2);
    return l;
  };
  while (!bytes.empty()) {
    response r;
    std::string_view first = line();
    if (first.substr(0, 9) != "HTTP/1.1 " || first.size() < 13 || first[12] != ' ') {
      throw std::runtime_error("bad status line: " + std::string(first));
    }
    r.status = std::atoi(std::string(first.substr(9, 3)).c_str());
    for (std::string_view l = line(); !l.empty(); l = line()) {
      std::string_view name, value;
      if (detail::parse_field_line(l, name, value) != nullptr) {
        throw std::runtime_error("bad field: " + std::string(l));
      }
      r.fields.emplace_back(name, value);
    }
    const bool informational = r.status < 200;
    const bool head = !informational && final_ones < heads.size() && heads[final_ones];
    if (!informational) ++final_ones;
    if (informational || head || r.status == 204 || r.status == 304) {
      r.complete = true;
    } else if (r.field("Transfer-Encoding") == "chunked") {
      detail::chunk_decoder d;
      for (;;) {
        auto s = d.step(bytes);
        r.body.append(bytes.substr(s.data_offset, s.data_length));
        bytes.remove_prefix(s.consumed);
        if (s.state == detail::chunk_decoder::status::error) {
          throw std::runtime_error(std::string("bad chunk: ") + d.reason());
        }
        if (s.state == detail::chunk_decoder::status::done) r.complete = true;
        if (s.state != detail::chunk_decoder::status::data) break;
      }
    } else if (r.has("Content-Length")) {
      auto n = static_cast<std::size_t>(std::atoll(r.field("Content-Length").c_str()));
      r.complete = n <= bytes.size();
      n = std::min(n, bytes.size());
      r.body = bytes.substr(0, n);
      bytes.remove_prefix(n);
    } else {
      r.body = bytes;
      bytes = {};
    }
    out.push_back(std::move(r));
  }
  return out;
}

// A server of one connection: everything a connection refers to.
struct world {
  fake_clock clock;
  memory_transport transport{clock};
  server_options options;
  handler serve;
  detail::locked_buffer_pool pool;
  detail::http_counters counters;
  std::atomic<bool> stopping{false};
  std::vector<std::string> log;
  detail::environment env{options, serve, pool, clock, counters, stopping};
  detail::connection connection{transport, env, clock.now()};

  explicit world(handler h) : serve(std::move(h)) {
    options.on_error = [this](const error_event& e) {
      log.push_back(std::to_string(e.status) + " " + std::string(e.reason));
    };
  }

  // Hands over the pieces and serves until the connection ends or waits with no piece left.
  detail::outcome run(std::vector<std::string> pieces,
                      detail::serve_mode mode = detail::serve_mode::return_idle) {
    for (auto& p : pieces) {
      if (!p.empty()) transport.input.push_back(std::move(p));
    }
    for (;;) {
      transport.allow_next();
      detail::outcome o = connection.serve(mode);
      if (o != detail::outcome::idle || transport.input.empty()) return o;
    }
  }
  std::vector<response> responses(const std::vector<bool>& heads = {}) const {
    return parse_responses(transport.sent, heads);
  }
};

}  // namespace weft::http::testing
