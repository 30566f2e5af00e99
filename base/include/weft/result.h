#pragma once
// result<T>: the value of an operation or the error that prevented it.
//
//   weft::result<size_t> n = conn.try_read(buffer);
//   if (!n) return log(n.error().message());
//   use(*n);
//
// It is boost::system::result over boost::system::error_code, which converts to and from
// std::error_code. `.value()` throws std::system_error-compatible boost::system::system_error.
#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>
#include <boost/system/system_error.hpp>
#include <cerrno>

namespace weft {

template <class T>
using result = boost::system::result<T>;
using error_code = boost::system::error_code;
using system_error = boost::system::system_error;

// Outcomes that no errno value names. Texts are the ones Go users know.
enum class errc {
  eof = 1,                    // the peer ended the stream
  closed,                     // use of closed network connection
  deadline_exceeded,          // i/o timeout
  canceled,                   // context canceled
  no_such_host,               // the name does not resolve
  line_too_long,              // a protocol element is over its limit
  context_deadline_exceeded,  // context deadline exceeded
  timed_out,                  // a wait reached its time limit
  channel_closed,             // nothing more to receive, or sending is over
};

const boost::system::error_category& weft_category() noexcept;

inline error_code make_error_code(errc e) noexcept {
  return {static_cast<int>(e), weft_category()};
}

// The error of the system call that just failed.
inline error_code last_system_error() noexcept { return {errno, boost::system::system_category()}; }

// True for the errors that compare equal to std::errc::timed_out: the three of errc that a deadline
// causes, and the system's ETIMEDOUT. errc::canceled compares equal to
// std::errc::operation_canceled.
bool is_timeout(const error_code& e) noexcept;

}  // namespace weft

template <>
struct boost::system::is_error_code_enum<weft::errc> : std::true_type {};
