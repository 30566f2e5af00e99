#pragma once
// System calls that return -errno. errno's address is a thread-local which compilers read once per
// function, and a task may continue on another thread after any wait: so no function that waits
// looks at errno itself.
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <weft/detail/config.h>
#include <weft/result.h>

#include <cerrno>
#include <cstddef>

namespace weft::net::sys {

WEFT_OPAQUE ssize_t recv(int fd, void* into, std::size_t size, int flags) noexcept;
WEFT_OPAQUE ssize_t send(int fd, const iovec* parts, std::size_t count, int flags) noexcept;
WEFT_OPAQUE int accept(int fd, sockaddr_storage* peer, socklen_t* size) noexcept;
WEFT_OPAQUE int connect(int fd, const sockaddr* to, socklen_t size) noexcept;
WEFT_OPAQUE int socket(int family, int type, int protocol) noexcept;
WEFT_OPAQUE int dup(int fd) noexcept;  // close-on-exec

// The pending error of a socket (SO_ERROR) as errno value, 0 if none.
WEFT_OPAQUE int pending_error(int fd) noexcept;

inline error_code error(ssize_t negative_errno) noexcept {
  return {static_cast<int>(-negative_errno), boost::system::system_category()};
}
inline bool would_block(ssize_t r) noexcept { return r == -EAGAIN || r == -EWOULDBLOCK; }

}  // namespace weft::net::sys
