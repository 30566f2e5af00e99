#include "net/http/output.h"

#include <algorithm>
#include <cstring>

namespace weft::http::detail {

void output::announce_slow() {
  if (before_wait_.owner == nullptr || (!held_ && !transport_.hold())) return;
  held_ = true;
  announced_ = sched::note_gathered(before_wait_);
}

void output::withdraw() {
  if (announced_) sched::forget_gathered(before_wait_);
  if (held_) transport_.release();
  announced_ = held_ = false;
}

void output::flush_at_once() noexcept {
  announced_ = false;
  const std::size_t n = released_ ? used_ : current_;
  if (n == 0 || failure_) return;
  const std::size_t sent = transport_.write_now({data_, n});
  if (sent > current_) left_ = true;
  used_ -= sent;
  current_ -= std::min(current_, sent);
  if (used_ > 0 && sent > 0) std::memmove(data_, data_ + sent, used_);
}

void output::send(std::string_view first, std::string_view second) {
  if (failure_) return;
  const server_options& o = env_.options;
  auto deadline = transport::no_deadline;
  if (o.write_grace.count() > 0) {
    deadline = env_.clock.now() + o.write_grace;
    if (o.write_min_rate > 0) {
      deadline +=
          std::chrono::milliseconds((first.size() + second.size()) * 1000 / o.write_min_rate);
    }
  }
  transport_.set_write_deadline(deadline);
  const std::string_view pieces[2] = {first, second};
  std::size_t from = first.empty() ? 1 : 0, to = second.empty() ? 1 : 2;
  if (from == to) return;
  result<void> r = transport_.write({pieces + from, to - from});
  if (!r) {
    failure_ = r.error();
    if (is_timeout(failure_)) env_.counters.timeouts.fetch_add(1, std::memory_order_relaxed);
  }
}

void output::flush() {
  const std::size_t n = released_ ? used_ : current_;
  if (n == 0) return;
  withdraw();
  if (n > current_) left_ = true;
  send({data_, n}, {});
  used_ -= n;
  current_ = 0;
  if (used_ > 0) {
    std::memmove(data_, data_ + n, used_);
  } else if (heap_) {
    heap_.reset();
    data_ = block_;
    capacity_ = block_capacity_;
  }
}

void output::flush_with(std::string_view bytes) {
  withdraw();
  left_ = true;
  send({data_, used_}, bytes);
  used_ = current_ = 0;
  if (heap_) {
    heap_.reset();
    data_ = block_;
    capacity_ = block_capacity_;
  }
}

char* output::reserve(std::size_t n) {
  if (!fits(n)) flush();
  if (!fits(n)) {
    std::size_t capacity = std::max(capacity_ * 2, used_ + n);
    auto larger = std::make_unique<char[]>(capacity);
    std::memcpy(larger.get(), data_, used_);
    heap_ = std::move(larger);
    data_ = heap_.get();
    capacity_ = capacity;
  }
  return data_ + used_;
}

void output::append(std::string_view bytes) {
  std::memcpy(reserve(bytes.size()), bytes.data(), bytes.size());
  used_ += bytes.size();
}

}  // namespace weft::http::detail
