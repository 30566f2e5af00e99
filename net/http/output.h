#pragma once
// The cork: bytes of finished answers and of the one being written, in one block, leaving in one
// write. Three marks: [0, current) belongs to finished answers and may leave at any time;
// [current, used) is the answer in progress, which may leave only once it is released (its head is
// decided). A failed write is remembered and later bytes are dropped, so callers append without
// looking and ask failure() when it matters.
//
// Output that may leave is announced to the scheduler before anything of the program's runs: should
// the task wait, what can be sent at once is sent first, so no client waits for an answer that is
// finished while a later one takes its time.
#include <cstdint>
#include <memory>
#include <string_view>

#include "net/http/environment.h"
#include "net/http/transport.h"
#include "scheduler/ports.h"

namespace weft::http::detail {

class output {
 public:
  // What is to be done before the task waits: ends with flush_at_once().
  struct before_wait : sched::gathered_output {
    void (*flush_now)(void* arg) noexcept = nullptr;
    void* arg = nullptr;
  };

  output(transport& t, const environment& env, char* block, std::size_t capacity)
      : transport_(t),
        env_(env),
        block_(block),
        data_(block),
        block_capacity_(capacity),
        capacity_(capacity) {
    before_wait_.send = [](sched::gathered_output& g) noexcept {
      auto& self = static_cast<before_wait&>(g);
      self.flush_now(self.arg);
    };
  }
  ~output() { withdraw(); }
  output(const output&) = delete;

  // Who is asked to flush when the task is about to wait.
  void set_before_wait(void (*flush_it)(void* arg) noexcept, void* arg) {
    sched::own_gathered(before_wait_);
    before_wait_.flush_now = flush_it;
    before_wait_.arg = arg;
  }

  // A new answer begins behind what is buffered.
  void begin_response() {
    current_ = used_;
    released_ = left_ = false;
    announce();
  }
  // The answer in progress may leave from now on.
  void release_response() { released_ = true; }
  // Forgets the answer in progress; only while !left().
  void discard_response() {
    used_ = current_;
    released_ = false;
  }
  // The first byte of the answer in progress has left.
  bool left() const { return left_; }

  // Room for n more bytes at the returned place; add() them afterwards. Makes room by flushing what
  // may leave, else by moving to a larger heap block until the next flush.
  char* reserve(std::size_t n);
  void add(std::size_t n) { used_ += n; }
  void append(std::string_view bytes);
  bool fits(std::size_t n) const { return capacity_ - used_ >= n; }

  // First byte and size of the answer in progress.
  char* response() { return data_ + current_; }
  std::size_t response_size() const { return used_ - current_; }
  // Cuts the answer in progress to n bytes.
  void truncate_response(std::size_t n) { used_ = current_ + n; }

  // Sends everything that may leave.
  void flush();
  // Sends what may leave as far as that is possible without waiting. Only from before_wait.
  void flush_at_once() noexcept;
  // There may be something that may leave, and code that may wait comes next.
  void announce() {
    if (!announced_ && used_ > 0) announce_slow();
  }
  // Sends everything, then `bytes` behind it, in one write; the answer must be released.
  void flush_with(std::string_view bytes);
  bool empty() const { return used_ == 0; }

  // The first write error, or success.
  const error_code& failure() const { return failure_; }

 private:
  void send(std::string_view first, std::string_view second);
  void announce_slow();
  void withdraw();

  transport& transport_;
  const environment& env_;
  char* block_;  // the pooled one
  char* data_;   // block_ or heap_
  std::size_t block_capacity_;
  std::size_t capacity_;
  std::size_t used_ = 0;
  std::size_t current_ = 0;
  bool released_ = true;
  bool left_ = false;
  bool announced_ = false;  // the scheduler knows of before_wait_
  bool held_ = false;       // transport_.hold()
  error_code failure_;
  before_wait before_wait_;
  std::unique_ptr<char[]> heap_;
};

}  // namespace weft::http::detail
