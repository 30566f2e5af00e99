#include "net/http/connection.h"

#include <new>

#include "net/http/session.h"

namespace weft::http::detail {
namespace {

// The session sits at the front of a pooled block; the rest of the block is its cork.
constexpr std::size_t session_bytes = (sizeof(session) + 63) / 64 * 64;
static_assert(session_bytes + 10240 <= block_size, "8 KB of body and a head must fit behind it");
static_assert(alignof(session) <= alignof(std::max_align_t));

class session_block {
 public:
  session_block(connection& c, const environment& env) : env_(env), block_(env.pool.acquire()) {
    try {
      session_ = new (block_) session(c, block_ + session_bytes, block_size - session_bytes);
    } catch (...) {
      env_.pool.release(block_);
      throw;
    }
  }
  ~session_block() {
    session_->~session();
    env_.pool.release(block_);
  }
  session_block(const session_block&) = delete;
  session_block& operator=(const session_block&) = delete;
  session* operator->() { return session_; }

 private:
  const environment& env_;
  char* block_;
  session* session_;
};

}  // namespace

connection::connection(transport& t, const environment& env, time_point accepted)
    : transport_(t), env_(env), since_(accepted), head_started_(true) {}

connection::~connection() = default;

outcome connection::serve(serve_mode mode) {
  const std::uint64_t before = requests_;
  outcome result = session_block(*this, env_)->run(mode);
  env_.counters.requests.fetch_add(requests_ - before, std::memory_order_relaxed);
  return result;
}

connection::time_point connection::deadline() const {
  const server_options& o = env_.options;
  const auto length = head_started_ ? o.head_timeout : o.idle_timeout;
  return length.count() == 0 ? time_point::max() : since_ + length;
}

outcome connection::expire() {
  env_.counters.timeouts.fetch_add(1, std::memory_order_relaxed);
  if (partial_ != nullptr) {
    partial_.reset();
    return session_block(*this, env_)->refuse(408, "request head not complete in time");
  }
  transport_.close();
  return outcome::closed;
}

std::size_t connection::idle_bytes() const {
  return sizeof(connection) + (partial_ == nullptr ? 0 : partial_size_);
}

}  // namespace weft::http::detail
