#pragma once
// Waiting for a file descriptor that something else owns: a database client's socket, a pipe, an
// eventfd.
//
//   while (PQisBusy(c)) { weft::net::wait(PQsocket(c), weft::net::events::in); PQconsumeInput(c); }
#include <weft/result.h>

#include <chrono>
#include <cstdint>

namespace weft {
class context;
}

namespace weft::net {

// Bits as poll(2) has them.
enum class events : std::uint32_t { none = 0, in = 1, out = 4, error = 8, hang_up = 16 };
constexpr events operator|(events a, events b) noexcept {
  return static_cast<events>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}
constexpr events operator&(events a, events b) noexcept {
  return static_cast<events>(static_cast<std::uint32_t>(a) & static_cast<std::uint32_t>(b));
}

// Waits until one of `wanted` (in, out or both) holds, or an error or hang-up, which are always
// reported. Returns what holds now, as poll(2) would. errc::deadline_exceeded after `deadline`
// (epoch or max(): none); EBADF and EPERM as the system reports them, but a regular file is simply
// ready. Any number of tasks may wait for one fd. If it is closed meanwhile, only the deadline ends
// the wait: close it afterwards. Costs about 3 µs when it has to wait. try_wait returns the error
// instead of throwing weft::system_error.
events wait(int fd, events wanted, std::chrono::steady_clock::time_point deadline = {});
result<events> try_wait(int fd, events wanted, std::chrono::steady_clock::time_point deadline = {});
// The same until the context is cancelled; the error is ctx.err().
events wait(const context& ctx, int fd, events wanted);
result<events> try_wait(const context& ctx, int fd, events wanted);

}  // namespace weft::net
