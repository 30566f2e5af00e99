#pragma once
// The state behind one `response_writer`: which fields are set, whether the head is decided, how
// the body is framed.
#include <weft/http/raw_stream.h>
#include <weft/http/response.h>

#include <optional>
#include <string>
#include <string_view>

#include "net/http/header_names.h"
#include "net/http/output.h"

namespace weft::http::detail {

// Header lines "Name: value\r\n" in a small inline buffer; on the heap once they outgrow it.
class field_text {
 public:
  std::string_view view() const {
    return spilled_ ? std::string_view(heap_) : std::string_view(inline_, size_);
  }
  void clear() {
    size_ = 0;
    if (spilled_) heap_ = std::string();
    spilled_ = false;
  }
  void append_line(std::string_view name, std::string_view value);
  // Removes every line of this name.
  void remove(std::string_view name);
  std::string_view find(std::string_view name) const;

 private:
  void append(std::string_view text);

  bool spilled_ = false;
  std::size_t size_ = 0;
  std::string heap_;
  char inline_[1024];
};

// What the response needs to know from the connection it is written to.
class response_owner {
 public:
  // The request body's state forbids another request on this connection.
  virtual bool body_forces_close() const = 0;
  virtual raw_stream& take_over() = 0;

 protected:
  ~response_owner() = default;
};

class response_state {
 public:
  //  open -> buffering    first write(); the head is formatted, its framing still open
  //  open, buffering -> streaming   commit: framing decided, bytes may leave
  //  any -> finished      finish() or hijack
  enum class phase : std::uint8_t { open, buffering, streaming, finished };
  enum class framing : std::uint8_t { none, length, chunked, until_close };

  response_state(output& out, const environment& env, response_owner& owner)
      : out_(out), env_(env), owner_(owner) {
    out_.set_before_wait(
        [](void* self) noexcept { static_cast<response_state*>(self)->flush_before_wait(); }, this);
  }

  // Prepares for the answer to one request. The output's response begins here too.
  void begin(bool is_head, int minor_version, bool keep_alive);

  // -- what response_writer offers
  void set_status(int code);
  int status() const { return status_; }
  void set_field(std::string_view name, std::string_view value, bool replace);
  void remove_field(std::string_view name);
  std::string_view field(std::string_view name) const;
  void set_length(std::uint64_t length);
  result<void> write(std::string_view bytes);
  result<void> flush();
  raw_stream& hijack();
  std::uint64_t bytes_written() const { return written_; }
  bool head_left() const { return out_.left(); }
  void close_after() { close_ = true; }

  // -- what the connection does
  // Ends the answer. False if it fell short of its Content-Length, or switched protocols with
  // nobody to speak the new one: nothing valid can be sent then.
  bool finish();
  // Sends what may leave, before the connection blocks for input.
  void flush_released();
  bool is_open() const { return phase_ == phase::open; }
  bool is_hijacked() const { return hijacked_; }
  bool keeps_alive() const { return !close_; }

 private:
  void require_open(const char* what) const;
  bool body_allowed() const { return status_allows_body(status_); }
  void format_head();
  void commit(bool whole);
  void stream(std::string_view bytes);
  void open_chunk();
  void flush_before_wait() noexcept;
  void close_chunk();

  output& out_;
  const environment& env_;
  response_owner& owner_;

  phase phase_ = phase::open;
  framing framing_ = framing::none;
  bool is_head_ = false;
  bool http10_ = false;
  bool close_ = false;
  bool has_date_ = false;
  bool hijacked_ = false;
  bool chunk_open_ = false;
  int status_ = 200;
  std::uint64_t written_ = 0;
  std::optional<std::uint64_t> length_;
  std::size_t slot_ = 0;   // where the framing lines go, relative to the response
  std::size_t chunk_ = 0;  // where the open chunk's size line is, relative to the response
  field_text fields_;
  char length_text_[20];
  std::size_t length_digits_ = 0;
};

}  // namespace weft::http::detail
