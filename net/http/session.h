#pragma once
// What a connection needs while it serves: input, request, response, output. It is built inside a
// pooled block when bytes arrive and is gone when the connection is idle again.
#include <optional>

#include "net/descriptor.h"
#include "net/http/chunked.h"
#include "net/http/connection.h"
#include "net/http/exchange.h"
#include "net/http/response_state.h"

namespace weft::http::detail {

// The context of the request being served, once the handler has asked for it. Ends with it.
class served_context {
 public:
  explicit served_context(transport& t);
  ~served_context();
  served_context(const served_context&) = delete;
  const weft::context& ctx() const noexcept { return own_.first; }

 private:
  // Cancels when the transport closes; owned by the transport's watch or by the task it started.
  struct close_watch {
    net::starter wake;
    cancel_function cancel;
  };

  transport& transport_;
  std::pair<weft::context, cancel_function> own_;
  close_watch* watch_ = nullptr;
};

class session final : public body_source, public response_owner, public raw_stream {
 public:
  session(connection& c, char* output_block, std::size_t output_capacity);
  ~session();
  session(const session&) = delete;
  session& operator=(const session&) = delete;

  outcome run(serve_mode mode);
  // Answers `status` to a head that cannot be served, then ends the connection.
  outcome refuse(int status, std::string_view reason);

  // body_source
  result<std::size_t> read_body(std::span<char> into) override;
  std::optional<std::uint64_t> body_remaining() const override;
  std::string_view trailers() const override;
  std::uint64_t default_body_limit() const override { return env_.options.max_body; }
  bool peer_closed() const override { return transport_.peer_closed(); }
  weft::context request_context() override;

  // response_owner
  bool body_forces_close() const override;
  raw_stream& take_over() override;

  // raw_stream
  result<std::size_t> read(std::span<char> into) override;
  result<void> write(std::string_view bytes) override;
  void set_read_deadline(time_point at) override { transport_.set_read_deadline(at); }
  void set_write_deadline(time_point at) override { transport_.set_write_deadline(at); }

 private:
  enum class fill : std::uint8_t { more, idle, closed };
  enum class next : std::uint8_t { keep, close, linger, reset, hijacked };

  fill fill_head(serve_mode mode);
  next serve_one();
  bool run_handler();
  bool answer_failure(int status, std::string_view reason);
  bool drain_body();
  outcome end(next how);
  void report(int status, std::string_view reason);
  bool keep_wanted() const;

  result<std::size_t> wait_body(std::span<char> into);
  result<std::size_t> read_chunked(std::span<char> into);
  result<std::size_t> fail_body(error_code e);
  void make_room_for_head();
  void make_room_for_body();
  void move_input(char* to, std::size_t capacity);
  void save_partial();
  void restore_partial();
  std::string_view input() const { return {in_ + begin_, end_ - begin_}; }

  connection& c_;
  transport& transport_;
  const environment& env_;

  // Input: [begin_, end_) is unread; the head being served starts at begin_, body_at_ is the next
  // body byte in the buffer, body_base_ where body reads into the block start.
  char* in_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0, end_ = 0, body_at_ = 0, body_base_ = 0;
  std::unique_ptr<char[]> in_heap_;  // replaces the pooled block for a head that outgrows it

  head_limits limits_;
  exchange x_;
  output out_;
  response_state response_;
  request request_;
  response_writer writer_;

  std::optional<served_context> context_;

  // The body of the request being served.
  std::optional<chunk_decoder> decoder_;
  error_code body_error_;
  bool body_done_ = true;
  bool continue_pending_ = false;
  bool served_ = false;
  std::uint64_t body_left_ = 0;      // with Content-Length
  std::uint64_t body_received_ = 0;  // read from the transport for this body
  std::chrono::nanoseconds body_waited_{0};
};

}  // namespace weft::http::detail
