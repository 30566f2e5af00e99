// Serving: read a head, run the handler, frame the answer, go on or end the connection.
//
// Shape      run() alternates parse_head() and serve_one(). The handler pulls the body through
//            read_body(), pushes the answer through response_state into the cork (output).
// Flushing   The cork leaves when no complete next head is buffered (fill_head), before any read
//            that may block (wait_body), before the handler waits for anything else (the scheduler
//            asks: response_state::flush_before_wait), when full, and after max_pipelined answers.
//            Hence two system calls per small keep-alive request: the read that brought it and the
//            write.
// Pinning    From dispatch to the handler's return the head does not move: views point into it.
//            Room for body reads behind it is made before.
// Invariants [C1] Answers leave in the order of their requests: there is one cork and one handler.
//            [C2] After a refused head or a broken body no byte is read as a request again.
//            [C3] Nothing of an answer leaves before its framing is decided, so any failure before
//                 that can still become a clean 4xx or 500.
// Closing    With unread input in the kernel, close() sends RST and the peer may lose the answer it
//            was sent: so half-close, read on for a bounded time and amount, then close.
// Not done   A second task per request that watches for disconnects (Go): the transport knows from
//            its standing registration. Reading ahead during the handler: back-pressure would be
//            lost.
#include "net/http/session.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

namespace weft::http::detail {
namespace {

// Body reads smaller than this go through the block, so that tiny reads do not cost a system call.
constexpr std::size_t direct_read = 4096;
// Room for reading that is worth a move of what is buffered.
constexpr std::size_t min_room = 4096;

static_assert(std::is_trivially_copyable_v<head> && std::is_standard_layout_v<head>,
              "an incomplete head is saved by memcpy up to its last field");

std::size_t saved_head_size(const head& h) {
  return offsetof(head, fields) + h.field_count * sizeof(field_view);
}

bool is_limit_status(int status) {
  return status == 408 || status == 413 || status == 414 || status == 431;
}

chunk_limits chunk_limits_of(const server_options& o) {
  chunk_limits limits;
  limits.extension = o.max_chunk_extension;
  limits.trailer_field = o.max_header_field;
  limits.trailer_fields = o.max_header_fields;
  return limits;
}

// The status an exception with this code deserves: the client's fault if its body was, else ours.
int status_of(const error_code& e, const error_code& body_error) {
  if (e == error::body_too_large) return status::content_too_large;
  if (e == error::trailers_too_large) return status::request_header_fields_too_large;
  if (e == error::malformed_body || e == error::body_truncated) return status::bad_request;
  if (body_error && e == body_error && is_timeout(e)) return status::request_timeout;
  return status::internal_server_error;
}

}  // namespace

session::session(connection& c, char* output_block, std::size_t output_capacity)
    : c_(c),
      transport_(c.transport_),
      env_(c.env_),
      in_(env_.pool.acquire()),
      capacity_(block_size),
      limits_{env_.options.max_request_line, env_.options.max_header_field, env_.options.max_head,
              env_.options.max_header_fields, env_.options.allow_high_target},
      out_(transport_, env_, output_block, output_capacity),
      response_(out_, env_, *this),
      request_(access::make_request(&x_)),
      writer_(access::make_writer(&response_)) {
  x_.body = this;
  x_.remote = transport_.remote_address();
  restore_partial();
}

session::~session() {
  if (!in_heap_) env_.pool.release(in_);
}

served_context::served_context(transport& t)
    : transport_(t), own_(with_cancel(this_task::context())) {
  auto watch = std::make_unique<close_watch>();
  watch->cancel = own_.second;
  watch->wake.arg = watch.get();
  watch->wake.start = [](void* self) {
    const std::unique_ptr<close_watch> mine(static_cast<close_watch*>(self));
    mine->cancel();
  };
  if (transport_.watch_close(&watch->wake))
    watch_ = watch.release();
  else if (transport_.peer_closed())
    own_.second();
}

served_context::~served_context() {
  if (watch_ != nullptr && transport_.unwatch_close(&watch_->wake)) delete watch_;
  own_.second();
}

weft::context session::request_context() {
  if (!context_) context_.emplace(transport_);
  return context_->ctx();
}

// -- input

void session::move_input(char* to, std::size_t capacity) {
  const std::size_t n = end_ - begin_;
  if (n > 0) std::memmove(to, in_ + begin_, n);
  if (to != in_) {
    if (!in_heap_) env_.pool.release(in_);
    in_ = to;
    capacity_ = capacity;
  }
  begin_ = 0;
  end_ = n;
}

void session::make_room_for_head() {
  if (begin_ == end_) begin_ = end_ = 0;
  if (capacity_ - end_ >= min_room) return;
  if (begin_ > 0) move_input(in_, capacity_);
  if (capacity_ - end_ > 0) return;
  // Bounded: the parser refuses a head before it fills max_head_capacity.
  const std::size_t larger = capacity_ * 2;
  auto heap = std::make_unique<char[]>(larger);
  move_input(heap.get(), larger);
  in_heap_ = std::move(heap);
}

void session::make_room_for_body() {
  if (capacity_ - (begin_ + x_.h.size) >= min_room) return;
  if (begin_ > 0) move_input(in_, capacity_);
  if (capacity_ - x_.h.size >= min_room) return;
  const std::size_t larger = capacity_ + 2 * min_room;
  auto heap = std::make_unique<char[]>(larger);
  move_input(heap.get(), larger);
  in_heap_ = std::move(heap);
}

void session::save_partial() {
  if (begin_ == end_) return;
  const std::size_t state = saved_head_size(x_.h), text = end_ - begin_;
  c_.partial_ = std::make_unique_for_overwrite<char[]>(state + text);
  c_.partial_size_ = static_cast<std::uint32_t>(state + text);
  c_.partial_text_ = static_cast<std::uint32_t>(text);
  std::memcpy(c_.partial_.get(), &x_.h, state);
  std::memcpy(c_.partial_.get() + state, in_ + begin_, text);
}

void session::restore_partial() {
  if (!c_.partial_) return;
  const std::size_t text = c_.partial_text_, state = c_.partial_size_ - text;
  if (text + min_room > capacity_) {
    auto heap = std::make_unique<char[]>(text + block_size);
    move_input(heap.get(), text + block_size);
    in_heap_ = std::move(heap);
  }
  std::memcpy(static_cast<void*>(&x_.h), c_.partial_.get(), state);
  std::memcpy(in_, c_.partial_.get() + state, text);
  end_ = text;
  c_.partial_.reset();
  c_.partial_size_ = c_.partial_text_ = 0;
}

session::fill session::fill_head(serve_mode mode) {
  const bool partial = begin_ != end_;
  out_.flush();
  if (out_.failure()) {
    end(next::close);
    return fill::closed;
  }
  if (partial && !c_.head_started_) {
    c_.head_started_ = true;
    c_.since_ = env_.clock.now();
  }
  make_room_for_head();
  result<std::size_t> n = transport_.read_now({in_ + end_, capacity_ - end_});
  if (!n && is_would_block(n.error())) {
    // Looked for a request first: one that is already here when shutdown begins is still served.
    if (!partial && env_.stopping.load(std::memory_order_relaxed)) {
      end(next::close);
      return fill::closed;
    }
    if (!c_.head_started_ && served_) c_.since_ = env_.clock.now();
    served_ = false;
    if (mode == serve_mode::return_idle) {
      // A client that sends a byte now and then never lets the wheel's deadline find it asleep.
      if (partial && env_.clock.now() >= c_.deadline()) {
        env_.counters.timeouts.fetch_add(1, std::memory_order_relaxed);
        refuse(status::request_timeout, "request head not complete in time");
        return fill::closed;
      }
      save_partial();
      return fill::idle;
    }
    transport_.set_read_deadline(c_.deadline());
    n = transport_.read({in_ + end_, capacity_ - end_});
    if (!n && is_timeout(n.error())) {
      env_.counters.timeouts.fetch_add(1, std::memory_order_relaxed);
      if (partial) {
        refuse(status::request_timeout, "request head not complete in time");
      } else {
        end(next::close);
      }
      return fill::closed;
    }
  }
  if (!n || *n == 0) {
    end(next::close);
    return fill::closed;
  }
  end_ += *n;
  return fill::more;
}

// -- one request

outcome session::run(serve_mode mode) {
  unsigned in_row = 0;
  for (;;) {
    parse_result r = parse_head(input(), x_.h, limits_);
    if (r.state == parse_state::error) {
      env_.counters.refused_heads.fetch_add(1, std::memory_order_relaxed);
      return refuse(r.status, r.reason);
    }
    if (r.state == parse_state::need_more) {
      switch (fill_head(mode)) {
        case fill::more:
          continue;
        case fill::idle:
          return outcome::idle;
        case fill::closed:
          return outcome::closed;
      }
    }
    next how = serve_one();
    if (how != next::keep) return end(how);
    if (++in_row >= env_.options.max_pipelined) {
      in_row = 0;
      out_.flush();
      if (env_.yield != nullptr) env_.yield();
    }
  }
}

bool session::keep_wanted() const {
  const std::uint64_t most = env_.options.max_requests;
  return x_.h.keep_alive && (most == 0 || c_.requests_ < most);
}

session::next session::serve_one() {
  ++c_.requests_;
  body_done_ = x_.h.framing == body_framing::none;
  body_error_ = {};
  body_left_ = body_done_ || x_.h.framing == body_framing::chunked ? 0 : x_.h.content_length;
  body_received_ = 0;
  body_waited_ = {};
  continue_pending_ = x_.h.expect_continue;
  decoder_.reset();
  if (x_.h.framing == body_framing::chunked) decoder_.emplace(chunk_limits_of(env_.options));
  if (!body_done_) make_room_for_body();
  body_at_ = body_base_ = begin_ + x_.h.size;
  x_.base = in_ + begin_;
  x_.reset_routing();
  response_.begin(x_.h.method_known == method_id::head, x_.h.minor_version, keep_wanted());

  bool sound = run_handler();
  context_.reset();
  if (response_.is_hijacked()) return next::hijacked;
  if (sound && !response_.finish()) {
    sound = answer_failure(status::internal_server_error,
                           "the handler wrote less than its Content-Length, or left a 101 alone");
  }
  if (out_.failure()) {
    report(0, "the response could not be written");
    return next::close;
  }
  if (!sound) {
    env_.counters.broken_responses.fetch_add(1, std::memory_order_relaxed);
    return next::reset;
  }
  if (!response_.keeps_alive() || body_forces_close()) {
    return body_done_ && body_at_ == end_ ? next::close : next::linger;
  }
  if (!drain_body()) return next::linger;
  begin_ = body_at_;
  x_.h.reset();
  c_.head_started_ = false;
  served_ = true;
  return next::keep;
}

// False if the answer is broken beyond repair.
bool session::run_handler() {
  int failed = 0;
  std::string reason;
  try {
    env_.handle(writer_, request_);
    return true;
  } catch (abi::__forced_unwind&) {
    throw;  // the task is being torn down, not failing
  } catch (const weft::system_error& e) {
    failed = status_of(e.code(), body_error_);
    reason = failed == status::internal_server_error ? e.what() : e.code().message();
  } catch (const std::exception& e) {
    failed = status::internal_server_error;
    reason = e.what();
  } catch (...) {
    failed = status::internal_server_error;
    reason = "exception that is not a std::exception";
  }
  if (failed == status::internal_server_error) {
    env_.counters.handler_exceptions.fetch_add(1, std::memory_order_relaxed);
  }
  if (out_.failure() || response_.is_hijacked()) {
    report(0, reason);
    return false;
  }
  return answer_failure(failed, reason);
}

bool session::answer_failure(int status, std::string_view reason) {
  if (out_.left()) {
    report(0, reason);
    return false;
  }
  report(status, reason);
  out_.discard_response();
  const bool ours = status == status::internal_server_error;
  response_.begin(x_.h.method_known == method_id::head, x_.h.minor_version, ours && keep_wanted());
  // What a handler threw is for the log, not for the client.
  error_page(writer_, status, ours ? status_text(status) : reason);
  return response_.finish();
}

void session::report(int status, std::string_view reason) {
  if (is_limit_status(status)) env_.counters.limits_hit.fetch_add(1, std::memory_order_relaxed);
  if (!env_.options.on_error) return;
  const bool known = x_.base != nullptr;
  env_.options.on_error({x_.remote, status, reason, known ? x_.h.method.of(x_.base) : "",
                         known ? x_.h.target.of(x_.base) : ""});
}

outcome session::refuse(int status, std::string_view reason) {
  x_.base = nullptr;
  report(status, reason);
  response_.begin(x_.h.method_known == method_id::head, 1, false);
  error_page(writer_, status, reason);
  response_.finish();
  return end(next::linger);
}

outcome session::end(next how) {
  out_.flush();
  if (how == next::linger && !out_.failure()) {
    const server_options& o = env_.options;
    transport_.shutdown_write();
    transport_.set_read_deadline(env_.clock.now() + o.linger_timeout);
    std::uint64_t skipped = 0;
    while (skipped <= o.max_drain) {
      result<std::size_t> n = transport_.read({in_, capacity_});
      if (!n || *n == 0) break;
      skipped += *n;
    }
  }
  if (how == next::reset) {
    transport_.reset();
  } else {
    transport_.close();
  }
  return how == next::hijacked ? outcome::hijacked : outcome::closed;
}

// -- the request body

std::optional<std::uint64_t> session::body_remaining() const {
  if (body_done_) return 0;
  if (decoder_) return std::nullopt;
  return body_left_;
}

std::string_view session::trailers() const {
  return decoder_ && decoder_->done() ? std::string_view(decoder_->trailers()) : std::string_view();
}

bool session::body_forces_close() const {
  if (body_error_) return true;
  if (body_done_) return false;
  // A client that still waits for "100 Continue" may or may not send its body now.
  return continue_pending_ || body_left_ > env_.options.max_drain;
}

result<std::size_t> session::fail_body(error_code e) {
  body_error_ = e;
  return e;
}

// Waits for body bytes; everything that may leave is sent first.
result<std::size_t> session::wait_body(std::span<char> into) {
  if (continue_pending_) {
    continue_pending_ = false;
    if (response_.is_open()) {
      out_.append("HTTP/1.1 100 Continue\r\n\r\n");
      out_.begin_response();
    }
  }
  response_.flush_released();
  if (out_.failure()) return fail_body(out_.failure());
  result<std::size_t> n = transport_.read_now(into);
  if (!n && is_would_block(n.error())) {
    // Progress clock: time spent waiting may not run ahead of the bytes received, so neither a slow
    // handler nor a long upload is punished, only a client that stalls.
    const server_options& o = env_.options;
    const auto start = env_.clock.now();
    auto deadline = transport::no_deadline;
    if (o.body_grace.count() > 0) {
      std::chrono::nanoseconds budget = o.body_grace;
      if (o.body_min_rate > 0) {
        budget += std::chrono::milliseconds(body_received_ * 1000 / o.body_min_rate);
        budget -= body_waited_;
      }
      deadline = start + budget;
    }
    transport_.set_read_deadline(deadline);
    n = transport_.read(into);
    body_waited_ += env_.clock.now() - start;
  }
  if (!n) {
    if (is_timeout(n.error())) env_.counters.timeouts.fetch_add(1, std::memory_order_relaxed);
    return fail_body(n.error());
  }
  if (*n == 0) return fail_body(make_error_code(error::body_truncated));
  body_received_ += *n;
  return n;
}

result<std::size_t> session::read_body(std::span<char> into) {
  if (response_.is_hijacked()) return make_error_code(error::hijacked);
  if (body_error_) return body_error_;
  if (body_done_) return make_error_code(errc::eof);
  if (into.empty()) return std::size_t{0};
  if (decoder_) return read_chunked(into);

  into = into.first(static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), body_left_)));
  std::size_t n = 0;
  if (body_at_ == end_ && into.size() >= direct_read) {
    result<std::size_t> got = wait_body(into);
    if (!got) return got;
    n = *got;
  } else {
    if (body_at_ == end_) {
      result<std::size_t> got = wait_body({in_ + body_base_, capacity_ - body_base_});
      if (!got) return got;
      body_at_ = body_base_;
      end_ = body_base_ + *got;
    }
    n = std::min(into.size(), end_ - body_at_);
    std::memcpy(into.data(), in_ + body_at_, n);
    body_at_ += n;
  }
  body_left_ -= n;
  body_done_ = body_left_ == 0;
  return n;
}

result<std::size_t> session::read_chunked(std::span<char> into) {
  std::size_t filled = 0;
  while (filled < into.size()) {
    if (body_at_ == end_) {
      if (filled > 0) break;
      result<std::size_t> got = wait_body({in_ + body_base_, capacity_ - body_base_});
      if (!got) return got;
      body_at_ = body_base_;
      end_ = body_base_ + *got;
    }
    // No more input than fits, so that a run of data can never be larger than the room for it.
    std::string_view piece(in_ + body_at_, std::min(end_ - body_at_, into.size() - filled));
    auto step = decoder_->step(piece);
    std::memcpy(into.data() + filled, piece.data() + step.data_offset, step.data_length);
    filled += step.data_length;
    body_at_ += step.consumed;
    if (step.state == chunk_decoder::status::done) {
      body_done_ = true;
      if (filled == 0) return make_error_code(errc::eof);
      break;
    }
    if (step.state == chunk_decoder::status::error) {
      return fail_body(make_error_code(decoder_->error_status() == 431 ? error::trailers_too_large
                                                                       : error::malformed_body));
    }
  }
  return filled;
}

// Skips what the handler left of the body; false if the connection cannot go on.
bool session::drain_body() {
  char scratch[1024];
  for (std::uint64_t skipped = 0; !body_done_;) {
    result<std::size_t> n = read_body(scratch);
    if (!n) return n.error() == errc::eof;
    skipped += *n;
    if (skipped > env_.options.max_drain) return false;
  }
  return true;
}

// -- hijack

raw_stream& session::take_over() {
  transport_.set_read_deadline(transport::no_deadline);
  transport_.set_write_deadline(transport::no_deadline);
  return *this;
}

result<std::size_t> session::read(std::span<char> into) {
  if (body_at_ < end_) {
    const std::size_t n = std::min(into.size(), end_ - body_at_);
    std::memcpy(into.data(), in_ + body_at_, n);
    body_at_ += n;
    return n;
  }
  result<std::size_t> n = transport_.read(into);
  if (n && *n == 0) return make_error_code(errc::eof);
  return n;
}

result<void> session::write(std::string_view bytes) { return transport_.write({&bytes, 1}); }

}  // namespace weft::http::detail
