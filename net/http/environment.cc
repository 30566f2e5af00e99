#include "net/http/environment.h"

#include <cstring>
#include <ctime>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>

#include "net/http/parse_head.h"

namespace weft::http {

namespace {

template <class T>
void check_range(const char* name, T value, std::uint64_t low, std::uint64_t high) {
  auto v = static_cast<std::uint64_t>(value);
  if (v >= low && v <= high) return;
  throw std::invalid_argument("weft::http::server_options::" + std::string(name) + " is " +
                              std::to_string(value) + ", allowed are " + std::to_string(low) +
                              " to " + std::to_string(high));
}

}  // namespace

void server_options::check() const {
  check_range("max_head", max_head, 64, detail::max_head_capacity);
  check_range("max_request_line", max_request_line, 16, max_head);
  check_range("max_header_field", max_header_field, 16, max_head);
  check_range("max_header_fields", max_header_fields, 1, detail::max_field_capacity);
  check_range("max_chunk_extension", max_chunk_extension, 0, 65536);
  check_range("max_pipelined", max_pipelined, 1, 1u << 20);
  const milliseconds::rep day = 86'400'000;
  check_range("head_timeout (ms)", head_timeout.count(), 0, day);
  check_range("idle_timeout (ms)", idle_timeout.count(), 0, day);
  check_range("body_grace (ms)", body_grace.count(), 0, day);
  check_range("write_grace (ms)", write_grace.count(), 0, day);
  check_range("linger_timeout (ms)", linger_timeout.count(), 0, day);
}

namespace detail {

locked_buffer_pool::~locked_buffer_pool() {
  for (char* block : free_) ::operator delete(block);
}

char* locked_buffer_pool::acquire() {
  std::lock_guard lock(mutex_);
  ++lent_;
  if (free_.empty()) return static_cast<char*>(::operator new(block_size));
  char* block = free_.back();
  free_.pop_back();
  return block;
}

void locked_buffer_pool::release(char* block) noexcept {
  std::lock_guard lock(mutex_);
  --lent_;
  if (free_.size() < keep_) {
    free_.push_back(block);  // within the capacity reserved at construction
  } else {
    ::operator delete(block);
  }
}

std::size_t locked_buffer_pool::lent() const {
  std::lock_guard lock(mutex_);
  return lent_;
}

void format_date(std::int64_t unix_seconds, char* into) {
  static constexpr char days[] = "ThuFriSatSunMonTueWed";
  static constexpr char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  std::int64_t day = unix_seconds / 86400;
  auto second = static_cast<unsigned>(unix_seconds % 86400);
  // Civil date from days since 1970, by eras of 400 years starting in March.
  std::int64_t z = day + 719468;
  std::int64_t era = z / 146097;
  auto doe = static_cast<unsigned>(z - era * 146097);
  unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  unsigned mp = (5 * doy + 2) / 153;
  unsigned mday = doy - (153 * mp + 2) / 5 + 1;
  unsigned month = mp < 10 ? mp + 2 : mp - 10;
  auto year = static_cast<unsigned>(yoe + era * 400 + (month <= 1 ? 1 : 0));

  auto two = [](char* p, unsigned v) {
    p[0] = static_cast<char>('0' + v / 10 % 10);
    p[1] = static_cast<char>('0' + v % 10);
  };
  std::memcpy(into, "Xxx, 00 Xxx 0000 00:00:00 GMT", date_length);
  std::memcpy(into, days + day % 7 * 3, 3);
  two(into + 5, mday);
  std::memcpy(into + 8, months + month * 3, 3);
  two(into + 12, year / 100);
  two(into + 14, year % 100);
  two(into + 17, second / 3600);
  two(into + 20, second / 60 % 60);
  two(into + 23, second % 60);
}

void system_http_clock::write_date(char* into) const {
  timespec ts;
  ::clock_gettime(CLOCK_REALTIME_COARSE, &ts);
  const std::int64_t now = ts.tv_sec;
  char text[32] = {};
  std::uint32_t before = sequence_.load(std::memory_order_acquire);  // [ord http.date]
  if (before % 2 == 0 && second_.load(std::memory_order_relaxed) == now) {
    std::uint64_t words[4];
    for (int i = 0; i < 4; ++i) words[i] = words_[i].load(std::memory_order_acquire);
    // [ord http.date] the acquire loads above keep this one last; unchanged = a consistent copy
    if (sequence_.load(std::memory_order_relaxed) == before) {
      std::memcpy(text, words, sizeof text);
      std::memcpy(into, text, date_length);
      return;
    }
  }
  format_date(now, text);
  std::memcpy(into, text, date_length);
  if (before % 2 != 0 ||
      !sequence_.compare_exchange_strong(before, before + 1, std::memory_order_acq_rel)) {
    return;  // somebody else is publishing; our own copy is good
  }
  std::uint64_t words[4];
  std::memcpy(words, text, sizeof words);
  // [ord http.date] release: whoever sees a new word also sees the odd sequence before it
  second_.store(now, std::memory_order_release);
  for (int i = 0; i < 4; ++i) words_[i].store(words[i], std::memory_order_release);
  sequence_.store(before + 2, std::memory_order_release);  // [ord http.date] even: words_ complete
}

}  // namespace detail
}  // namespace weft::http
